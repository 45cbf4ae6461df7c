"""How a column lay in training and lies now: shares that add up, and quantiles that one finds by sorting."""

import numpy as np
import pytest

from sentinel.model.reference import Reference
from sentinel.review.drift import DriftMonitor, DriftSettings
from sentinel.review.drift_distribution import distribution

ROWS = 2_000


@pytest.fixture
def reference():
    rng = np.random.default_rng(5)
    rows = np.column_stack(
        [np.where(rng.random(ROWS) < 0.1, np.nan, rng.lognormal(2, 1, ROWS)), rng.integers(0, 3, ROWS)]
    )
    return Reference.learn(("amount", "country"), ("numeric", "categorical"), rows, rng.random(ROWS))


def test_shares_add_up_and_are_those_that_one_counts(reference):
    values = np.array([1.0, 5.0, 5.0, 1e6, np.nan], np.float32)
    found = distribution(reference.features[0], values)
    assert sum(one.then for one in found.bins) == pytest.approx(1)
    assert sum(one.now for one in found.bins) == pytest.approx(1)
    *_, rest, missing = found.bins
    assert (rest.what, rest.now, missing.what, missing.now) == ("rest", 0.2, "missing", 0.2)
    assert missing.then == pytest.approx(0.1, abs=0.03)


def test_quantiles_now_are_those_of_the_sorted_values(reference):
    values = np.arange(1, 101, dtype=np.float32)
    found = distribution(reference.features[0], values)
    assert {one.share: one.now for one in found.quantiles} == {
        0.01: 1, 0.05: 5, 0.25: 25, 0.5: 50, 0.75: 75, 0.95: 95, 0.99: 99,
    }  # fmt: skip
    then = [one.then for one in found.quantiles]
    assert then == sorted(then)


def test_words_have_no_quantiles_and_an_empty_window_no_shares(reference):
    found = distribution(reference.features[1], np.empty(0, np.float32))
    assert found.quantiles == []
    assert {one.now for one in found.bins} == {None}
    assert [one.value for one in found.bins if one.what == "value"] == [0.0, 1.0, 2.0]


def test_a_monitor_shows_its_window_and_since_when_a_feature_moved(reference):
    monitor = DriftMonitor(reference, DriftSettings(window=1_000, least_rows=500, stride=100))
    rng = np.random.default_rng(6)
    rows = np.column_stack([np.full(600, 1e5), rng.integers(0, 3, 600)])
    monitor.observe(rows, rng.random(600))
    first = monitor.report(10_000.0)
    assert first.since_s["amount"] == 10_000.0
    monitor.observe(rows, rng.random(600))
    assert monitor.report(9_999_999.0).since_s["amount"] == 10_000.0
    assert monitor.distribution("amount").rows_now == 1_000
    assert monitor.distribution("score").name == "score"
    assert monitor.distribution("nothing") is None
    monitor.reset()
    assert monitor.distribution("amount").rows_now == 0
    assert "amount" not in monitor.report(9_999_999.5).since_s
