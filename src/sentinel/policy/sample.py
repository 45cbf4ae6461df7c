"""A sample of transactions that thresholds are chosen and judged on."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DAY_US = 86_400_000_000
_SHORTEST_US = DAY_US // 24


class Sample(NamedTuple):
    """Transactions with known outcomes, scored by a model that did not learn from them: n of them.

    - `scores` (n,), `labels` int8 (n,) with 1 for fraud, `amounts` float64 (n,) of at least 0, `times_us` int64 (n,).
    - `transactions`: how many there were in the same time, those without an outcome included.
    """

    scores: NDArray[np.floating[Any]]
    labels: NDArray[np.int8]
    amounts: NDArray[np.float64]
    times_us: NDArray[np.int64]
    transactions: int

    @property
    def days(self) -> float:
        """How long a time they are of; an hour at least."""
        span = int(self.times_us.max() - self.times_us.min()) if len(self.times_us) else 0
        return max(span, _SHORTEST_US) / DAY_US

    @property
    def a_day(self) -> float:
        """For how many transactions a day each of them stands."""
        return self.transactions / max(len(self.labels), 1) / self.days
