"""What it takes to write a key's profile, and to go on from it: ten windows, fifty events in the longest."""

import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from report import publish
from sentinel.events.columns import EventColumns
from sentinel.events.schema import Schema
from sentinel.features.definitions import count, mean, std
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

SCHEMA = Schema(keys=("card",))
WINDOWS = ("5m", "10m", "30m", "1h", "6h", "12h", "1d", "3d", "7d", "30d")
PLAN = FeaturePlan(
    SCHEMA,
    tuple(
        kind
        for over in WINDOWS
        for kind in (
            count(by="card", over=over),
            mean("amount", by="card", over=over),
            std("amount", by="card", over=over),
        )
    ),
)
KEYS, EVENTS, ROUNDS = 2_000, 50, 15
DAY_US = 86_400_000_000


def main() -> None:
    """Print microseconds a profile, one at a time and many at once, and its bytes."""
    os.sched_setaffinity(0, {1})
    store, other, rng = MemoryStore(PLAN), MemoryStore(PLAN), np.random.default_rng(1)
    n = KEYS * EVENTS
    keys = np.arange(1, KEYS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    time_us = np.sort(rng.integers(0, 30 * DAY_US - 1, n))
    store.advance(
        EventColumns(
            kinds=np.zeros(n, np.uint8), ids=rng.integers(1, 2**63, n).astype(np.uint64), time_us=time_us,
            received_us=time_us, exact=rng.integers(1, 10_000_000, (n, 1)), plain=np.zeros((n, 0)),
            texts=rng.permutation(np.repeat(keys, EVENTS))[:, np.newaxis], labels=np.full(n, -1, np.int8),
        )
    )  # fmt: skip
    profiles = store.export("card", keys)
    other.load("card", profiles)
    figures = {
        "export_one_us": _median_us(lambda: [store.export("card", keys[i : i + 1]) for i in range(KEYS)]),
        "load_one_us": _median_us(lambda: load_each(other, profiles)),
        "export_many_us": _median_us(lambda: store.export("card", keys)),
        "load_many_us": _median_us(lambda: other.load("card", profiles)),
        "bytes": round(statistics.mean(map(len, profiles))),
    }
    publish("profile_travel", f"{KEYS:,} keys, {EVENTS} events in 30 days, {len(WINDOWS)} windows, one core", figures)


def load_each(store: MemoryStore, profiles: list[bytes]) -> None:
    for one in profiles:
        store.load("card", [one])


def _median_us(call: Callable[[], object]) -> float:
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time_ns()
        call()
        spent.append((time.process_time_ns() - begun) / KEYS / 1e3)
    return round(statistics.median(spent), 1)


if __name__ == "__main__":
    main()
