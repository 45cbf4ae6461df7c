"""Key growth: what an event costs with a million keys, compared with a thousand, in batches of 64 and in bulk.

Two keys of ten window features each, at a rate at which the windows of a key hold PER_KEY events. Both stores are full
before they are timed, and are timed in turn, slice by slice, so that a change of the machine's speed meets both.
"""

import os
import statistics
import time

import numpy as np

from report import publish
from sentinel.events.columns import EventColumns
from sentinel.events.schema import Schema
from sentinel.features.definitions import Feature, count, mean
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

FEW, MANY = 1_000, 1_000_000
PER_KEY = 5


def _count(by: str, over: str) -> Feature:
    return count(by=by, over=over)


def _mean(by: str, over: str) -> Feature:
    return mean("amount", by=by, over=over)


WINDOWS = ("10m", "1h", "1d", "7d", "30d")
LONGEST_US = 30 * 86_400_000_000
SLICE, ROUNDS = 1 << 17, 9
SIZES = (64, 1 << 16)
SCHEMA = Schema(keys=("card", "shop"))
FEATURES = tuple(feature(by, over) for by in SCHEMA.keys for over in WINDOWS for feature in (_count, _mean))


class Stream:
    """Payments of `keys` cards at as many shops, evenly in time, and the store that takes them."""

    def __init__(self, keys: int) -> None:
        self.keys = keys
        self.store = MemoryStore(FeaturePlan(SCHEMA, FEATURES))
        self._rng = np.random.default_rng(keys)
        self._us_apart = LONGEST_US // (PER_KEY * keys)
        self._sent = 0
        for _ in range(-(-3 * PER_KEY * keys // (2 * SLICE))):
            self.store.advance(self.next())

    def next(self) -> EventColumns:
        """The next SLICE payments."""
        rng, n = self._rng, SLICE
        time_us = (self._sent + np.arange(n)) * self._us_apart
        self._sent += n
        numbers = rng.integers(0, self.keys, (n, 2)).astype(np.uint64)
        return EventColumns(
            kinds=np.zeros(n, np.uint8),
            ids=rng.integers(1, 2**63, n).astype(np.uint64),
            time_us=time_us,
            received_us=time_us,
            exact=rng.integers(1, 10_000, (n, 1)),
            plain=np.zeros((n, 0)),
            texts=numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1),
            labels=np.full(n, -1, np.int8),
        )

    def ns_per_event(self, size: int) -> float:
        """Processor time of the next slice, in batches of `size`."""
        events = self.next()
        batches = [events.rows(slice(begin, begin + size)) for begin in range(0, SLICE, size)]
        begun = time.process_time_ns()
        for batch in batches:
            self.store.advance(batch)
        return (time.process_time_ns() - begun) / SLICE


def main() -> None:
    """Print what an event costs, and the ratio, the median of ROUNDS pairs."""
    os.sched_setaffinity(0, {1})
    few, many = Stream(FEW), Stream(MANY)
    figures: dict[str, object] = {}
    for size in SIZES:
        pairs = [(few.ns_per_event(size), many.ns_per_event(size)) for _ in range(ROUNDS)]
        figures[f"batches_of_{size}"] = {
            "ns_few": round(statistics.median(one for one, _ in pairs)),
            "ns_many": round(statistics.median(other for _, other in pairs)),
            "ratio": round(statistics.median(other / one for one, other in pairs), 2),
            "ratio_lowest": round(min(other / one for one, other in pairs), 2),
        }
    publish(
        "key_growth",
        f"{len(WINDOWS) * 2} window features of each of 2 keys, {PER_KEY} events a key in the longest window, "
        f"{FEW:,} against {MANY:,} keys, slices of {SLICE:,} events in turn, one core",
        figures | {"state_mb_many": round(many.store.nbytes() / 1e6)},
    )


if __name__ == "__main__":
    main()
