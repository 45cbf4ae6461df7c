"""What happens beside the payments: logins and changes of passwords, by customers and by those who stole a login.

Customers log in before they buy something online, from whatever device they have at hand, and change passwords too:
because they forgot theirs on the way to a purchase, because the phone or computer is new, or out of caution.
"""

from dataclasses import dataclass

import numpy as np

from sentinel.simulate.fraud_patterns import (
    DAY_US,
    LEGITIMATE,
    MINUTE_US,
    NO_DEVICE,
    ONLINE,
    PATTERNS,
    Bools,
    Intrusions,
    Ints,
    Purchases,
)

KINDS = ("login", "password_change")
LOGIN, PASSWORD_CHANGE = range(2)

_STAYS_LOGGED_IN = 0.5
_FORGETS = 0.008  # of purchases online: about every hundred days for who buys there daily
_CAUTIOUS = 0.003
_CHANGES_ON_NEW_DEVICE = 0.15
_INTRUDER_CHANGES = 0.9
_TAKEOVER = PATTERNS.index("account_takeover")


@dataclass(frozen=True, slots=True)
class Happenings:
    """Columns of what happened, in order of time; numbers of cards and devices as in `Purchases`."""

    kind: Ints  # number in KINDS
    card: Ints
    device: Ints
    time_us: Ints  # since the start of the period


def happenings(
    purchases: Purchases, intrusions: list[Intrusions], duration_us: int, rng: np.random.Generator
) -> Happenings:
    """What happens beside these purchases (in order of time) in a period of this length."""
    web = (purchases.channel == ONLINE) & (purchases.device != NO_DEVICE)
    honest = web & (purchases.pattern == LEGITIMATE)
    buys = np.flatnonzero(honest | (web & (purchases.pattern == _TAKEOVER)))
    buys = buys[rng.random(len(buys)) >= _STAYS_LOGGED_IN]
    parts = [_before(purchases, buys, LOGIN, 0.3, 15, rng)]
    new = np.flatnonzero(honest & _is_new_device(purchases))
    forgot = np.flatnonzero(honest)
    forgot = forgot[rng.random(len(forgot)) < _FORGETS]
    for rows in (forgot, new[rng.random(len(new)) < _CHANGES_ON_NEW_DEVICE]):
        change = _before(purchases, rows, PASSWORD_CHANGE, 1, 40, rng)
        parts += [change, _earlier(change, LOGIN, 0.5, 3, rng)]
    parts += _cautious(purchases, np.flatnonzero(honest), rng)
    for one in intrusions:
        parts += _intruders(one, rng)
    return _in_order(parts, duration_us)


def _is_new_device(purchases: Purchases) -> Bools:
    """Whether it is the first payment of the card from its device."""
    pairs = purchases.card * (int(purchases.device.max(initial=0)) + 2) + purchases.device + 1
    first = np.zeros(len(purchases), np.bool_)
    first[np.unique(pairs, return_index=True)[1]] = True
    return first


def _minutes(low: float, high: float, n: int, rng: np.random.Generator) -> Ints:
    return ((low + (high - low) * rng.random(n)) * MINUTE_US).astype(np.int64)


def _before(
    purchases: Purchases, rows: Ints, kind: int, low: float, high: float, rng: np.random.Generator
) -> Happenings:
    """Something minutes before each of these purchases, from their devices."""
    when = purchases.time_us[rows] - _minutes(low, high, len(rows), rng)
    return Happenings(np.full(len(rows), kind), purchases.card[rows], purchases.device[rows], when)


def _earlier(after: Happenings, kind: int, low: float, high: float, rng: np.random.Generator) -> Happenings:
    when = after.time_us - _minutes(low, high, len(after.card), rng)
    return Happenings(np.full(len(after.card), kind), after.card, after.device, when)


def _cautious(purchases: Purchases, among: Ints, rng: np.random.Generator) -> list[Happenings]:
    """Changes days away from any purchase in particular."""
    rows = among[rng.random(len(among)) < _CAUTIOUS]
    when = purchases.time_us[rows] + ((rng.random(len(rows)) - 0.5) * 6 * DAY_US).astype(np.int64)
    change = Happenings(np.full(len(rows), PASSWORD_CHANGE), purchases.card[rows], purchases.device[rows], when)
    return [change, _earlier(change, LOGIN, 0.5, 3, rng)]


def _intruders(intrusions: Intrusions, rng: np.random.Generator) -> list[Happenings]:
    n = len(intrusions.card)
    some = np.flatnonzero(rng.random(n) < _INTRUDER_CHANGES)
    change_us = intrusions.time_us[some] + _minutes(1, 6, len(some), rng)
    return [
        Happenings(np.full(n, LOGIN), intrusions.card, intrusions.device, intrusions.time_us),
        Happenings(np.full(len(some), PASSWORD_CHANGE), intrusions.card[some], intrusions.device[some], change_us),
    ]


def _in_order(parts: list[Happenings], duration_us: int) -> Happenings:
    kind, card, device, time_us = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("kind", "card", "device", "time_us")
    )
    order = np.argsort(time_us, kind="stable")
    order = order[(time_us[order] >= 0) & (time_us[order] < duration_us)]
    return Happenings(kind[order], card[order], device[order], time_us[order])
