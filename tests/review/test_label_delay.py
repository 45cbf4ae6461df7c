"""The delay of labels is estimated from what is known by now, which is what came quickly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.review.label_delay import ASSUMED_US, FEWEST, estimate_delay, known_within

DAY = 86_400_000_000


def by_hand(delays, ages):
    """The product-limit estimate in reverse time as it is written down."""
    shares, above = {}, 1.0
    for step in sorted(set(delays), reverse=True):
        shares[step] = above
        at_risk = sum(delay <= step <= age for delay, age in zip(delays, ages, strict=True))
        above *= 1 - delays.count(step) / at_risk
    return shares


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=40))
def test_it_is_the_product_limit_estimate(pairs):
    delays, ages = [delay for delay, _ in pairs], [delay + more for delay, more in pairs]
    steps, known = known_within(np.array(delays), np.array(ages))
    assert dict(zip(steps.tolist(), known.tolist(), strict=True)) == pytest.approx(by_hand(delays, ages))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_where_all_are_old_it_is_the_share_that_was_seen(delays):
    steps, known = known_within(np.array(delays), np.full(len(delays), 50))
    assert known == pytest.approx([np.mean(np.array(delays) <= step) for step in steps])


def test_it_finds_a_delay_of_which_only_the_quick_part_is_known_by_now():
    """Frauds of 60 days, known after 12 days on average: three of the youngest four are not known yet."""
    rng = np.random.default_rng(5)
    ages, delays = rng.uniform(0, 60, 20_000), rng.exponential(12, 20_000)
    is_known = delays <= ages
    found = estimate_delay((delays[is_known] * DAY).astype(np.int64), (ages[is_known] * DAY).astype(np.int64))
    true = np.quantile(delays[delays <= 60], 0.95) * DAY
    assert abs(found.mature_us - true) < 2.5 * DAY
    assert found.naive_us < true - 6 * DAY
    assert not found.is_assumed


def test_of_few_frauds_nothing_is_estimated():
    found = estimate_delay([DAY] * (FEWEST - 1), [2 * DAY] * (FEWEST - 1))
    assert (found.is_assumed, found.mature_us, found.frauds) == (True, ASSUMED_US, FEWEST - 1)
    assert estimate_delay([], []).longest_us == 0
