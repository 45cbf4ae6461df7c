"""Search in sorted values, for kernel functions."""

import numpy as np
from numpy.typing import NDArray

from sentinel.features.jit import inlined


@inlined
def first_from(values: NDArray[np.uint64], low: int, high: int, wanted: np.uint64) -> int:
    """The first place of the sorted values from `low` up to `high` that is not below `wanted`; `high` if all are."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low
