"""Six ways of stealing, each in episodes that leave a trace in a window over the right key."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentinel.events.world import CHANNELS, Columns, World

_MINUTE_US = 60_000_000
_HOUR_US = 60 * _MINUTE_US
_DAY_US = 24 * _HOUR_US
_ONLINE = CHANNELS.index("online")
_CHIP = CHANNELS.index("chip")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """`share` of all frauds; the number of frauds in an episode; and what an episode looks like."""

    share: float
    size: tuple[int, int]
    draw: Callable[["_Episodes"], Columns]


@dataclass(frozen=True, slots=True)
class _Episodes:
    """n frauds in episodes: `episode` (n,) is the number of each fraud's episode, `step` its place within it."""

    rng: np.random.Generator
    world: World
    honest: Columns
    episode: NDArray[np.int64]
    step: NDArray[np.int64]
    number: int
    new_device: int

    @property
    def n(self) -> int:
        """Number of frauds."""
        return len(self.episode)

    def begin(self, lasting_us: int) -> NDArray[np.int64]:
        """When each episode begins, so that one of that length fits into the simulated time."""
        latest = max(self.world.days * _DAY_US - lasting_us, 1)
        return self.rng.integers(0, latest, self.number)[self.episode]

    def each(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """One of the values for each episode, the same for all its frauds."""
        return self.rng.choice(values, self.number)[self.episode]

    def fill(
        self,
        time_us: NDArray[np.int64],
        amount: NDArray[np.float64],
        card: NDArray[np.int64],
        merchant: NDArray[np.int64],
        device: NDArray[np.int64],
        channel: int,
        city: NDArray[np.int64],
    ) -> Columns:
        """Columns without the pattern's number."""
        none = np.full(self.n, -1, np.int64)
        end = self.world.days * _DAY_US - 1
        return Columns(
            np.clip(time_us, 0, end), amount, card, merchant, device, np.full(self.n, channel, np.int64), city, none
        )

    def usual_amount(self, card: NDArray[np.int64], merchant: NDArray[np.int64]) -> NDArray[np.float64]:
        """What this card would spend there."""
        level = self.world.card_level[card] + self.world.merchant_level[merchant]
        return np.asarray(np.exp(level + self.rng.normal(0, 0.4, self.n)))

    def cards(self) -> NDArray[np.int64]:
        """A victim for each fraud."""
        return self.rng.integers(0, len(self.world.card_city), self.n)


def _card_testing(e: _Episodes) -> Columns:
    """A bot tries stolen cards at one online shop: many tiny amounts within minutes, from one device."""
    time_us = e.begin(_HOUR_US) + e.step * e.rng.integers(5_000_000, 25_000_000, e.n)
    one_card = e.each(np.arange(len(e.world.card_city)))
    card = np.where(e.each(np.array([0, 1])) == 1, one_card, e.cards())
    merchant = e.each(np.arange(e.world.n_local, e.world.n_merchants))
    amount = e.rng.uniform(0.5, 3.0, e.n)
    return e.fill(
        time_us, amount, card, merchant, e.new_device + e.episode, _ONLINE, e.each(np.arange(len(e.world.city_country)))
    )


def _account_takeover(e: _Episodes) -> Columns:
    """A stranger with a new device shops for hours: other merchants, higher amounts."""
    time_us = e.begin(_DAY_US) + (e.step * e.rng.uniform(0.2, 1.2, e.n) * _HOUR_US).astype(np.int64)
    card = e.each(np.arange(len(e.world.card_city)))
    merchant = e.world.online_merchants(e.rng, e.n)
    amount = e.usual_amount(card, merchant) * e.rng.uniform(1.3, 4.0, e.n)
    city = e.each(np.arange(len(e.world.city_country)))
    return e.fill(time_us, amount, card, merchant, e.new_device + e.episode, _ONLINE, city)


def _compromised_merchant(e: _Episodes) -> Columns:
    """A terminal is tampered with: for weeks a part of what it takes is fraud, at amounts as usual."""
    time_us = e.begin(21 * _DAY_US) + e.rng.integers(0, 21 * _DAY_US, e.n)
    merchant = e.each(np.arange(e.world.n_local))
    card = e.cards()
    amount = e.usual_amount(card, merchant) * e.rng.uniform(0.9, 2.0, e.n)
    return e.fill(time_us, amount, card, merchant, np.full(e.n, -1), _CHIP, e.world.merchant_city[merchant])


def _impossible_travel(e: _Episodes) -> Columns:
    """A cloned card is used on another continent within the hour after its owner has paid at home."""
    present = np.flatnonzero(e.honest.device < 0)
    if len(present) == 0:
        present = np.arange(len(e.honest.time_us))
    source = e.each(present)
    time_us = e.honest.time_us[source] + (e.step + e.rng.uniform(0.2, 0.7, e.n)) * (40 * _MINUTE_US)
    here = e.honest.city[source]
    far = _farthest(e.world)[here, e.each(np.arange(6))]
    merchant = e.world.local_merchants(e.rng, far)
    card = e.honest.card[source]
    amount = e.usual_amount(card, merchant) * e.rng.uniform(1.0, 2.5, e.n)
    return e.fill(time_us.astype(np.int64), amount, card, merchant, np.full(e.n, -1), _CHIP, far)


def _large_amount(e: _Episodes) -> Columns:
    """One purchase far above what the card is used for."""
    card = e.cards()
    merchant = e.world.local_merchants(e.rng, e.world.card_city[card])
    amount = e.usual_amount(card, merchant) * e.rng.uniform(5.0, 15.0, e.n)
    city = e.world.merchant_city[merchant]
    return e.fill(e.begin(0), amount, card, merchant, np.full(e.n, -1), _CHIP, city)


def _slow_drip(e: _Episodes) -> Columns:
    """One shop charges a card a little every few days, for weeks; a few shops do it to many cards."""
    time_us = e.begin(45 * _DAY_US) + (e.step * e.rng.uniform(2.0, 4.0, e.n) * _DAY_US).astype(np.int64)
    crooked = e.world.n_merchants - 1 - e.rng.choice(max((e.world.n_merchants - e.world.n_local) // 10, 1), 3)
    merchant = e.each(crooked)
    card = e.each(np.arange(len(e.world.card_city)))
    amount = e.rng.uniform(4.0, 15.0, e.number)[e.episode]
    return e.fill(time_us, amount, card, merchant, e.new_device + e.episode, _ONLINE, e.world.merchant_city[merchant])


_PATTERNS = {
    "card_testing": _Pattern(0.20, (8, 20), _card_testing),
    "account_takeover": _Pattern(0.22, (3, 9), _account_takeover),
    "compromised_merchant": _Pattern(0.20, (15, 40), _compromised_merchant),
    "impossible_travel": _Pattern(0.13, (1, 3), _impossible_travel),
    "large_amount": _Pattern(0.12, (1, 1), _large_amount),
    "slow_drip": _Pattern(0.13, (5, 12), _slow_drip),
}
PATTERNS = tuple(_PATTERNS)
"""Names of the six patterns."""


def add_frauds(rng: np.random.Generator, world: World, honest: Columns, n: int) -> Columns:
    """n frauds, each pattern its share of them."""
    borders = np.rint(np.cumsum([0.0, *(pattern.share for pattern in _PATTERNS.values())]) * n).astype(np.int64)
    parts = []
    new_device = world.first_new_device
    for number, pattern in enumerate(_PATTERNS.values()):
        wanted = int(borders[number + 1] - borders[number])
        episode, step = _episodes(rng, pattern.size, wanted)
        episodes = int(episode[-1]) + 1 if wanted else 0
        drawn = pattern.draw(_Episodes(rng, world, honest, episode, step, episodes, new_device)) if wanted else None
        if drawn is not None:
            drawn.pattern[:] = number
            parts.append(drawn)
        new_device += episodes
    if not parts:
        return Columns(*(array[:0] for array in honest.arrays()))
    return Columns(*(np.concatenate(arrays) for arrays in zip(*(part.arrays() for part in parts), strict=True)))


def _episodes(rng: np.random.Generator, size: tuple[int, int], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Exactly n frauds in episodes of that size (the last one may be cut): their episode and step."""
    sizes = rng.integers(size[0], size[1] + 1, n // size[0] + 1)
    episode = np.repeat(np.arange(len(sizes)), sizes)[:n]
    first = np.searchsorted(episode, episode, side="left")
    return episode, np.arange(n) - first


def _farthest(world: World) -> NDArray[np.int64]:
    """For each city the six cities farthest from it (by the angle between them)."""
    latitude, longitude = np.radians(world.city_latitude), np.radians(world.city_longitude)
    points = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1
    )
    return np.argsort(points @ points.T, axis=1, kind="stable")[:, :6]
