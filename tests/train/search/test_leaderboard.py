"""What the leaderboard says of costs: decided by thresholds that were chosen elsewhere."""

import numpy as np
import pytest
from scipy.special import expit

from sentinel.commands.experiment import leaderboard_lines
from sentinel.detector import Training
from sentinel.policy.costs import Costs
from sentinel.policy.policies import CostGrid, LeastLoss, Policy, declares_costs
from sentinel.policy.sample import Sample
from sentinel.policy.thresholds import ACTIONS
from sentinel.train.figures.fold_precisions import fold_precisions
from sentinel.train.fitting.cross_fit import CrossFit
from sentinel.train.rows.dataset import Part
from sentinel.train.search.leaderboard import FEW_FRAUDS, LIKELY, SURE, Contender, cost_out_of_fold, pays

N = 600
HOUR_US = 3_600_000_000
COSTS = Costs(missed_fraud=15.0, false_alarm=20.0, review=4.0)


def held(seed=1):
    rng = np.random.default_rng(seed)
    labels = (rng.random(N) < 0.2).astype(np.int8)
    logits = rng.normal(size=N) + 2.0 * labels - 1
    rows = np.zeros((N, 1), np.float32)
    return Part(rows, labels, np.arange(N) * HOUR_US, rows, None, rng.gamma(2.0, 40.0, N)), logits


def cost_of_one(action, label, amount):
    """The same by the words of `Costs`."""
    missed = amount + 15.0 if label else 0.0
    return {"approve": missed, "review": 4.0, "block": 0.0 if label else 20.0}[action.value]


@pytest.mark.parametrize("folds", [3, 1])
def test_each_fold_is_decided_by_what_the_others_choose(folds):
    part, logits = held()
    numbers, policy = np.arange(N) * folds // N, LeastLoss(costs=COSTS)
    scores, total = expit(logits).astype(np.float32), 0.0
    for number in range(folds):
        rest = numbers != number if folds > 1 else numbers == number
        sample = Sample(scores[rest], part.labels[rest], part.amounts[rest], part.time_us[rest], int(rest.sum()))
        thresholds = policy.choose(sample)
        for row in np.flatnonzero(numbers == number):
            (level,) = thresholds.levels(scores[row : row + 1].astype(np.float64))
            total += cost_of_one(ACTIONS[level], part.labels[row], part.amounts[row])
    assert cost_out_of_fold(logits, part, numbers, policy) == pytest.approx(total / N)


def test_a_better_ranking_costs_less():
    part, logits = held()
    numbers, policy = np.arange(N) * 3 // N, LeastLoss(costs=COSTS)
    assert cost_out_of_fold(logits, part, numbers, policy) < cost_out_of_fold(-logits, part, numbers, policy)


@pytest.mark.parametrize(
    ("policy", "declares"),
    [(Policy(), False), (Policy(costs=COSTS), True), (LeastLoss(), True), (CostGrid(), True)],
)
def test_the_round_figures_of_a_default_are_no_declaration(policy, declares):
    assert declares_costs(policy) is declares


def test_the_cost_is_shown_where_there_is_one():
    line = {
        "name": "xgboost", "average_precision": {"value": 0.5, "low": 0.4, "high": 0.6}, "recall": {"0.01": 0.7},
        "card_precision_100": None, "fit_s": 1.0, "row_us": None,
    }  # fmt: skip
    head, shown = leaderboard_lines([line | {"cost": 0.1234}], "xgboost")[1:3]
    assert "cost/1,000" in head
    assert "  123.40  " in shown
    assert "  123.40  " not in leaderboard_lines([line | {"cost": None}], "xgboost")[2]


def contender(logits):
    return Contender("one", (CrossFit(Training(), logits, (), (), 0.0, 0.0),))


@pytest.mark.parametrize(("frauds", "is_taken"), [(FEW_FRAUDS - 50, True), (FEW_FRAUDS + 50, False)])
def test_of_few_frauds_a_vote_that_is_likely_better_is_taken(frauds, is_taken):
    rng = np.random.default_rng(3)
    labels = np.zeros(3_000, np.int8)
    labels[rng.choice(len(labels), frauds, replace=False)] = 1
    rows, folds = np.zeros((len(labels), 1), np.float32), np.zeros(len(labels), np.int64)
    single = rng.normal(size=len(labels)) + 2.0 * labels
    vote = single + 0.3 * rng.normal(size=len(labels)) + 0.08 * labels
    part = Part(rows, labels, np.arange(len(labels)), rows)
    drawn = fold_precisions([vote, single], labels, folds, None, 1)
    assert drawn[0, 0] > drawn[1, 0]
    assert LIKELY < (drawn[0, 1:] > drawn[1, 1:]).mean() < SURE
    assert pays(contender(vote), contender(single), part, folds, 1) is is_taken
    assert not pays(contender(single), contender(vote), part, folds, 1)
