"""What the curve says of thresholds is what counting one transaction after the other says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sentinel import Costs
from sentinel.policy.sample import DAY_US, Sample
from sentinel.policy.score_curve import MOST_POINTS, ScoreCurve
from sentinel.policy.thresholds import Action, Thresholds

COSTS = Costs(missed_fraud=3.0, false_alarm=20.0, review=4.0, challenge=0.5, challenge_lost=0.1, challenge_stops=0.8)
unit = st.floats(0, 1, width=32)


@st.composite
def samples(draw):
    n = draw(st.integers(1, 30))
    scores = draw(arrays(np.float32, n, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]) | unit))
    labels = draw(arrays(np.int8, n, elements=st.integers(0, 1)))
    amounts = draw(arrays(float, n, elements=st.floats(0, 900)))
    times = np.linspace(0, draw(st.sampled_from([1, 2.5])) * DAY_US, n).astype(np.int64)
    return Sample(scores, labels, amounts, times, n * draw(st.integers(1, 3)))


def thresholds(draw_from):
    low, middle, high = sorted(draw_from)
    return Thresholds(middle, high, low)


def lost(action, is_fraud, amount):
    missed = (amount + 3.0) if is_fraud else 0.0
    return {
        Action.APPROVE: missed,
        Action.CHALLENGE: 0.5 + 0.2 * missed + (0.0 if is_fraud else 2.0),
        Action.REVIEW: 4.0,
        Action.BLOCK: 0.0 if is_fraud else 20.0,
    }[action]


@given(samples(), st.lists(unit, min_size=3, max_size=3), st.booleans(), st.booleans())
def test_the_consequences_are_those_of_one_transaction_after_the_other(sample, begins, blocks, challenges):
    chosen = thresholds(begins)
    chosen = Thresholds(chosen.review, chosen.block if blocks else None, chosen.challenge if challenges else None)
    found = ScoreCurve.of(sample, chosen.begins).consequences(chosen, COSTS)
    rows = [
        (chosen.action(score), label == 1, amount)
        for score, label, amount in zip(sample.scores.tolist(), sample.labels, sample.amounts.tolist(), strict=True)
    ]
    cost = sum(lost(*row) for row in rows)
    assert found.cost == pytest.approx(cost, abs=1e-6)
    assert found.cost_a_day == pytest.approx(cost / sample.days, abs=1e-6)
    assert found.saved == pytest.approx(sum(lost(Action.APPROVE, *row[1:]) for row in rows) - cost, abs=1e-6)
    caught = sum(fraud and action is not Action.APPROVE for action, fraud, _ in rows)
    alarms, frauds = sum(action is not Action.APPROVE for action, *_ in rows), sum(fraud for _, fraud, _ in rows)
    assert found.precision == (caught / alarms if alarms else None)
    assert found.recall == (caught / frauds if frauds else None)
    for name, action in (("challenges", "challenge"), ("reviews", "review"), ("blocks", "block")):
        counted = sum(one == action for one, *_ in rows)
        assert getattr(found, f"{name}_a_day") == pytest.approx(counted * sample.a_day)


def test_of_many_scores_some_hundred_points_are_kept_which_are_exact():
    rng = np.random.default_rng(2)
    labels = (rng.random(50_000) < 0.01).astype(np.int8)
    scores = np.where(labels == 1, rng.beta(4, 2, 50_000), rng.beta(1, 20, 50_000)).astype(np.float32)
    sample = Sample(scores, labels, np.ones(50_000), np.arange(50_000), 50_000)
    curve = ScoreCurve.of(sample, (0.123,))
    assert 100 < len(curve.points) <= MOST_POINTS + 2
    assert 0.123 in curve.points
    for point, frauds, others in zip(curve.points, curve.frauds, curve.others, strict=True):
        assert (frauds, others) == (np.sum(labels[scores >= point]), np.sum(1 - labels[scores >= point]))
    highest = curve.points[-1]
    assert curve.frauds[-1] + curve.others[-1] <= 3, f"the upper end begins at {highest}"


@pytest.mark.parametrize("moved", [Action.CHALLENGE, Action.REVIEW, Action.BLOCK])
def test_in_a_sweep_the_other_thresholds_give_way(moved):
    scores = np.linspace(0, 1, 21).astype(np.float32)
    sample = Sample(scores, (scores > 0.7).astype(np.int8), np.full(21, 50.0), np.arange(21), 21)
    own = Thresholds(0.5, 0.8, 0.2)
    rows = ScoreCurve.of(sample, own.begins).sweep(own, moved, COSTS)
    at = [getattr(row.thresholds, moved) for row in rows]
    assert at == sorted(at)
    assert all(row.thresholds.challenge <= row.thresholds.review <= row.thresholds.block for row in rows)
    as_it_is = next(row for row in rows if row.thresholds == own)
    assert as_it_is == ScoreCurve.of(sample, own.begins).consequences(own, COSTS)
