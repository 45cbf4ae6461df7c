"""Reliability: every row is in one bin, and the error is what the definition says."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentinel.train.figures.reliability import BINS, calibration_error, reliability


@given(st.integers(0, 2**32 - 1))
def test_every_row_is_in_one_bin_and_equal_scores_share_it(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    scores = np.round(rng.beta(0.3, 3, n), int(rng.integers(1, 4))).astype(np.float32)
    labels = (rng.random(n) < scores).astype(np.int8)
    found = reliability(scores, labels)
    assert 1 <= len(found) <= BINS
    assert sum(one.rows for one in found) == n
    assert sum(one.frauds for one in found) == labels.sum()
    assert np.isclose(sum(one.expected for one in found), scores.sum(dtype=np.float64))
    assert all(one.high < other.low for one, other in itertools.pairwise(found))
    by_hand = 0.0
    for one in found:
        here = (scores >= np.float32(one.low)) & (scores <= np.float32(one.high))
        assert here.sum() == one.rows
        by_hand += here.mean() * abs(scores[here].mean(dtype=np.float64) - labels[here].mean())
    assert np.isclose(calibration_error(scores, labels), by_hand)


def test_true_probabilities_have_a_small_error_and_doubled_ones_a_large_one():
    rng = np.random.default_rng(5)
    scores = rng.beta(0.5, 20, 200_000)
    labels = (rng.random(len(scores)) < scores).astype(np.int8)
    true, doubled = calibration_error(scores, labels), calibration_error(np.minimum(2 * scores, 1), labels)
    assert true < 0.001
    assert 0.02 < doubled < 0.03  # the mean score is 0.0244


def test_no_rows_have_no_error():
    assert reliability(np.zeros(0), np.zeros(0, np.int8)) == []
    assert calibration_error(np.zeros(0), np.zeros(0, np.int8)) == 0.0
