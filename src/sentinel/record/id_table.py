"""A table in memory: from hashes of transaction ids to numbers, without a Python object for any of them."""

import secrets

import numpy as np
from numpy.typing import NDArray

from sentinel.features.jit import entry
from sentinel.features.table import mix

_FEW = 64


class IdTable:
    """Numbers by the hash of an id. Hashes may be alike and are never 0, which marks a free slot.

    Slots are salted: whoever chooses ids cannot choose where they come to lie. `numbers_of` may be asked from any
    thread.
    """

    def __init__(self, slots: int) -> None:
        """`slots` is a power of two."""
        self.hashes = np.zeros(slots, np.uint64)
        self.numbers = np.zeros(slots, np.int64)
        self._shift = np.uint64(65 - slots.bit_length())
        self._salt = np.uint64(secrets.randbits(64))
        self.count = 0

    def put(self, hashes: NDArray[np.uint64], numbers: NDArray[np.int64]) -> None:
        """Add ids; there are no more of them than free slots."""
        _put(self.hashes, self.numbers, self._shift, self._salt, hashes, numbers)
        self.count += len(hashes)

    def numbers_of(self, hashes: NDArray[np.uint64]) -> list[int]:
        """All numbers that one of these hashes has."""
        found = np.empty(_FEW, np.int64)
        while (count := _find(self.hashes, self.numbers, self._shift, self._salt, hashes, found)) > len(found):
            found = np.empty(count, np.int64)
        return found[:count].tolist() if count else []

    def with_room_for(self, more: int) -> "IdTable":
        """This table if a quarter of it stays free after adding `more`; else a larger one with the same numbers."""
        if self.count + more <= len(self.hashes) * 3 // 4:
            return self
        used = self.hashes != 0
        larger = IdTable(1 << ((self.count + more) * 4 // 3).bit_length())
        larger.put(self.hashes[used], self.numbers[used])
        return larger


@entry
def _put(
    hashes: NDArray[np.uint64], numbers: NDArray[np.int64], shift: np.uint64, salt: np.uint64,
    new_hashes: NDArray[np.uint64], new_numbers: NDArray[np.int64],
) -> None:  # fmt: skip
    mask = len(hashes) - 1
    for n in range(len(new_hashes)):
        slot = np.int64(mix(new_hashes[n], salt) >> shift)
        while hashes[slot] != 0:
            slot = (slot + 1) & mask
        numbers[slot] = new_numbers[n]
        hashes[slot] = new_hashes[n]


@entry
def _find(
    hashes: NDArray[np.uint64], numbers: NDArray[np.int64], shift: np.uint64, salt: np.uint64,
    asked: NDArray[np.uint64], found: NDArray[np.int64],
) -> int:  # fmt: skip
    """How many numbers there are; as many of them as fit are in `found`."""
    mask, count = len(hashes) - 1, 0
    for n in range(len(asked)):
        slot = np.int64(mix(asked[n], salt) >> shift)
        while hashes[slot] != 0:
            if hashes[slot] == asked[n]:
                if count < len(found):
                    found[count] = numbers[slot]
                count += 1
            slot = (slot + 1) & mask
    return count
