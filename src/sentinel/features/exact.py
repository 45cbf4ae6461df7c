"""Whole numbers for the kernel: what is added up never rounds, whatever enters and leaves.

Sums of squares have 128 bits: pairs (high, low) of uint64, modulo 2**128. Logarithms are counted in whole steps.
"""

import math

import numpy as np

from sentinel.features.jit import entry, inlined

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)

_LOG_BITS = 30
LOG_UNITS = 1 << _LOG_BITS
"""Steps of a logarithm to 1."""
_MANTISSA = 31  # bits behind the point
_TWO = np.uint64(1) << np.uint64(_MANTISSA + 1)


@inlined
def multiply(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The full product of two uint64."""
    a_high, a_low = a >> _32, a & _LOW
    b_high, b_low = b >> _32, b & _LOW
    low = a_low * b_low
    middle = a_high * b_low + (low >> _32)
    other = a_low * b_high + (middle & _LOW)
    high = a_high * b_high + (middle >> _32) + (other >> _32)
    return high, (other << _32) | (low & _LOW)


@inlined
def add(high: np.uint64, low: np.uint64, by_high: np.uint64, by_low: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Sum of two pairs."""
    total = low + by_low
    carry = _ONE if total < low else _ZERO
    return high + by_high + carry, total


@inlined
def subtract(high: np.uint64, low: np.uint64, by_high: np.uint64, by_low: np.uint64) -> tuple[np.uint64, np.uint64]:
    """First pair less the second."""
    borrow = _ONE if low < by_low else _ZERO
    return high - by_high - borrow, low - by_low


@inlined
def magnitude(value: np.int64) -> np.uint64:
    """|value| as uint64."""
    return np.uint64(value) if value >= 0 else np.uint64(-value)


@inlined
def to_float(high: np.uint64, low: np.uint64) -> float:
    """The nearest float64, ties to even, as Python rounds a large int."""
    if high == _ZERO:
        return np.float64(low)
    shift = 0
    while high != _ZERO:
        lost = low & _ONE
        low = (low >> _ONE) | ((high & _ONE) << np.uint64(63)) | lost
        high = high >> _ONE
        shift += 1
    return math.ldexp(np.float64(low), shift)


@inlined
def variance_numerator(n: np.int64, total: np.int64, high: np.uint64, low: np.uint64) -> float:
    """N * sum(x^2) - sum(x)^2, exact before it is rounded once; (high, low) is sum(x^2)."""
    count = np.uint64(n)
    left_high, left_low = multiply(count, low)
    left_high += count * high
    size = magnitude(total)
    right_high, right_low = multiply(size, size)
    return to_float(*subtract(left_high, left_low, right_high, right_low))


@entry
def times_log(n: int) -> int:
    """N log2 n in units of 1/LOG_UNITS, for n < 2**27; the logarithm is cut off, so it never falls. 0 for 0.

    It is taken bit by bit, by squaring what is left: with whole numbers alone it is the same on every machine.
    """
    if n <= 1:
        return 0
    whole = 0
    while (n >> whole) > 1:
        whole += 1
    rest = np.uint64(n) << np.uint64(_MANTISSA - whole)
    log = whole
    for _ in range(_LOG_BITS):
        rest = (rest * rest) >> np.uint64(_MANTISSA)
        log <<= 1
        if rest >= _TWO:
            rest >>= _ONE
            log |= 1
    return n * log
