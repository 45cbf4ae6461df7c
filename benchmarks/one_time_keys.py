"""One-time keys: payments that each come from a device that is never seen again, over many simulated days.

The state must be as large on the last day as on an early one. `--payments` and `--days` make it shorter.
"""

import argparse
import gc
import os
from pathlib import Path

import numpy as np

from report import publish
from sentinel.events.columns import EventColumns
from sentinel.events.schema import Schema
from sentinel.features.definitions import count, distinct, maximum, mean, seconds_since_last
from sentinel.features.packed import pack
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

SCHEMA = Schema(keys=("card", "device"))
PLAN = FeaturePlan(
    SCHEMA,
    (
        count(by="device", over="1h"), count(by="device", over="7d"), mean("amount", by="device", over="7d"),
        maximum("amount", by="device", over="1d"), distinct("card", by="device", over="7d"),
        seconds_since_last(by="device"), count(by="card", over="1d"), mean("amount", by="card", over="7d"),
    ),
    forget_after="7d",
)  # fmt: skip
CARDS, BATCH, DAY_US = 100_000, 4_096, 86_400_000_000


def main() -> None:
    """Print the memory and the snapshot on day 20, or a tenth of the days, and at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=20_000_000)
    parser.add_argument("--days", type=int, default=200)
    given = parser.parse_args()
    os.sched_setaffinity(0, {1})
    store, rng = MemoryStore(PLAN), np.random.default_rng(1)
    early, n_early = {}, given.payments // 10
    for first in range(0, given.payments, BATCH):
        batch = _payments(first, given, rng)
        store.advance(batch)
        if first <= n_early < first + BATCH:
            early = _sizes(store)
    end = _sizes(store)
    publish(
        "one_time_keys",
        f"{given.payments:,} payments over {given.days} days, each of a device of its own, {CARDS:,} cards; windows, "
        f"forget_after of at most 7 days; max_late {SCHEMA.max_late}, batches of {BATCH:,}",
        {
            "early": early, "end": end,
            "ratio_resident": round(end["resident_mb"] / early["resident_mb"], 3),
            "ratio_state": round(end["state_mb"] / early["state_mb"], 3),
            "ratio_snapshot": round(end["snapshot_mb"] / early["snapshot_mb"], 3),
        },
    )  # fmt: skip


def _payments(first: int, given: argparse.Namespace, rng: np.random.Generator) -> EventColumns:
    n = BATCH
    time_us = (first + np.arange(n)) * (given.days * DAY_US // given.payments)
    cards = rng.integers(0, CARDS, n).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    devices = rng.integers(1, 2**63, n).astype(np.uint64)
    ids = rng.integers(1, 2**63, n).astype(np.uint64)
    return EventColumns(
        kinds=np.zeros(n, np.uint8), ids=ids, time_us=time_us, received_us=time_us,
        exact=rng.integers(1, 10_000, (n, 1)), plain=np.zeros((n, 0)),
        texts=np.column_stack([{"card": cards, "device": devices}[name] for name in SCHEMA.texts]),
        labels=np.full(n, -1, np.int8),
    )  # fmt: skip


def _sizes(store: MemoryStore) -> dict[str, float]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident_mb = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return {
        "resident_mb": round(resident_mb, 1),
        "state_mb": round(store.nbytes() / 1e6, 1),
        "snapshot_mb": round(len(pack(store.snapshot())) / 1e6, 1),
        "keys": store.keys(),
        "forgotten": store.forgotten(),
    }


if __name__ == "__main__":
    main()
