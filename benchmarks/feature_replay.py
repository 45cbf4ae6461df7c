"""Feature replay: the handbook's transactions through the kernel with the handbook's 14 features, on one core."""

import os
import statistics
import time

from report import data_file, publish
from sentinel.detectors.handbook import HANDBOOK_FEATURES, detector
from sentinel.events.files import read_history
from sentinel.events.replay import columns_of_frame
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

RUNS = 7


def main() -> None:
    """Print events a second and the size of the state."""
    os.sched_setaffinity(0, {0})
    history = read_history(data_file("handbook_simulated.parquet"), detector.schema)
    events = columns_of_frame(detector.schema, history.frame)
    plan = FeaturePlan(detector.schema, HANDBOOK_FEATURES)
    MemoryStore(plan).advance(events.rows(slice(0, 1000)))  # compiles
    speeds, store = [], MemoryStore(plan)
    for _ in range(RUNS):
        store = MemoryStore(plan)
        begun = time.perf_counter()
        store.advance(events)
        speeds.append(len(events) / (time.perf_counter() - begun))
    publish(
        "feature_replay",
        f"one call of MemoryStore.advance over {len(events):,} events, pinned to one core, {RUNS} runs",
        {
            "events_per_second_median": round(statistics.median(speeds)),
            "events_per_second_best": round(max(speeds)),
            "events_per_second_worst": round(min(speeds)),
            "state_mb": round(store.nbytes() / 1e6, 1),
            "keys": store.keys(),
        },
    )


if __name__ == "__main__":
    main()
