"""What a holdout says of the blocked: right on average, with intervals that hold the truth; what is merely known is not."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.review.held_out import estimate_blocked
from sentinel.review.matured_fraud import wilson


@pytest.fixture(scope="module")
def simulation():
    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))  # where it finds what prints
    spec = importlib.util.spec_from_file_location("holdout_estimates", folder / "holdout_estimates.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(folder))
    return module


def test_intervals_hold_the_truth_and_what_is_known_alone_is_biased(simulation):
    months = [simulation.month(seed, (0.05, 0.2), payments=20_000) for seed in range(300)]
    found, means = simulation.coverage(months), simulation.means(months)
    assert min(found[name] for name in ("share", "of_all", "recall")) >= 0.93
    for name in ("share", "of_all"):
        off = {by: abs(means[name][by] / means[name]["truth"] - 1) for by in ("estimate", "naive")}
        assert off["estimate"] < 0.04
        assert off["naive"] > 0.1


@given(st.integers(1, 200), st.integers(0, 200), st.sampled_from([0.01, 0.2, 1.0]))
def test_with_one_probability_it_is_the_plain_share_with_wilsons_interval(n, frauds, propensity):
    frauds = min(frauds, n)
    found = estimate_blocked(np.full(n, propensity), np.arange(n) < frauds, 10 * n)
    low, high = wilson(frauds, n)
    assert (found.share, found.low, found.high) == pytest.approx((frauds / n, low, high), abs=1e-9)
    assert (found.effective, found.frauds_held_out) == (pytest.approx(n), frauds)


@given(st.lists(st.tuples(st.sampled_from([0.05, 0.1, 0.5]), st.booleans()), min_size=2, max_size=40))
def test_each_counts_as_often_as_it_stands_for(drawn):
    propensities, is_fraud = np.array([one for one, _ in drawn]), np.array([one for _, one in drawn])
    found = estimate_blocked(propensities, is_fraud, 1_000)
    copies = [label for p, label in drawn for _ in range(round(1 / p))]
    assert found.share == pytest.approx(sum(copies) / len(copies))
    assert found.low - 1e-12 <= found.share <= found.high + 1e-12


def test_nothing_held_out_says_nothing():
    found = estimate_blocked(np.empty(0), np.empty(0, bool), 50)
    assert (found.eligible, found.share, found.fraud_share(3, 100), found.recall(3)) == (50, None, None, None)


def test_recall_and_share_of_all_are_of_what_is_blocked_and_what_got_through():
    found = estimate_blocked(np.full(10, 0.1), np.arange(10) < 5, 100)
    assert found.recall(50).estimate == pytest.approx(0.5)
    assert found.fraud_share(50, 900).estimate == pytest.approx(0.1)
    assert found.recall(0).estimate == 1.0
