"""The special functions that bounds are made of: what SciPy has too, without asking a server to install it."""

import math
from functools import lru_cache

_TINY = 1e-300
_NEWTON_STEPS = 12
_MOST_DEGREES = 10**9
_STIRLING_FROM = 100.0


def chi2_tail(degrees: int, x: float) -> float:
    """The chance that chi2 with so many degrees of freedom, 1 to a billion, exceeds x, 0 or more.

    The regularised upper incomplete gamma function: a series for what is below, or a continued fraction (Lentz). Either
    needs a few square roots of `degrees` steps. Raises ValueError for more degrees, which would take seconds.

    >>> round(chi2_tail(10, 18.307), 4)
    0.05
    """
    if degrees > _MOST_DEGREES:
        raise ValueError(f"chi2 with {degrees} degrees of freedom; up to {_MOST_DEGREES} can be computed")
    a, half = degrees / 2.0, x / 2.0
    if half <= 0:
        return 1.0
    scale = _scale(a, half)
    if half < a + 1.0:
        return 1.0 - scale * _series(a, half)
    return scale * _continued_fraction(a, half)


def _scale(a: float, x: float) -> float:
    """x^a exp(-x) / gamma(a). For a large `a` by Stirling's series: the parts of the exponent would cancel out."""
    if a < _STIRLING_FROM:
        return math.exp(a * math.log(x) - x - math.lgamma(a))
    off = (x - a) / a
    exponent = a * (math.log1p(off) - off) if off > -1.0 else -math.inf
    return math.sqrt(a / (2.0 * math.pi)) * math.exp(exponent - 1.0 / (12.0 * a) + 1.0 / (360.0 * a**3))


def _most_steps(a: float) -> int:
    """After so many steps every term is far below the last bit of the sum."""
    return 500 + int(20.0 * math.sqrt(a))


def _series(a: float, x: float) -> float:
    term = total = 1.0 / a
    for n in range(1, _most_steps(a)):
        term *= x / (a + n)
        total += term
        if term < total * 1e-17:
            break
    return total


def _continued_fraction(a: float, x: float) -> float:
    b = x + 1.0 - a
    c, d = 1.0 / _TINY, 1.0 / b
    fraction = d
    for n in range(1, _most_steps(a)):
        above = -n * (n - a)
        b += 2.0
        d, c = 1.0 / _not_zero(above * d + b), _not_zero(b + above / c)
        fraction *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return fraction


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


@lru_cache(maxsize=1024)  # the columns of a model ask for the same again and again
def chi2_quantile(degrees: int, alpha: float) -> float:
    """What chi2 with so many degrees of freedom exceeds with the chance `alpha`, above 0 and below 1.

    >>> round(chi2_quantile(10, 0.05), 3)
    18.307
    """
    low, high = 0.0, float(degrees) + 10.0
    while chi2_tail(degrees, high) > alpha:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if chi2_tail(degrees, middle) > alpha else (low, middle)
    return (low + high) / 2.0


def lambert_below(z: float) -> float:
    """The lower real branch of Lambert's W: the w, -1 or less, with w exp(w) = z, for a z from -1/e up to below 0.

    By Newton's method on w + ln(-w) = ln(-z), from the first terms of its series at either end.

    >>> round(lambert_below(-0.2), 6)
    -2.542641
    """
    logarithm = math.log(-z)
    near = math.sqrt(max(-2.0 * (1.0 + logarithm), 0.0))  # 0 at -1/e
    w = -1.0 - near - near * near / 3.0 if near < 1.0 else logarithm - math.log(-logarithm)
    for _ in range(_NEWTON_STEPS):
        if w > -1.0 - 1e-15:
            return -1.0
        step = (w + math.log(-w) - logarithm) / (1.0 + 1.0 / w)
        w -= step
        if abs(step) <= 1e-14 * -w:
            break
    return min(w, -1.0)


def relative_entropy(q: float, p: float) -> float:
    """Of one part: q ln(q / p), 0 for a q of 0; infinite where p is 0 and q is not."""
    if q == 0:
        return 0.0
    return q * (math.log(q) - math.log(p)) if p > 0 else math.inf
