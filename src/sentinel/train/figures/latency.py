"""How long the exported model takes for a row, on this machine."""

import time

import numpy as np
from numpy.typing import NDArray

from sentinel.model.scorer import Scorer

BATCH, ROUNDS = 64, 15
_MOST_ROWS = 2_048


def row_latency_us(scorer: Scorer, rows: NDArray[np.float32]) -> float:
    """Microseconds a row (n, features) in batches of 64; the median of rounds, of which the first is not counted."""
    taken = rows[:_MOST_ROWS]
    found = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter_ns()
        for i in range(0, len(taken), BATCH):
            scorer.score(taken[i : i + BATCH])
        found.append((time.perf_counter_ns() - begun) / len(taken) / 1000)
    return float(np.median(found[1:]))
