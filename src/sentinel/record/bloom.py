"""A Bloom filter in blocks of one cache line, and how compiled code asks it at its address."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from sentinel.features.jit import entry, inlined

_BITS, _WORDS = 12, 8  # bits for one key; words of 64 bits in a block
_ODD, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
_ONE, _SIX, _LOW = np.uint64(1), np.uint64(6), np.uint64(63)


class BloomFilter:
    """Rules out 99.6 % of the keys that were never added.

    A key sets one bit in each word of one block, so that to ask for it touches one or two cache lines. The blocks
    stand in the order of the keys: keys that are added in their order fill the filter from front to back.
    """

    def __init__(self, most: int) -> None:
        """Room for up to `most` keys."""
        self.blocks = most * _BITS // (64 * _WORDS) + 1
        self.words = np.zeros(self.blocks * _WORDS, np.uint64)

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Add keys (n,)."""
        _add(self.words, keys)


@intrinsic  # type: ignore[untyped-decorator]
def word_at(_context: Any, _address: Any) -> Any:
    """The 64 bits at an address (uint64)."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.PointerType(ir.IntType(64))))

    return types.uint64(types.uint64), generate


@inlined
def block_at(bloom: np.uint64, blocks: np.uint64, key: np.uint64) -> np.uint64:
    """The address of the block of a key in a filter whose words are at the address `bloom`."""
    return bloom + np.uint64(8 * _WORDS) * (((key >> _HALF) * blocks) >> _HALF)


@inlined
def may_hold(block: np.uint64, key: np.uint64) -> bool:
    """Whether the block at this address has all bits of a key."""
    missing, spread = np.uint64(0), key * _ODD
    for n in range(_WORDS):
        missing |= (_ONE << (spread & _LOW)) & ~word_at(block + np.uint64(8 * n))
        spread >>= _SIX
    return bool(missing == 0)


@entry
def _add(words: NDArray[np.uint64], keys: NDArray[np.uint64]) -> None:
    blocks = np.uint64(len(words) // _WORDS)
    for key in keys:
        word, spread = np.int64(block_at(np.uint64(0), blocks, key) >> np.uint64(3)), key * _ODD
        for n in range(_WORDS):
            words[word + n] |= _ONE << (spread & _LOW)
            spread >>= _SIX
