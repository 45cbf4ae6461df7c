"""Seven kinds of card fraud, overlaid on legitimate purchases, and the world in which both happen.

A fraud comes in episodes, each with an onset and a duration. No single field gives one away: amounts, places
and devices all occur in legitimate traffic too. The history of the card, the merchant or the device tells.

- `card_testing`: a stolen list is tried out. Within 9 minutes, 6 to 25 tiny online payments from one new
  device at one merchant, over many cards (two episodes in three) or on a single one.
- `account_takeover`: within hours, 3 to 8 online purchases from a device the card never used, at merchants
  outside its habits and above its usual amounts.
- `compromised_merchant`: the terminal of one shop is tampered with. For 2 to 4 weeks part of the shop's
  payments are made with copied cards of people who live nearby, at ordinary amounts; only the shop's record
  of frauds tells.
- `impossible_travel`: minutes after a purchase at home, the card is present more than 1,500 km away, 1 to 3
  times.
- `large_amount`: one purchase far above what the card usually spends.
- `slow_drip`: the same small charge every few days, 6 to 12 times, by one merchant from one device that the
  card never used before.
- `stolen_login`: someone logs in to the card's account from a device it never used, changes the password, and spends
  for a day as the holder does: 2 to 5 online purchases like those the holder made, mostly from what passes for the
  holder's own device. Payments do not give it away; the events before them do (`happenings`).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PATTERNS: tuple[str, ...] = (
    "card_testing",
    "account_takeover",
    "compromised_merchant",
    "impossible_travel",
    "large_amount",
    "slow_drip",
    "stolen_login",
)
"""The names of the fraud patterns, as they stand in the column `fraud_pattern`."""

CHANNELS = ("chip", "contactless", "wallet", "online", "atm")
"""How a payment was made; `wallet` is a phone at the till, so it has a device and a place."""
CHIP, CONTACTLESS, WALLET, ONLINE, ATM = range(5)

CATEGORIES = (
    "grocery", "restaurant", "fuel", "transport", "pharmacy", "clothing", "electronics",
    "home", "entertainment", "health", "travel", "digital", "gift_cards", "cash",
)  # fmt: skip
"""What a merchant sells; `cash` is a cash machine."""
CLOTHING, ELECTRONICS, HOME, TRAVEL, DIGITAL, GIFT_CARDS, CASH = map(
    CATEGORIES.index, ("clothing", "electronics", "home", "travel", "digital", "gift_cards", "cash")
)

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
NO_DEVICE = -1
LEGITIMATE = -1

_SHARES = (0.20, 0.19, 0.19, 0.09, 0.07, 0.12, 0.14)  # of all frauds, in the order of PATTERNS
_FAR_KM = 1_500.0


class Groups:
    """Members of numbered groups, to be drawn at random in proportion to a weight.

    `group` and `weight` have an entry per member; `members` gives their numbers, 0, 1, ... if left out.

    Where a group is empty, the draw gives a member of the next: tiny worlds have towns without cards.
    """

    def __init__(self, group: Ints, weight: Floats, groups: int, members: Ints | None = None) -> None:
        order = np.argsort(group, kind="stable")
        self.members = order if members is None else members[order]
        self.cumulative = np.concatenate(([0.0], np.cumsum(weight[order])))
        self.bounds = np.searchsorted(group[order], np.arange(groups + 1))

    def draw(self, rng: np.random.Generator, groups: Ints) -> Ints:
        """One member for every entry of `groups`."""
        first, end = self.bounds[groups], self.bounds[groups + 1]
        low, high = self.cumulative[first], self.cumulative[end]
        at = np.searchsorted(self.cumulative, low + rng.random(len(groups)) * (high - low), side="right") - 1
        drawn: Ints = self.members[np.minimum(np.maximum(at, first), np.maximum(end - 1, 0))]
        return drawn


@dataclass(frozen=True, slots=True)
class World:
    """Towns, cards and merchants, an entry for each; places in degrees, amounts in euros."""

    town_latitude: Floats
    town_longitude: Floats
    far_towns: Groups  # town -> towns in another country, more than 1,500 km away
    visits: Floats  # probability of each town for a stranger or a traveller
    card_town: Ints
    card_latitude: Floats
    card_longitude: Floats
    card_income: Floats  # factor on every amount
    card_activity: Floats  # share of all legitimate payments
    merchant_town: Ints
    merchant_latitude: Floats
    merchant_longitude: Floats
    merchant_category: Ints
    merchant_amount: Floats  # median amount of a card of median income
    residents: Groups  # town -> cards
    shops: Groups  # town -> merchants with a till
    web_shops: Groups  # category -> merchants on the web
    duration_us: int

    def usual_amount(self, card: Ints, merchant: Ints) -> Floats:
        """The usual amount of these cards at these merchants."""
        return self.card_income[card] * self.merchant_amount[merchant]

    def strange_towns(self, rng: np.random.Generator, n: int) -> Ints:
        """Draw n towns in proportion to their visits."""
        return rng.choice(len(self.visits), n, p=self.visits)


@dataclass(frozen=True, slots=True)
class Purchases:
    """Columns of payments in any order; numbers of cards, merchants, devices and towns instead of names."""

    card: Ints
    merchant: Ints
    device: Ints  # NO_DEVICE where the card itself was read
    channel: Ints
    time_us: Ints  # since the start of the period
    amount: Floats
    town: Ints
    latitude: Floats
    longitude: Floats
    pattern: Ints  # number in PATTERNS, or LEGITIMATE

    def __len__(self) -> int:
        """Number of payments."""
        return len(self.card)

    def take(self, rows: Ints) -> "Purchases":
        """These rows, in this order."""
        return Purchases(*(getattr(self, one.name)[rows] for one in fields(self)))


def join(parts: list[Purchases]) -> Purchases:
    """All payments of all parts, one part after the other."""
    return Purchases(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Purchases)))


def distance_km(latitude: Floats, longitude: Floats, to_latitude: Floats, to_longitude: Floats) -> Floats:
    """Great-circle distance in km between places in degrees.

    >>> distance_km(*(np.array([x]) for x in (52.52, 13.405, 48.857, 2.352))).round()
    array([877.])
    """
    a, b = np.radians(latitude), np.radians(to_latitude)
    half = np.radians(to_longitude - longitude) / 2
    chord: Floats = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(half) ** 2
    return np.asarray(12_742.0 * np.arcsin(np.sqrt(chord)))


def far_apart(latitude: Floats, longitude: Floats, country: Ints) -> Bools:
    """Which town (row) is too far from which (column) for a journey of an hour, and abroad."""
    km = distance_km(latitude[:, None], longitude[:, None], latitude[None, :], longitude[None, :])
    return np.asarray((km > _FAR_KM) & (country[:, None] != country[None, :]))


@dataclass(frozen=True, slots=True)
class Intrusions:
    """Logins of strangers to accounts, an entry for each: whose card, from which device, and when."""

    card: Ints
    device: Ints
    time_us: Ints


def frauds(
    world: World, legitimate: Purchases, first_device: int, n: int, rng: np.random.Generator
) -> tuple[list[Purchases], list[Intrusions]]:
    """Draw n frauds, in episodes of every pattern, on cards and merchants of `legitimate` (in time order).

    Their devices, at most one for every fraud, are numbered from `first_device`. The intrusions are those of stolen
    logins.
    """
    exact = np.array(_SHARES) * n
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: n - int(counts.sum())]] += 1
    parts, intrusions = [], []
    for number, count in enumerate(counts.tolist()):
        low, high, overlay = _OVERLAYS[number]
        if count:
            sizes = _episode_sizes(rng, count, low, high)
            scene = _Scene(world, legitimate, rng, sizes, first_device)
            part = overlay(scene)
            part.pattern[:] = number
            np.clip(part.time_us, 0, world.duration_us - 1, out=part.time_us)
            parts.append(part)
            intrusions += scene.intrusions
            first_device += count
    return parts, intrusions


def _episode_sizes(rng: np.random.Generator, total: int, low: int, high: int) -> Ints:
    """Sizes from `low` to `high` that add up to `total`; what is left over makes the last one larger."""
    drawn = rng.integers(low, high + 1, total // low + 1)
    ends = np.minimum(np.cumsum(drawn), total)
    sizes = np.diff(ends, prepend=0)
    sizes = sizes[sizes > 0]
    if len(sizes) > 1 and sizes[-1] < low:
        sizes = np.append(sizes[:-2], sizes[-2] + sizes[-1])
    return sizes


class _Scene:
    """What an overlay needs: the world, the legitimate payments, and which episode each of its frauds is of."""

    def __init__(
        self, world: World, legitimate: Purchases, rng: np.random.Generator, sizes: Ints, first_device: int
    ) -> None:
        self.world = world
        self.legitimate = legitimate
        self.rng = rng
        self.episodes = len(sizes)
        self.of = np.repeat(np.arange(len(sizes)), sizes)
        self.rank = np.arange(len(self.of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.devices = first_device + self.of
        self.intrusions: list[Intrusions] = []

    def __len__(self) -> int:
        return len(self.of)

    def victims(self, among: Ints | None = None) -> Ints:
        """A row of `legitimate` per episode: whose card, and about when. Busy cards are found more often."""
        rows = np.arange(len(self.legitimate)) if among is None or len(among) == 0 else among
        # a little time is left for the episode to happen in
        latest = self.world.duration_us - min(12 * HOUR_US, self.world.duration_us // 10)
        usable = int(np.searchsorted(self.legitimate.time_us[rows], latest))
        return rows[self.rng.integers(0, max(usable, 1), self.episodes)]

    def onsets(self, duration_us: Ints) -> Ints:
        """A start per episode, so that it ends within the period."""
        return (self.rng.random(self.episodes) * (self.world.duration_us - duration_us)).astype(np.int64)

    def web_merchants(self, categories: tuple[int, ...], n: int) -> Ints:
        """Draw n merchants on the web, of these categories."""
        return self.world.web_shops.draw(self.rng, self.rng.choice(np.array(categories), n))

    def spread(self, low: float, high: float, n: int) -> Floats:
        return low + (high - low) * self.rng.random(n)

    def at_till(self, card: Ints, merchant: Ints, channel: Ints, time_us: Ints, amount: Floats) -> Purchases:
        """Payments at the merchant's place, without a device."""
        world, nothing = self.world, np.full(len(card), NO_DEVICE)
        place = (
            world.merchant_town[merchant],
            world.merchant_latitude[merchant],
            world.merchant_longitude[merchant],
        )
        return Purchases(card, merchant, nothing, channel, time_us, amount, *place, nothing.copy())

    def on_web(self, card: Ints, merchant: Ints, town: Ints, time_us: Ints, amount: Floats) -> Purchases:
        """Payments from the episode's own device, somewhere in a town."""
        world, n = self.world, len(card)
        channel, device, pattern = np.full(n, ONLINE), self.devices, np.full(n, LEGITIMATE)
        # an IP address has one location during an episode
        latitude = world.town_latitude[town] + self.rng.normal(0, 0.05, self.episodes)[self.of]
        longitude = world.town_longitude[town] + self.rng.normal(0, 0.05, self.episodes)[self.of]
        return Purchases(card, merchant, device, channel, time_us, amount, town, latitude, longitude, pattern)


def _card_testing(scene: _Scene) -> Purchases:
    rng, n, at = scene.rng, len(scene), scene.of
    one_card = rng.random(scene.episodes) < 1 / 3
    victims = scene.legitimate.card[scene.victims()]
    strangers = scene.legitimate.card[rng.integers(0, len(scene.legitimate), n)]
    card = np.where(one_card[at], victims[at], strangers)
    merchant = scene.web_merchants((CLOTHING, HOME, DIGITAL, DIGITAL, GIFT_CARDS), scene.episodes)[at]
    near = scene.world.card_town[victims]
    town = np.where(rng.random(scene.episodes) < 0.4, near, scene.world.strange_towns(rng, scene.episodes))[at]
    onset = scene.onsets(np.full(scene.episodes, 9 * MINUTE_US))
    time_us = onset[at] + (rng.random(n) * 9 * MINUTE_US).astype(np.int64)
    return scene.on_web(card, merchant, town, time_us, np.minimum(0.3 + rng.exponential(1.6, n), 4.99))


def _account_takeover(scene: _Scene) -> Purchases:
    world, rng, n, at = scene.world, scene.rng, len(scene), scene.of
    row = scene.victims()
    card = scene.legitimate.card[row][at]
    # goods that can be resold
    merchant = scene.web_merchants((CLOTHING, ELECTRONICS, ELECTRONICS, TRAVEL, GIFT_CARDS, DIGITAL), n)
    # most use an IP address in the victim's own town
    nearby = rng.random(scene.episodes) < 0.65
    town = np.where(nearby, world.card_town[scene.legitimate.card[row]], world.strange_towns(rng, scene.episodes))[at]
    onset = scene.legitimate.time_us[row] + scene.spread(0, 5 * HOUR_US, scene.episodes)
    time_us = onset[at] + rng.random(n) * scene.spread(HOUR_US, 7 * HOUR_US, scene.episodes)[at]
    amount = world.usual_amount(card, merchant) * rng.lognormal(0.7, 0.6, n)
    return scene.on_web(card, merchant, town, time_us.astype(np.int64), amount)


def _compromised_merchant(scene: _Scene) -> Purchases:
    world, rng, n, at = scene.world, scene.rng, len(scene), scene.of
    legitimate = scene.legitimate
    tills = legitimate.merchant[(legitimate.channel != ONLINE) & (legitimate.channel != ATM)]
    traffic = np.bincount(tills, minlength=len(world.merchant_town)).astype(np.float64)
    # the square root: busy shops are hit more often, but not as much more often as they are busy
    chance = np.sqrt(traffic) if traffic.any() else np.ones(len(traffic))
    merchant = rng.choice(len(chance), scene.episodes, p=chance / chance.sum())[at]
    card = world.residents.draw(rng, world.merchant_town[merchant])
    length = np.minimum(scene.spread(14, 28, scene.episodes) * DAY_US, world.duration_us * 0.6).astype(np.int64)
    when = scene.onsets(length)[at] + (rng.random(n) * length[at]).astype(np.int64)
    time_us = _in_opening_hours(when, world.town_longitude[world.merchant_town[merchant]], rng)
    channel = np.where(rng.random(n) < 0.6, CHIP, CONTACTLESS)
    return scene.at_till(
        card, merchant, channel, time_us, world.usual_amount(card, merchant) * rng.lognormal(0.3, 0.5, n)
    )


def _in_opening_hours(time_us: Ints, longitude: Floats, rng: np.random.Generator) -> Ints:
    """The same day, but between 9 and 21 o'clock by the sun."""
    offset = np.rint(longitude / 15).astype(np.int64)
    hour = 9 + 12 * rng.random(len(time_us)) - offset
    return time_us // DAY_US * DAY_US + (hour * HOUR_US).astype(np.int64)


def _impossible_travel(scene: _Scene) -> Purchases:
    world, rng, n, at = scene.world, scene.rng, len(scene), scene.of
    legitimate = scene.legitimate
    at_home = (legitimate.channel != ONLINE) & (legitimate.town == world.card_town[legitimate.card])
    row = scene.victims(np.flatnonzero(at_home))
    card = legitimate.card[row][at]
    town = world.far_towns.draw(rng, legitimate.town[row])[at]
    merchant = world.shops.draw(rng, town)
    delay = scene.spread(8, 35, scene.episodes)[at] + scene.rank * scene.spread(3, 9, n)
    time_us = legitimate.time_us[row][at] + (delay * MINUTE_US).astype(np.int64)
    channel = np.where(world.merchant_category[merchant] == CASH, ATM, CHIP)
    amount = world.usual_amount(card, merchant) * rng.lognormal(0.4, 0.5, n)
    return scene.at_till(card, merchant, channel, time_us, amount)


def _large_amount(scene: _Scene) -> Purchases:
    world, rng, n = scene.world, scene.rng, len(scene)
    row = scene.victims()
    card, time_us = scene.legitimate.card[row], scene.legitimate.time_us[row]
    time_us = time_us + (scene.spread(0.2, 10, n) * HOUR_US).astype(np.int64)
    online = rng.random(n) < 0.4
    towns = world.card_town[card]
    merchant = np.where(online, scene.web_merchants((ELECTRONICS, TRAVEL), n), world.shops.draw(rng, towns))
    # scaled by the card's income too, so that a cheap shop can have a large amount
    amount = np.maximum(world.usual_amount(card, merchant), 40 * world.card_income[card]) * scene.spread(5, 16, n)
    web, till = (
        scene.on_web(card, merchant, towns, time_us, amount),
        scene.at_till(card, merchant, np.where(rng.random(n) < 0.8, CHIP, CONTACTLESS), time_us, amount),
    )
    return join([web.take(np.flatnonzero(online)), till.take(np.flatnonzero(~online))])


def _slow_drip(scene: _Scene) -> Purchases:
    world, rng, n, at = scene.world, scene.rng, len(scene), scene.of
    card = scene.legitimate.card[scene.victims()]
    # a merchant lets several drips through, each from a device of its own
    merchants = scene.web_merchants((DIGITAL, DIGITAL, CLOTHING), scene.episodes // 6 + 1)
    merchant = rng.choice(merchants, scene.episodes)
    nearby = rng.random(scene.episodes) < 0.65
    town = np.where(nearby, world.card_town[card], world.strange_towns(rng, scene.episodes))
    length = np.minimum(scene.spread(3, 7, scene.episodes) * 7 * DAY_US, world.duration_us * 0.7)
    step = length / np.bincount(at)
    offset = np.maximum(scene.rank + rng.normal(0.3, 0.08, n), 0) * step[at]
    time_us = scene.onsets(length.astype(np.int64))[at] + offset.astype(np.int64)
    price = np.rint(scene.spread(4, 25, scene.episodes)) - 0.01
    return scene.on_web(card[at], merchant[at], town[at], time_us, price[at])


def _stolen_login(scene: _Scene) -> Purchases:
    world, rng, n, at = scene.world, scene.rng, len(scene), scene.of
    legitimate = scene.legitimate
    online = np.flatnonzero((legitimate.channel == ONLINE) & (legitimate.device != NO_DEVICE))
    online = online if len(online) else np.arange(len(legitimate))  # a world of a few payments may have none
    row = scene.victims(online)
    card = legitimate.card[row]
    onset = legitimate.time_us[row] + scene.spread(HOUR_US, 9 * HOUR_US, scene.episodes).astype(np.int64)
    onset = np.minimum(onset, world.duration_us - 1)
    device = scene.devices[np.searchsorted(at, np.arange(scene.episodes))]
    scene.intrusions.append(Intrusions(card, device, onset))
    # what the holder bought before or after, at other prices
    copied = Groups(legitimate.card[online], np.ones(len(online)), len(world.card_town), members=online)
    like = copied.draw(rng, card[at])
    time_us = onset[at] + scene.spread(0.2 * HOUR_US, 22 * HOUR_US, n).astype(np.int64)
    own = rng.random(scene.episodes) < 0.75  # what they use passes for the holder's device
    return Purchases(
        card=card[at],
        merchant=legitimate.merchant[like],
        device=np.where(own[at], legitimate.device[like], scene.devices),
        channel=np.full(n, ONLINE),
        time_us=time_us,
        amount=world.usual_amount(card[at], legitimate.merchant[like]) * rng.lognormal(0.25, 0.6, n),
        town=legitimate.town[like],
        latitude=legitimate.latitude[like],
        longitude=legitimate.longitude[like],
        pattern=np.full(n, LEGITIMATE),
    )


_OVERLAYS: tuple[tuple[int, int, Callable[[_Scene], Purchases]], ...] = (
    (6, 25, _card_testing),
    (3, 8, _account_takeover),
    (15, 50, _compromised_merchant),
    (1, 3, _impossible_travel),
    (1, 1, _large_amount),
    (6, 12, _slow_drip),
    (2, 5, _stolen_login),
)
"""Fewest and most frauds in an episode, and what makes them; in the order of PATTERNS."""
