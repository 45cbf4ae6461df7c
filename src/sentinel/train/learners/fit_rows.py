"""What a learner is given: rows, labels and weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

THREADS = 2
"""Threads for fitting: sums over rows depend on their number, so it is always the same."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many trees are done, and how many there may be."""


@dataclass(frozen=True, slots=True)
class FitRows:
    """Rows float32 (n, features), labels int8 (n,) of 0 and 1, and weights float32 (n,). NaN is missing.

    `codes` has, for every column that holds the codes of a category, how many there are: whole numbers from 0 on.
    `begins` float32 (n,) are the log-odds that the sum of each row's trees starts from, where other trees came before.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int8]
    weights: NDArray[np.float32]
    codes: Mapping[int, int] = field(default_factory=dict)
    begins: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def frauds(self) -> int:
        """Number of frauds."""
        return int(np.count_nonzero(self.labels == 1))
