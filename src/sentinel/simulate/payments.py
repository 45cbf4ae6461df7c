"""Simulated card payments: a bank in Europe, its customers' habits and journeys, and seven kinds of fraud.

All payments here are legitimate; `fraud_patterns` adds the frauds, and `happenings` what goes on beside the payments.
Legitimate payments look suspicious too: people travel, leave a second card at home with the family, buy or borrow a
phone, buy several things within minutes, spend ten times as much as usual now and then, pay subscriptions, collect
small sums from many friends through one device, share a computer with an office, and hide their location behind a
proxy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from sentinel.errors import InvalidDefinition
from sentinel.events.times import EARLIEST_US, LATEST_US
from sentinel.simulate.fraud_patterns import (
    ATM,
    CASH,
    CATEGORIES,
    CHANNELS,
    CHIP,
    CONTACTLESS,
    DAY_US,
    DIGITAL,
    HOUR_US,
    LEGITIMATE,
    MINUTE_US,
    NO_DEVICE,
    ONLINE,
    PATTERNS,
    WALLET,
    Bools,
    Floats,
    Groups,
    Ints,
    Purchases,
    World,
    distance_km,
    far_apart,
    frauds,
    join,
)
from sentinel.simulate.happenings import KINDS, LOGIN, Happenings, happenings
from sentinel.simulate.towns import TOWNS

__all__ = ["PATTERNS", "simulate", "simulate_all"]

_COUNTRIES = tuple(sorted({town.country for town in TOWNS}))
_TOWN_COUNTRY = np.array([_COUNTRIES.index(town.country) for town in TOWNS])
_LATITUDE, _LONGITUDE, _CUSTOMERS, _VISITS = (np.array([town[i] for town in TOWNS], np.float64) for i in range(2, 6))

# median amount in euros, its spread (log), share of shops, share of web shops; in the order of CATEGORIES
_TRADES = np.array([
    (32, 0.60, 0.26, 0.04), (24, 0.50, 0.17, 0.08), (48, 0.35, 0.08, 0.00), (4, 0.60, 0.09, 0.05),
    (16, 0.60, 0.07, 0.03), (48, 0.60, 0.08, 0.18), (120, 0.85, 0.03, 0.12), (55, 0.75, 0.05, 0.08),
    (22, 0.60, 0.06, 0.09), (45, 0.70, 0.03, 0.00), (160, 0.80, 0.02, 0.07), (8, 0.70, 0.00, 0.22),
    (40, 0.60, 0.01, 0.04), (90, 0.50, 0.05, 0.00),
])  # fmt: skip
_EUROS, _SPREAD, _TILL_SHARE, _WEB_SHARE = _TRADES.T

_TILL_HOURS = (1, 1, 1, 1, 1, 2, 8, 20, 32, 38, 42, 52, 64, 56, 48, 48, 56, 68, 70, 56, 40, 24, 12, 4)
_WEB_HOURS = (14, 8, 5, 3, 3, 4, 8, 16, 26, 34, 38, 40, 44, 42, 40, 40, 42, 44, 50, 60, 68, 66, 50, 28)
_WEEKDAYS = (0.92, 0.94, 0.97, 1.02, 1.18, 1.16, 0.81)  # from Monday

_PAYMENTS_PER_CARD = 50  # in the whole period, on average
_FAVOURITES = 6  # tills a card goes back to, and as many shops on the web
_SHORTEST_TRIP_DAYS, _LONGEST_TRIP_DAYS = 4, 14
_CONFIRMED_AFTER_US = 10 * DAY_US
_LONGEST_COMPLAINT_US = 60 * DAY_US
_LARGEST_AMOUNT = 25_000.0


class Simulated(NamedTuple):
    """Payments, and the events beside them: `event`, `event_id`, `event_time`, `card_id`, `device_id` of a login."""

    payments: pl.DataFrame
    events: pl.DataFrame


def simulate(
    transactions: int,
    seed: int,
    *,
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC),
    days: int = 120,
    fraud_share: float = 0.007,
) -> pl.DataFrame:
    """The payments of `simulate_all`.

    >>> simulate(1000, seed=7)["is_fraud"].sum()
    7
    """
    return simulate_all(transactions, seed, start=start, days=days, fraud_share=fraud_share).payments


def simulate_all(
    transactions: int,
    seed: int,
    *,
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC),
    days: int = 120,
    fraud_share: float = 0.007,
) -> Simulated:
    """Exactly `transactions` card payments in order of time; the same arguments give the same bytes.

    Times are UTC, from `start` until `days` days later; amounts are euros with two decimals. `latitude` and
    `longitude` (degrees, six decimals) and `country` (ISO 3166) are those of the merchant's till, and for a
    payment online of the payer's device. `device_id` is null where the card itself was read. `fraud_share` of
    the payments, rounded, are frauds of the kinds in PATTERNS. `outcome_time` is when the truth is known: the
    complaint comes after 4 days (median) and 60 at most; a legitimate payment is confirmed after 10.

    The events are logins and changes of passwords of the same period, in order of time.

    Raises InvalidDefinition for arguments that make no sense.
    """
    start_us = _checked_start_us(transactions, seed, start, days, fraud_share)
    rng = np.random.Generator(np.random.PCG64(seed))
    n_frauds = int(transactions * fraud_share + 0.5)
    world = _world(transactions, days * DAY_US, rng)
    habits = _habits(world, transactions, start.astimezone(UTC).weekday(), days, rng)
    legitimate = _legitimate(world, habits, transactions - n_frauds, rng)
    fraudulent, intrusions = frauds(world, legitimate, habits.devices, n_frauds, rng)
    payments = _in_order(join([legitimate, *fraudulent]))
    beside = happenings(payments, intrusions, world.duration_us, rng)
    names = _Names.of(payments, beside, rng)
    return Simulated(_table(world, payments, names, start_us, rng), _events(beside, names, start_us))


def _checked_start_us(transactions: int, seed: int, start: datetime, days: int, fraud_share: float) -> int:
    if transactions < 1:
        raise InvalidDefinition(f"cannot simulate {transactions} transactions; ask for 1 or more")
    if seed < 0:
        raise InvalidDefinition(f"the seed is {seed}; use 0 or above")
    if days < 1:
        raise InvalidDefinition(f"cannot simulate {days} days; ask for 1 or more")
    if not 0 <= fraud_share < 0.5:
        raise InvalidDefinition(f"fraud_share is {fraud_share}; give a share from 0 up to, not including, 0.5")
    if start.tzinfo is None:
        raise InvalidDefinition(f"start {start.isoformat()} has no time zone; add one, such as tzinfo=UTC")
    start_us = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    last_us = start_us + days * DAY_US + _LONGEST_COMPLAINT_US
    if start_us < EARLIEST_US or last_us >= LATEST_US:
        raise InvalidDefinition(
            "the period and the 60 days after it leave 1970 to 2100; move `start` or take fewer `days`"
        )
    return start_us


def _in_order(purchases: Purchases) -> Purchases:
    return purchases.take(np.argsort(purchases.time_us, kind="stable"))


def _world(transactions: int, duration_us: int, rng: np.random.Generator) -> World:
    """Towns, cards and merchants, as many of them as the number of payments needs."""
    towns, cards = len(TOWNS), max(1, transactions // _PAYMENTS_PER_CARD)
    card_town = rng.choice(towns, cards, p=_CUSTOMERS / _CUSTOMERS.sum())
    # most cards are used rarely, some many times a day
    activity = rng.gamma(1.6, 1.0, cards) + 0.05
    online, merchant_town, category = _merchants(transactions, rng)
    merchants = len(category)
    # like Zipf's law within every town and every trade
    popularity = (1 - rng.random(merchants)) ** -0.8
    far = np.nonzero(far_apart(_LATITUDE, _LONGITUDE, _TOWN_COUNTRY))
    return World(
        town_latitude=_LATITUDE,
        town_longitude=_LONGITUDE,
        far_towns=Groups(far[0], _VISITS[far[1]], towns, members=far[1]),
        visits=_VISITS / _VISITS.sum(),
        card_town=card_town,
        card_latitude=_LATITUDE[card_town] + rng.normal(0, 0.08, cards),
        card_longitude=_LONGITUDE[card_town] + rng.normal(0, 0.08, cards),
        card_income=rng.lognormal(0, 0.45, cards),
        card_activity=activity / activity.sum(),
        merchant_town=merchant_town,
        merchant_latitude=_LATITUDE[merchant_town] + rng.normal(0, 0.05, merchants),
        merchant_longitude=_LONGITUDE[merchant_town] + rng.normal(0, 0.05, merchants),
        merchant_category=category,
        merchant_amount=_EUROS[category] * rng.lognormal(0, 0.3, merchants),
        residents=Groups(card_town, activity, towns),
        # merchants of the other kind form one more group, which nobody asks for
        shops=Groups(np.where(online, towns, merchant_town), popularity, towns + 1),
        web_shops=Groups(np.where(online, category, len(CATEGORIES)), popularity, len(CATEGORIES) + 1),
        duration_us=duration_us,
    )


def _merchants(transactions: int, rng: np.random.Generator) -> tuple[Bools, Ints, Ints]:
    """Whether on the web, town and category of every merchant; no town and no trade is left without."""
    towns, size = len(TOWNS), (_CUSTOMERS + _VISITS) / (_CUSTOMERS + _VISITS).sum()
    tills = np.concatenate((np.tile(np.arange(towns), 4), rng.choice(towns, transactions // 250, p=size)))
    till_trades = rng.choice(len(CATEGORIES), len(tills), p=_TILL_SHARE / _TILL_SHARE.sum())
    till_trades[:towns] = 0  # wherever one goes, there is food to buy
    few = np.tile(np.flatnonzero(_WEB_SHARE), 3)
    more = rng.choice(len(CATEGORIES), transactions // 800, p=_WEB_SHARE / _WEB_SHARE.sum())
    trades = np.concatenate((till_trades, few, more))
    online = np.arange(len(trades)) >= len(tills)
    return online, np.concatenate((tills, rng.choice(towns, len(few) + len(more), p=size))), trades


@dataclass(frozen=True, slots=True)
class _Habits:
    """What the holders of the cards do, an entry for each; times in microseconds since the period began."""

    online_share: Floats
    pays_by_phone: Bools
    tills: Ints  # (cards, favourites): merchants, the most visited first
    web_shops: Ints
    trip_to: Ints
    trip_leaves_us: Ints  # beyond the period for those who stay at home
    trip_returns_us: Ints
    trip_travel_us: Ints  # on the road for this long, there and back
    device: Ints
    second_device: Ints
    new_device: Ints
    new_device_us: Ints
    stays_home: Floats  # share of the payments made at home by the family during a trip
    first_shared_device: int  # of an office or a library; one in every town
    borrowed_devices: int  # used once or twice
    collections: int  # of small sums, each through a device of its own
    day_chance: Floats  # an entry per day

    @property
    def first_borrowed_device(self) -> int:
        """They follow those that are shared."""
        return self.first_shared_device + len(TOWNS)

    @property
    def first_collection_device(self) -> int:
        """They follow those that are borrowed."""
        return self.first_borrowed_device + self.borrowed_devices

    @property
    def devices(self) -> int:
        """Number of devices with legitimate payments."""
        return self.first_collection_device + self.collections


def _habits(world: World, payments: int, weekday: int, days: int, rng: np.random.Generator) -> _Habits:
    cards = len(world.card_town)
    own = np.arange(cards)
    leaves, returns, trip_to, travel = _trips(world, days, rng)
    # some families share one phone or computer
    device = np.where(rng.random(cards) < 0.06, rng.integers(0, cards, cards), own)
    weights = np.array([_WEEKDAYS[(weekday + day) % 7] for day in range(days)])
    return _Habits(
        online_share=rng.beta(2.0, 4.5, cards),
        pays_by_phone=rng.random(cards) < 0.3,
        tills=world.shops.draw(rng, np.repeat(world.card_town, _FAVOURITES)).reshape(cards, -1),
        web_shops=_any_web_shop(world, cards * _FAVOURITES, rng).reshape(cards, -1),
        trip_to=trip_to,
        trip_leaves_us=leaves,
        trip_returns_us=returns,
        trip_travel_us=travel,
        device=device,
        second_device=np.where(rng.random(cards) < 0.35, cards + own, device),
        new_device=2 * cards + own,
        new_device_us=(rng.random(cards) * 600 * DAY_US).astype(np.int64),  # every 600 days or so
        stays_home=np.where(rng.random(cards) < 0.08, 0.4, 0.0),
        first_shared_device=3 * cards,
        borrowed_devices=payments // 100 + 1,
        collections=payments // 4_000,
        day_chance=weights / weights.sum(),
    )


def _trips(world: World, days: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints, Ints]:
    """When everyone leaves and returns, where to, and how long the way takes; at most one trip each."""
    cards = len(world.card_town)
    to = world.strange_towns(rng, cards)
    # from the third day on: nobody is under way when the period begins
    leaves = (2 * DAY_US + rng.random(cards) * max(days - 2, 0) * DAY_US).astype(np.int64)
    stays = (rng.random(cards) > 0.003 * days) | (days < _LONGEST_TRIP_DAYS) | (to == world.card_town)
    leaves[stays] = 2 * world.duration_us
    returns = leaves + rng.integers(_SHORTEST_TRIP_DAYS, _LONGEST_TRIP_DAYS + 1, cards) * DAY_US
    km = distance_km(world.card_latitude, world.card_longitude, _LATITUDE[to], _LONGITUDE[to])
    return leaves, returns, to, ((3 + km / 600) * HOUR_US).astype(np.int64)


def _any_web_shop(world: World, n: int, rng: np.random.Generator) -> Ints:
    return world.web_shops.draw(rng, rng.choice(len(CATEGORIES), n, p=_WEB_SHARE / _WEB_SHARE.sum()))


def _legitimate(world: World, habits: _Habits, n: int, rng: np.random.Generator) -> Purchases:
    """Legitimate payments, n of them, in order of time."""
    fixed_card, fixed_shop, fixed_us, price = _subscriptions(world, n // 10, rng)
    free = n - len(fixed_card)
    free_card = np.repeat(np.arange(len(world.card_town)), rng.multinomial(free, world.card_activity))
    card = np.concatenate((free_card, fixed_card))
    online = rng.random(n) < habits.online_share[card]
    online[free:] = True
    free_us = _in_sessions(world, free_card, _rhythm(world, habits, free_card, online[:free], rng), rng)
    time_us, town = _on_the_road(world, habits, card, np.concatenate((free_us, fixed_us)), rng)
    merchant = np.where(online, _web_shops(world, habits, card, rng), _tills(world, habits, card, town, rng))
    merchant[free:] = fixed_shop
    amount = _amounts(world, card, merchant, rng)
    amount[free:] = price
    channel = _channels(world, habits, card, merchant, online, amount, rng)
    device = _devices(habits, card, channel, town, time_us, rng)
    place = _places(world, card, merchant, online, town, rng)
    nothing = np.full(n, LEGITIMATE)
    purchases = Purchases(card, merchant, device, channel, time_us, amount, *place, nothing)
    _collect(world, habits, purchases, rng)
    return _in_order(purchases)


def _collect(world: World, habits: _Habits, purchases: Purchases, rng: np.random.Generator) -> None:
    """Turn some payments online into collections: 4 to 12 people pay a little, through one device."""
    home = world.card_town[purchases.card]
    rows = np.flatnonzero((purchases.channel == ONLINE) & (purchases.town == home))
    if habits.collections == 0 or len(rows) == 0:
        return
    rows = rows[np.argsort(home[rows], kind="stable")]
    sizes = rng.integers(4, 13, habits.collections)
    of = np.repeat(np.arange(habits.collections), sizes)
    nth = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # rows are by town and card: some steps further is another person nearby
    at = rows[(rng.integers(0, len(rows), habits.collections)[of] + 40 * nth) % len(rows)]
    begin = rng.random(habits.collections) * (world.duration_us - 12 * MINUTE_US)
    purchases.time_us[at] = (begin[of] + rng.random(len(at)) * 12 * MINUTE_US).astype(np.int64)
    purchases.merchant[at] = _any_web_shop(world, habits.collections, rng)[of]
    purchases.amount[at] = np.rint(1 + 8 * rng.random(habits.collections) ** 2)[of]
    purchases.device[at] = habits.first_collection_device + of


def _subscriptions(world: World, most: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints, Floats]:
    """Card, merchant, time and price of weekly and monthly charges, `most` of them at most."""
    n = len(world.card_town) * 6 // 10
    card = rng.integers(0, len(world.card_town), n)
    shop = world.web_shops.draw(rng, np.full(n, DIGITAL))
    every_us = np.where(rng.random(n) < 0.3, 7, 30) * DAY_US
    first_us = (rng.random(n) * every_us).astype(np.int64)
    charges = np.maximum(-((first_us - world.duration_us) // every_us), 0)
    of = np.repeat(np.arange(n), charges)[:most]
    nth = np.arange(len(of)) - np.repeat(np.cumsum(charges) - charges, charges)[:most]
    late_us = (rng.random(len(of)) * 6 * HOUR_US).astype(np.int64)
    time_us = np.minimum(first_us[of] + nth * every_us[of] + late_us, world.duration_us - 1)
    price = np.rint(4 + rng.exponential(9, n)) - 0.01
    return card[of], shop[of], time_us, price[of]


def _rhythm(world: World, habits: _Habits, card: Ints, online: Bools, rng: np.random.Generator) -> Ints:
    """Times by the days of the week and the hours of the day at home."""
    n = len(card)
    day = rng.choice(len(habits.day_chance), n, p=habits.day_chance)
    till, web = (np.array(hours) / sum(hours) for hours in (_TILL_HOURS, _WEB_HOURS))
    hour = np.where(online, rng.choice(24, n, p=web), rng.choice(24, n, p=till))
    hour -= np.rint(_LONGITUDE / 15).astype(np.int64)[world.card_town[card]]
    time_us = day * DAY_US + hour * HOUR_US + rng.integers(0, HOUR_US, n)
    return np.asarray(np.mod(time_us, world.duration_us))


def _in_sessions(world: World, card: Ints, time_us: Ints, rng: np.random.Generator) -> Ints:
    """Let one payment in eight follow minutes after another of the card: a stroll through the shops."""
    follows = (rng.random(len(card)) < 0.125) & (card == np.roll(card, 1))
    after = np.roll(time_us, 1) + (rng.exponential(12, len(card)) * MINUTE_US).astype(np.int64)
    return np.where(follows, np.mod(after, world.duration_us), time_us)


def _on_the_road(
    world: World, habits: _Habits, card: Ints, time_us: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Time and town of every payment, given the journeys; hours on the way have none."""
    travel = habits.trip_travel_us[card]
    leaves, returns = habits.trip_leaves_us[card], habits.trip_returns_us[card]
    for departs in (leaves, returns):
        under_way = (time_us >= departs) & (time_us < departs + travel)
        time_us = np.where(under_way, time_us - travel, time_us)
    abroad = (time_us >= leaves) & (time_us < returns) & (rng.random(len(card)) >= habits.stays_home[card])
    return time_us, np.where(abroad, habits.trip_to[card], world.card_town[card])


def _favourites(habit: Ints, card: Ints, rng: np.random.Generator) -> Ints:
    """One of the merchants that the card goes back to, the first ones most often."""
    chosen: Ints = habit[card, (_FAVOURITES * rng.random(len(card)) ** 2).astype(np.int64)]
    return chosen


def _web_shops(world: World, habits: _Habits, card: Ints, rng: np.random.Generator) -> Ints:
    known = rng.random(len(card)) < 0.6
    return np.where(known, _favourites(habits.web_shops, card, rng), _any_web_shop(world, len(card), rng))


def _tills(world: World, habits: _Habits, card: Ints, town: Ints, rng: np.random.Generator) -> Ints:
    known = (rng.random(len(card)) < 0.7) & (town == world.card_town[card])
    return np.where(known, _favourites(habits.tills, card, rng), world.shops.draw(rng, town))


def _amounts(world: World, card: Ints, merchant: Ints, rng: np.random.Generator) -> Floats:
    """Euros: the usual amount with noise; one in 150 is much larger."""
    category = world.merchant_category[merchant]
    amount = world.usual_amount(card, merchant) * np.exp(_SPREAD[category] * rng.standard_normal(len(card)))
    large = rng.random(len(card)) < 1 / 150
    amount[large] *= 3 + 9 * rng.random(int(large.sum()))
    tens = np.maximum(np.rint(amount / 10), 1) * 10
    return np.asarray(np.where(category == CASH, tens, amount))


def _channels(
    world: World,
    habits: _Habits,
    card: Ints,
    merchant: Ints,
    online: Bools,
    amount: Floats,
    rng: np.random.Generator,
) -> Ints:
    by_phone = habits.pays_by_phone[card] & (rng.random(len(card)) < 0.6)
    touched = rng.random(len(card)) < np.where(amount < 50, 0.8, 0.25)
    at_till = np.where(by_phone, WALLET, np.where(touched, CONTACTLESS, CHIP))
    at_till = np.where(world.merchant_category[merchant] == CASH, ATM, at_till)
    return np.where(online, ONLINE, at_till)


def _devices(habits: _Habits, card: Ints, channel: Ints, town: Ints, time_us: Ints, rng: np.random.Generator) -> Ints:
    """The phone, replaced at some time; online also the second device, a borrowed or a shared one."""
    phone = np.where(time_us >= habits.new_device_us[card], habits.new_device[card], habits.device[card])
    chance = rng.random(len(card))
    borrowed = habits.first_borrowed_device + rng.integers(0, habits.borrowed_devices, len(card))
    other = np.where(chance < 0.02, habits.first_shared_device + town, habits.second_device[card])
    other = np.where((chance >= 0.02) & (chance < 0.035), borrowed, other)
    used = np.where((channel == ONLINE) & (chance < 0.25), other, phone)
    return np.where((channel == ONLINE) | (channel == WALLET), used, NO_DEVICE)


def _places(
    world: World, card: Ints, merchant: Ints, online: Bools, town: Ints, rng: np.random.Generator
) -> tuple[Ints, Floats, Floats]:
    """Town, latitude and longitude: of the till, or of the device by its network address."""
    behind_proxy = rng.random(len(card)) < 0.02
    seen = np.where(behind_proxy, world.strange_towns(rng, len(card)), town)
    at_home = seen == world.card_town[card]
    latitude = np.where(at_home, world.card_latitude[card], _LATITUDE[seen])
    longitude = np.where(at_home, world.card_longitude[card], _LONGITUDE[seen])
    return (
        np.where(online, seen, world.merchant_town[merchant]),
        np.where(online, latitude, world.merchant_latitude[merchant]),
        np.where(online, longitude, world.merchant_longitude[merchant]),
    )


class _Names(NamedTuple):
    """The names of all cards, merchants and devices by their numbers; dealt out, so that a high one tells nothing."""

    cards: list[str]
    merchants: list[str]
    devices: list[str]

    @classmethod
    def of(cls, payments: Purchases, beside: Happenings, rng: np.random.Generator) -> "_Names":
        """For everyone who has a part in these."""
        devices = np.concatenate((payments.device, beside.device))
        return cls(*(_dealt(*one, rng) for one in (("c", payments.card), ("m", payments.merchant), ("d", devices))))


def _dealt(letter: str, number: Ints, rng: np.random.Generator) -> list[str]:
    return [f"{letter}{name:07d}" for name in rng.permutation(int(number.max(initial=0)) + 1).tolist()]


def _events(beside: Happenings, names: _Names, start_us: int) -> pl.DataFrame:
    """The events as the user sees them."""
    device = np.where(beside.kind == LOGIN, beside.device, NO_DEVICE)
    return pl.DataFrame(
        {
            "event": _words(KINDS, beside.kind),
            "event_id": _numbered("e", len(beside.kind)),
            "event_time": _instants(start_us + beside.time_us),
            "card_id": _words(names.cards, beside.card),
            "device_id": _words(names.devices, device),
        }
    ).rechunk()


def _table(world: World, payments: Purchases, names: _Names, start_us: int, rng: np.random.Generator) -> pl.DataFrame:
    """The columns as the user sees them."""
    time_us = start_us + payments.time_us
    cents = np.clip(np.rint(payments.amount * 100), 1, _LARGEST_AMOUNT * 100)
    return pl.DataFrame(
        {
            "transaction_id": _numbered("t", len(payments)),
            "event_time": _instants(time_us),
            "amount": cents / 100,
            "card_id": _words(names.cards, payments.card),
            "merchant_id": _words(names.merchants, payments.merchant),
            "device_id": _words(names.devices, payments.device),
            "merchant_category": _words(CATEGORIES, world.merchant_category[payments.merchant]),
            "channel": _words(CHANNELS, payments.channel),
            "country": _words(_COUNTRIES, _TOWN_COUNTRY[payments.town]),
            "latitude": np.round(payments.latitude, 6),
            "longitude": np.round(payments.longitude, 6),
            "is_fraud": payments.pattern != LEGITIMATE,
            "fraud_pattern": _words(PATTERNS, payments.pattern),
            "outcome_time": _instants(time_us + _delay_us(payments.pattern != LEGITIMATE, rng)),
        }
    ).rechunk()


def _numbered(letter: str, n: int) -> pl.Series:
    """Numbered in the order of time, which tells nothing about fraud."""
    return pl.select(letter + pl.int_range(1, n + 1, eager=False).cast(pl.String).str.zfill(9)).to_series()


def _instants(time_us: Ints) -> pl.Series:
    return pl.Series(time_us).cast(pl.Datetime("us", "UTC"))


def _words(words: Sequence[str], number: Ints) -> pl.Series:
    """The word for every number, null for a negative one."""
    return pl.Series([*words, None], dtype=pl.String).gather(np.where(number < 0, len(words), number))


def _delay_us(fraud: Bools, rng: np.random.Generator) -> Ints:
    """How long after the payment its outcome is known."""
    complaint = rng.lognormal(math.log(4), 0.9, len(fraud)) * DAY_US
    complaint = np.clip(complaint, HOUR_US, _LONGEST_COMPLAINT_US).astype(np.int64)
    return np.where(fraud, complaint, _CONFIRMED_AFTER_US)
