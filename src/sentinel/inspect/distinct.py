"""How many different values a column has, in bounded memory."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

EXACT = 100_000
"""Up to so many they are counted; beyond, estimated to within two percent or so."""

_INDEX_BITS, _REST_BITS = 14, 50
_REGISTERS = 1 << _INDEX_BITS


class Distinct:
    """Counts different 64-bit hashes: a set as long as it is small, then HyperLogLog (Flajolet and others, 2007).

    >>> found = Distinct()
    >>> found.add(np.array([7, 9, 7], np.uint64))
    >>> found.count, found.is_exact
    (2, True)
    """

    def __init__(self) -> None:
        self._seen = pl.Series([], dtype=pl.UInt64)
        self._registers = np.zeros(_REGISTERS, np.uint8)
        self.is_exact = True

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Take these hashes, in any order and as often as they come."""
        if self.is_exact:
            self._seen = self._seen.append(pl.Series(hashes)).unique()
            self.is_exact = len(self._seen) <= EXACT
            if not self.is_exact:
                self._seen = self._seen.clear()
        rest = hashes & np.uint64((1 << _REST_BITS) - 1)
        _, length = np.frexp(rest.astype(np.float64))  # bits up to the first that is set; 50 bits are exact in a float
        rank = (_REST_BITS + 1 - length).astype(np.uint8)
        np.maximum.at(self._registers, (hashes >> np.uint64(_REST_BITS)).astype(np.int64), rank)

    @property
    def count(self) -> int:
        """How many there are."""
        if self.is_exact:
            return len(self._seen)
        alpha = 0.7213 / (1 + 1.079 / _REGISTERS)
        return round(alpha * _REGISTERS**2 / float(np.sum(np.exp2(-self._registers.astype(np.float64)))))
