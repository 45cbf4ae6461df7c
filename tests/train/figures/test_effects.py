"""Money and work a day: the figures are those of the curve, and their intervals hold what they should."""

import numpy as np
import pytest

from sentinel import Costs
from sentinel.policy.sample import DAY_US, Sample
from sentinel.policy.score_curve import ScoreCurve
from sentinel.policy.thresholds import Thresholds
from sentinel.train.figures.effects import effects

COSTS = Costs(false_alarm=20.0, review=4.0, challenge=0.5)
THRESHOLDS = Thresholds(0.6, 0.9, 0.5)


def sample_of(seed, n=4000):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.05).astype(np.int8)
    scores = np.where(labels == 1, rng.beta(4, 2, n), rng.beta(1, 8, n)).astype(np.float32)
    return Sample(scores, labels, rng.uniform(20, 200, n), np.linspace(0, 4 * DAY_US, n).astype(np.int64), 2 * n)


def test_the_figures_are_those_of_the_curve():
    sample = sample_of(1)
    found, curve = effects(sample, THRESHOLDS, COSTS), ScoreCurve.of(sample, THRESHOLDS.begins)
    expected = curve.consequences(THRESHOLDS, COSTS)
    assert found.cost_a_day.value == pytest.approx(expected.cost_a_day)
    assert found.saved_a_day.value == pytest.approx(expected.saved / sample.days)
    for name in ("challenges_a_day", "reviews_a_day", "blocks_a_day"):
        assert getattr(found, name).value == pytest.approx(getattr(expected, name))
        assert getattr(found, name).low <= getattr(found, name).value <= getattr(found, name).high


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    truth = np.mean([effects(sample_of(seed), THRESHOLDS, COSTS).cost_a_day.value for seed in range(1000, 1200)])
    found = [effects(sample_of(seed), THRESHOLDS, COSTS).cost_a_day for seed in range(100)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.88 <= held <= 1.0  # 95 of 100; fewer than 88 would be three standard deviations below


def test_the_same_seed_gives_the_same_interval():
    sample = sample_of(1)
    assert effects(sample, THRESHOLDS, COSTS, seed=3) == effects(sample, THRESHOLDS, COSTS, seed=3)
    assert effects(sample, THRESHOLDS, COSTS, seed=3) != effects(sample, THRESHOLDS, COSTS, seed=4)
