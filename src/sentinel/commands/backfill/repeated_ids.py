"""Whether an id is there twice, in a history of any length: hashes in a file are compared a share at a time."""

from typing import BinaryIO

import numpy as np
import polars as pl

_AT_ONCE = 1 << 22  # hashes


class IdsSeen:
    """The ids so far, as hashes in a file that is open for writing and reading, 8 bytes each."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._file.seek(0, 2)

    def add(self, ids: pl.Series) -> None:
        """Take the ids of some rows (n,)."""
        self._file.write(ids.hash().to_numpy().tobytes())

    def has_repeats(self) -> bool:
        """Whether two of them are the same, or, once in 2**64 pairs, only have the same hash."""
        count = self._file.tell() // 8
        shares = np.uint64(-(-count // _AT_ONCE) or 1)
        return any(self._has_repeats_in(np.uint64(share), shares) for share in range(int(shares)))

    def _has_repeats_in(self, share: np.uint64, shares: np.uint64) -> bool:
        self._file.seek(0)
        found = []
        while len(piece := self._file.read(8 * _AT_ONCE)):
            hashes = np.frombuffer(piece, np.uint64)
            found.append(hashes if shares == 1 else hashes[hashes % shares == share])
        ordered = np.sort(np.concatenate(found)) if found else np.empty(0, np.uint64)
        return bool((ordered[1:] == ordered[:-1]).any())
