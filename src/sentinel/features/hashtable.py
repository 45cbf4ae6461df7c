"""Open addressing with linear probing over two arrays: uint64 keys (0 is free) and int64 values.

The capacity is a power of two and the callers keep the load below one half. Removal shifts the run back, so
there are no tombstones and a table never degrades.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.features.jit import entry, inlined

FREE = np.uint64(0)


@inlined
def locate(keys: NDArray[np.uint64], key: np.uint64) -> int:
    """Index of `key`, or of the free place where it belongs."""
    mask = len(keys) - 1
    i: Any = np.int64(key & np.uint64(mask))
    while keys[i] != FREE and keys[i] != key:
        i = (i + 1) & mask
    return i


@inlined
def remove_at(keys: NDArray[np.uint64], values: NDArray[np.int64], i: int) -> None:
    """Free place i and close the gap behind it."""
    mask = len(keys) - 1
    j = i
    while True:
        j = (j + 1) & mask
        if keys[j] == FREE:
            break
        home = np.int64(keys[j] & np.uint64(mask))
        if ((j - home) & mask) >= ((j - i) & mask):
            keys[i] = keys[j]
            values[i] = values[j]
            i = j
    keys[i] = FREE
    values[i] = 0


@entry
def rehash(
    keys: NDArray[np.uint64],
    values: NDArray[np.int64],
    new_keys: NDArray[np.uint64],
    new_values: NDArray[np.int64],
) -> None:
    """Fill empty new arrays with what the old ones hold."""
    for i in range(len(keys)):
        if keys[i] != FREE:
            place = locate(new_keys, keys[i])
            new_keys[place] = keys[i]
            new_values[place] = values[i]


@inlined
def mix(a: np.uint64, b: np.uint64) -> np.uint64:
    """One well-spread key of two numbers (the finaliser of splitmix64); never FREE."""
    x = a ^ (b * np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return x if x != FREE else np.uint64(1)
