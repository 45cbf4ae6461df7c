"""How many different values there are: exact when few, close when many, whatever their order and repeats."""

import numpy as np
import pytest

from sentinel.inspect.distinct import EXACT, Distinct


def counted(*parts):
    found = Distinct()
    for part in parts:
        found.add(part)
    return found


def hashes(n, seed=1):
    return np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)


@pytest.mark.parametrize("n", [0, 1, 2, 1_000, EXACT])
def test_few_are_counted(n):
    values = hashes(n)
    found = counted(values, values[::-1], values[: n // 2])
    assert (found.count, found.is_exact) == (n, True)


@pytest.mark.parametrize("n", [150_000, 1_000_000, 3_000_000])
def test_many_are_estimated_within_three_percent(n):
    values = hashes(n)
    found = counted(*np.array_split(values, 13), values[:1_000])
    assert not found.is_exact
    assert abs(found.count / n - 1) < 0.03


def test_the_order_and_the_parts_do_not_matter():
    values = hashes(200_000)
    assert counted(values).count == counted(*np.array_split(values[::-1], 7), values).count
