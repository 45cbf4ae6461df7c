"""The traffic simulator: card payments with habits, places and devices, and six kinds of fraud among them.

Nothing here is fitted to anyone's data. Cards have a home, a level of spending and a rhythm; merchants a place, a
category and a price level; frauds come in episodes that a window over the right key can see. Everything is drawn
from one seeded generator, in whole columns.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.events.fraud_patterns import PATTERNS, add_frauds
from sentinel.events.world import CHANNELS, Columns, World, make_world

DEFAULT_START = datetime(2025, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000
_HOUR_WEIGHTS = np.array([1, 1, 1, 1, 1, 2, 4, 7, 9, 10, 11, 12, 13, 12, 11, 11, 12, 13, 13, 11, 9, 7, 4, 2.0])
_WEEKDAY_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.05, 1.25, 1.3, 0.9])


def simulate(
    transactions: int,
    seed: int,
    *,
    start: datetime = DEFAULT_START,
    days: int = 120,
    fraud_share: float = 0.008,
) -> pl.DataFrame:
    """`transactions` payments over `days` days from `start`, by time, about `fraud_share` of them fraud.

    Columns: transaction_id, event_time (UTC, microseconds), amount (two decimals), card_id, merchant_id,
    device_id (null for a card that was present), merchant_category, channel, country, latitude, longitude (of the
    merchant, or of the device for online payments), is_fraud, fraud_pattern, and outcome_time: when the truth
    became known. The same arguments give the same bytes. Raises InvalidDefinition.
    """
    if transactions < 1 or days < 1 or not 0 <= fraud_share < 0.5 or start.tzinfo is None:
        raise InvalidDefinition(
            "simulate: at least 1 transaction and 1 day, fraud_share from 0 to below 0.5, start with a time zone"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    world = make_world(rng, transactions, days)
    n_frauds = int(round(transactions * fraud_share))
    honest = _honest(rng, world, transactions - n_frauds)
    frauds = add_frauds(rng, world, honest, n_frauds)
    return _frame(rng, world, _joined(honest, frauds), start)


def _honest(rng: np.random.Generator, world: World, n: int) -> Columns:
    """What the cards' owners buy."""
    card = rng.choice(len(world.card_rate), size=n, p=world.card_rate)
    time_us = _times(rng, world.days, n)
    city = _whereabouts(world, card, time_us)
    online = rng.random(n) < world.card_online[card]
    merchant = np.where(online, world.online_merchants(rng, n), world.local_merchants(rng, city))
    level = world.card_level[card] + world.merchant_level[merchant] + rng.normal(0, 0.45, n)
    device = np.where(online, 2 * card + (rng.random(n) < 0.25), -1)
    return Columns(
        time_us=time_us,
        amount=np.exp(level),
        card=card,
        merchant=merchant,
        device=device,
        channel=np.where(online, CHANNELS.index("online"), world.present_channel(rng, merchant)),
        city=np.where(online, city, world.merchant_city[merchant]),
        pattern=np.full(n, -1, np.int64),
    )


def _times(rng: np.random.Generator, days: int, n: int) -> NDArray[np.int64]:
    """Instants in microseconds from the start, more of them by day and towards the weekend."""
    day_weights = np.resize(_WEEKDAY_WEIGHTS, days)
    day = rng.choice(days, size=n, p=day_weights / day_weights.sum())
    hour = rng.choice(24, size=n, p=_HOUR_WEIGHTS / _HOUR_WEIGHTS.sum())
    within = rng.integers(0, 3_600_000_000, n)
    return np.asarray(day * _DAY_US + hour * 3_600_000_000 + within, dtype=np.int64)


def _whereabouts(world: World, card: NDArray[Any], time_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """The city a card is in: home, or where its one trip leads it."""
    day = time_us // _DAY_US
    away = (day >= world.trip_begins[card]) & (day < world.trip_ends[card])
    return np.where(away, world.trip_city[card], world.card_city[card])


def _joined(honest: Columns, frauds: Columns) -> Columns:
    return Columns(*(np.concatenate(pair) for pair in zip(honest.arrays(), frauds.arrays(), strict=True)))


def _frame(rng: np.random.Generator, world: World, columns: Columns, start: datetime) -> pl.DataFrame:
    """Columns of numbers as a table of names, by time."""
    n = len(columns.time_us)
    order = np.lexsort((columns.card, columns.time_us))
    rows = Columns(*(array[order] for array in columns.arrays()))
    begin_us = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    event_us = begin_us + rows.time_us
    is_fraud = rows.pattern >= 0
    north, east = rng.normal(0, 0.02, (2, n))
    return pl.DataFrame(
        {
            "transaction_id": _names("t", rng.permutation(n), 9),
            "event_time": pl.Series(event_us).cast(pl.Datetime("us", "UTC")),
            "amount": np.maximum(np.rint(rows.amount * 100), 1) / 100,
            "card_id": _names("c", rows.card, 7),
            "merchant_id": _names("m", rows.merchant, 6),
            "device_id": _names("d", rows.device, 8),
            "merchant_category": _words(world.categories, world.merchant_category[rows.merchant]),
            "channel": _words(CHANNELS, rows.channel),
            "country": _words(world.countries, world.city_country[rows.city]),
            "latitude": np.round(np.clip(world.city_latitude[rows.city] + north, -90, 90), 6),
            "longitude": np.round(np.clip(world.city_longitude[rows.city] + east, -180, 180), 6),
            "is_fraud": is_fraud,
            "fraud_pattern": _words(PATTERNS, rows.pattern),
            "outcome_time": pl.Series(event_us + _outcome_delay(rng, is_fraud)).cast(pl.Datetime("us", "UTC")),
        }
    )


def _outcome_delay(rng: np.random.Generator, is_fraud: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Microseconds until the truth is known: complaints take days, silence is taken as consent after some more."""
    days = np.where(
        is_fraud, rng.lognormal(np.log(3), 0.9, len(is_fraud)), rng.lognormal(np.log(5), 0.4, len(is_fraud))
    )
    return np.asarray(np.clip(days, 1 / 24, 60) * _DAY_US, dtype=np.int64)


def _names(prefix: str, numbers: NDArray[Any], digits: int) -> pl.Series:
    """`c0000123` for 123; null for what is negative."""
    distinct = np.unique(numbers)
    texts = pl.Series([None if one < 0 else f"{prefix}{one:0{digits}d}" for one in distinct.tolist()], dtype=pl.String)
    return texts[np.searchsorted(distinct, numbers)]


def _words(words: tuple[str, ...], numbers: NDArray[Any]) -> pl.Series:
    """The word of each number; null for -1."""
    return pl.Series([*words, None], dtype=pl.String)[np.where(numbers < 0, len(words), numbers)]
