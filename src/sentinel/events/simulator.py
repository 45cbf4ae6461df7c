"""Simulated card payments: a bank in Europe, its customers' habits and journeys, and six kinds of fraud.

Everybody here is honest; `fraud_patterns` adds the rest. Honest cards give reason for doubt, too: people travel,
buy a new phone, buy several things within minutes, spend ten times as much as usual once in a while, pay
subscriptions, share a device with the family or a whole office, and hide their place behind a proxy.
"""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from sentinel.errors import InvalidDefinition
from sentinel.events.fraud_patterns import (
    ATM,
    CASH,
    CATEGORIES,
    CHANNELS,
    CHIP,
    CONTACTLESS,
    DAY_US,
    DIGITAL,
    HONEST,
    HOUR_US,
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
    far_apart,
    frauds,
    join,
)
from sentinel.events.times import EARLIEST_US, LATEST_US

__all__ = ["PATTERNS", "simulate"]

# country, latitude, longitude, customers of the bank, visitors
_TOWNS = (
    ("DE", 52.5200, 13.4050, 10, 5), ("DE", 48.1351, 11.5820, 7, 4), ("DE", 53.5511, 9.9937, 6, 3),
    ("FR", 48.8566, 2.3522, 10, 8), ("FR", 45.7640, 4.8357, 4, 2), ("FR", 43.2965, 5.3698, 3, 3),
    ("IT", 41.9028, 12.4964, 7, 6), ("IT", 45.4642, 9.1900, 6, 4), ("ES", 40.4168, -3.7038, 7, 5),
    ("ES", 41.3874, 2.1686, 5, 6), ("NL", 52.3676, 4.9041, 5, 5), ("BE", 50.8503, 4.3517, 4, 3),
    ("AT", 48.2082, 16.3738, 4, 3), ("PL", 52.2297, 21.0122, 6, 2), ("PT", 38.7223, -9.1393, 4, 4),
    ("GB", 51.5074, -0.1278, 6, 8), ("IE", 53.3498, -6.2603, 2, 2), ("DK", 55.6761, 12.5683, 2, 2),
    ("SE", 59.3293, 18.0686, 0, 2), ("CZ", 50.0755, 14.4378, 0, 3), ("GR", 37.9838, 23.7275, 0, 4),
    ("TR", 41.0082, 28.9784, 0, 4), ("RO", 44.4268, 26.1025, 0, 2), ("MA", 33.5731, -7.5898, 0, 1),
    ("EG", 30.0444, 31.2357, 0, 1), ("NG", 6.5244, 3.3792, 0, 1), ("ZA", -26.2041, 28.0473, 0, 1),
    ("AE", 25.2048, 55.2708, 0, 2), ("IN", 19.0760, 72.8777, 0, 1), ("TH", 13.7563, 100.5018, 0, 2),
    ("SG", 1.3521, 103.8198, 0, 1), ("JP", 35.6762, 139.6503, 0, 1), ("US", 40.7128, -74.0060, 0, 4),
    ("US", 25.7617, -80.1918, 0, 2), ("US", 34.0522, -118.2437, 0, 2), ("MX", 19.4326, -99.1332, 0, 1),
    ("BR", -23.5505, -46.6333, 0, 1), ("AU", -33.8688, 151.2093, 0, 1),
)  # fmt: skip
_COUNTRIES, _TOWN_COUNTRY = np.unique([town[0] for town in _TOWNS], return_inverse=True)
_LATITUDE, _LONGITUDE, _CUSTOMERS, _VISITS = (np.array([town[i] for town in _TOWNS], np.float64) for i in range(1, 5))

# euros of a middling purchase, its spread (of the logarithm), share among tills, share on the web; as CATEGORIES
_TRADES = np.array([
    (32, 0.60, 0.26, 0.04), (24, 0.50, 0.17, 0.08), (48, 0.35, 0.08, 0.00), (4, 0.60, 0.09, 0.05), (16, 0.60, 0.07, 0.03),
    (48, 0.60, 0.08, 0.18), (120, 0.85, 0.03, 0.12), (55, 0.75, 0.05, 0.08), (22, 0.60, 0.06, 0.09), (45, 0.70, 0.03, 0.00),
    (160, 0.80, 0.02, 0.07), (8, 0.70, 0.00, 0.22), (40, 0.60, 0.01, 0.04), (90, 0.50, 0.05, 0.00),
])  # fmt: skip
_EUROS, _SPREAD, _TILL_SHARE, _WEB_SHARE = _TRADES.T
_SUPER = 1

_TILL_HOURS = (1, 1, 1, 1, 1, 2, 8, 20, 32, 38, 42, 52, 64, 56, 48, 48, 56, 68, 70, 56, 40, 24, 12, 4)
_WEB_HOURS = (14, 8, 5, 3, 3, 4, 8, 16, 26, 34, 38, 40, 44, 42, 40, 40, 42, 44, 50, 60, 68, 66, 50, 28)
_WEEKDAYS = (0.92, 0.94, 0.97, 1.02, 1.18, 1.16, 0.81)  # from Monday

_PER_CARD = 50  # payments of a card in the whole period, on average
_FAVOURITES = 6  # shops a card goes back to, and as many on the web
_LEGIT_CONFIRMED_US = 10 * DAY_US
_LONGEST_COMPLAINT_US = 60 * DAY_US


def simulate(
    transactions: int,
    seed: int,
    *,
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC),
    days: int = 120,
    fraud_share: float = 0.007,
) -> pl.DataFrame:
    """Exactly `transactions` card payments in order of time; the same arguments give the same bytes.

    Times are UTC, from `start` until `days` days later; amounts are euros with two decimals. `latitude` and
    `longitude` (degrees, six decimals) and `country` (ISO 3166) tell where the merchant's till is; for a payment
    online, where the payer's device is. `device_id` is null where the card itself was read. `fraud_share` of
    the payments, rounded, are frauds of the kinds in PATTERNS. `outcome_time` is when the truth is known: the
    complaint comes after 4 days in the middle and 60 at most, an honest payment counts as confirmed after 10.

    Raises InvalidDefinition for arguments that make no sense.

    >>> simulate(1000, seed=7)["is_fraud"].sum()
    7
    """
    start_us = _checked_start_us(transactions, seed, start, days, fraud_share)
    rng = np.random.Generator(np.random.PCG64(seed))
    n_frauds = int(transactions * fraud_share + 0.5)
    world = _world(transactions, days, rng)
    devices = _Devices(len(world.card_town), days, rng)
    honest = _honest(world, devices, transactions - n_frauds, start_us, rng)
    everything = join([honest, *frauds(world, honest, devices.count, n_frauds, rng)])
    everything = everything.take(np.argsort(everything.time_us, kind="stable"))
    return _table(everything, devices.count + n_frauds, start_us, rng)


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


def _world(transactions: int, days: int, rng: np.random.Generator) -> World:
    """Towns, cards and merchants, as many as the number of payments needs."""
    towns, cards = len(_TOWNS), max(1, transactions // _PER_CARD)
    town = rng.choice(towns, cards, p=_CUSTOMERS / _CUSTOMERS.sum())
    merchant_town, category, online, popularity = _merchants(transactions, rng)
    merchants = len(category)
    # a card's own rate: most are used now and then, some many times a day
    activity = rng.gamma(1.6, 1.0, cards) + 0.05
    far = np.nonzero(far_apart(_LATITUDE, _LONGITUDE, _TOWN_COUNTRY))
    web = np.flatnonzero(online)
    web_shops = Groups(category[web], popularity[web], len(CATEGORIES))
    web_shops.members = web[web_shops.members]
    return World(
        town_latitude=_LATITUDE,
        town_longitude=_LONGITUDE,
    )
