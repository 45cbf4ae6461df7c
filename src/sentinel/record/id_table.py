"""A table in memory: from hashes of transaction ids to numbers, without a Python object for any of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sentinel.features.jit import entry


class IdTable:
    """Numbers by the hash of an id, placed by the first bits of the hash: from slot to slot they are in order.

    Hashes may be alike and are never 0, which marks a free slot. `numbers_of` may be asked from any thread.
    """

    def __init__(self, slots: int) -> None:
        """`slots` is a power of two."""
        self.hashes = np.zeros(slots, np.uint64)
        self.numbers = np.zeros(slots, np.int64)
        self.count = 0
        self.newest = 0

    def put(self, hashes: NDArray[np.uint64], numbers: NDArray[np.int64]) -> None:
        """Add ids; there are no more of them than free slots."""
        _put(self.hashes, self.numbers, _shift(self.hashes), hashes, numbers)
        self.count += len(hashes)
        self.newest = int(numbers.max(initial=self.newest))

    def numbers_of(self, hashes: NDArray[np.uint64]) -> Iterator[int]:
        """All numbers that one of these hashes has."""
        mask = len(self.hashes) - 1
        held = np.zeros(len(hashes), np.bool_)
        _find(self.hashes, _shift(self.hashes), hashes, held)
        for one in hashes[held].tolist():
            slot = one >> int(_shift(self.hashes))
            while self.hashes[slot]:
                if self.hashes[slot] == one:
                    yield int(self.numbers[slot])
                slot = (slot + 1) & mask

    def has_room_for(self, more: int) -> bool:
        """Whether a quarter of the slots stays free with so many more."""
        return self.count + more <= len(self.hashes) * 3 // 4

    def with_room_for(self, more: int) -> "IdTable":
        """This table if it has room for so many more; else a larger one with the same numbers."""
        if self.has_room_for(more):
            return self
        used = self.hashes != 0
        larger = IdTable(slots_for(self.count + more))
        larger.put(self.hashes[used], self.numbers[used])
        return larger


def slots_for(count: int) -> int:
    """Slots of which a quarter stays free with so many numbers."""
    return 1 << (count * 4 // 3).bit_length()


def _shift(hashes: NDArray[np.uint64]) -> np.uint64:
    """By how much a hash is shifted to give its slot."""
    return np.uint64(65 - len(hashes).bit_length())


@entry
def _put(
    hashes: NDArray[np.uint64], numbers: NDArray[np.int64], shift: np.uint64, new_hashes: NDArray[np.uint64],
    new_numbers: NDArray[np.int64],
) -> None:  # fmt: skip
    mask = len(hashes) - 1
    for n in range(len(new_hashes)):
        slot = np.int64(new_hashes[n] >> shift)
        while hashes[slot] != 0:
            slot = (slot + 1) & mask
        numbers[slot] = new_numbers[n]
        hashes[slot] = new_hashes[n]


@entry
def _find(hashes: NDArray[np.uint64], shift: np.uint64, asked: NDArray[np.uint64], held: NDArray[np.bool_]) -> None:
    mask = len(hashes) - 1
    for n in range(len(asked)):
        slot = np.int64(asked[n] >> shift)
        while hashes[slot] != 0 and hashes[slot] != asked[n]:
            slot = (slot + 1) & mask
        held[n] = hashes[slot] == asked[n]
