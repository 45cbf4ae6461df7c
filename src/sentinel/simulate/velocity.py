"""Seven numbers of a payment, drawn by the distributions that Sentinel-Stream published for its synthetic data.

Every column gets normal noise of 8 % of its own deviation, and 0.4 % of the labels are turned round, as there. What
comes out keeps to the contract of the seven: hours are whole numbers from 0 to 23, counts are whole, no card pays at
more merchants than it has payments, `channel_online` is 0 or 1.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

_NOISE = 0.08
_FLIPPED = 0.004
_LEAST_AMOUNT = 0.01
_SHORTEST_PAUSE, _LONGEST_PAUSE, _LONGEST_FRAUD_PAUSE = 0.01, 30.0, 7.0  # days
_NIGHT = 0.45
_Columns = dict[str, NDArray[np.float64]]


def velocity_numbers(legit: int, fraud: int, seed: int) -> pl.DataFrame:
    """So many legitimate payments and frauds in random order: the seven numbers and `is_fraud` (0 or 1).

    The labels that are turned round are among them: `is_fraud` counts not quite `fraud`. Same arguments, same rows.
    """
    rng = np.random.default_rng(seed)
    kinds = (_legitimate(rng, legit), _fraudulent(rng, fraud))
    drawn = {name: np.concatenate([one[name] for one in kinds]) for name in kinds[0]}
    noisy = {name: values + rng.normal(0.0, _NOISE * values.std(), len(values)) for name, values in drawn.items()}
    labels = np.repeat(np.array([0, 1], np.int8), [legit, fraud])
    flipped = rng.choice(len(labels), round(_FLIPPED * len(labels)), replace=False)
    labels[flipped] ^= 1
    frame = pl.DataFrame({**_within_contract(noisy), "is_fraud": labels})
    return frame[rng.permutation(len(labels))]


def _legitimate(rng: np.random.Generator, n: int) -> _Columns:
    counts = rng.poisson(2.0, n)
    return {
        "amount": rng.lognormal(3.5, 1.0, n),
        "hour_of_day": rng.integers(0, 24, n).astype(np.float64),
        "days_since_last_txn": np.clip(rng.exponential(2.0, n), _SHORTEST_PAUSE, _LONGEST_PAUSE),
        "txn_count_24h": counts.astype(np.float64),
        "distinct_merchants_24h": np.minimum(counts, rng.poisson(1.5, n) + 1).astype(np.float64),
        "avg_amount_7d": rng.lognormal(3.2, 0.8, n),
        "channel_online": (rng.random(n) < 0.35).astype(np.float64),
    }


def _fraudulent(rng: np.random.Generator, n: int) -> _Columns:
    counts = rng.poisson(14.0, n)
    hours = np.where(rng.random(n) < _NIGHT, rng.integers(0, 6, n), rng.integers(0, 24, n))
    return {
        "amount": rng.lognormal(5.2, 1.1, n),
        "hour_of_day": hours.astype(np.float64),
        "days_since_last_txn": np.clip(rng.exponential(0.15, n), _SHORTEST_PAUSE, _LONGEST_FRAUD_PAUSE),
        "txn_count_24h": counts.astype(np.float64),
        "distinct_merchants_24h": np.minimum(counts, rng.poisson(8.0, n) + rng.integers(1, 4, n)).astype(np.float64),
        "avg_amount_7d": rng.lognormal(3.0, 0.9, n),
        "channel_online": (rng.random(n) < 0.72).astype(np.float64),
    }


def _within_contract(noisy: _Columns) -> _Columns:
    """Noisy numbers as a caller could send them."""
    counts = np.rint(noisy["txn_count_24h"]).clip(0)
    return {
        "amount": np.round(noisy["amount"], 2).clip(_LEAST_AMOUNT),
        "hour_of_day": np.rint(noisy["hour_of_day"]).clip(0, 23),
        "days_since_last_txn": noisy["days_since_last_txn"].clip(_SHORTEST_PAUSE, _LONGEST_PAUSE),
        "txn_count_24h": counts,
        "distinct_merchants_24h": np.minimum(np.rint(noisy["distinct_merchants_24h"]).clip(0), counts),
        "avg_amount_7d": noisy["avg_amount_7d"].clip(0),
        "channel_online": np.rint(noisy["channel_online"]).clip(0, 1),
    }
