"""What is done about few frauds happens to the training rows alone, from a seed, and leaves real rows as they are."""

import numpy as np
import pytest

from sentinel.detector import Training
from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.learner import LogisticRegression, XGBoost
from sentinel.train.fitting.fit import fit
from sentinel.train.fitting.imbalance import balanced
from sentinel.train.learners.fit_rows import FitRows
from sentinel.train.rows.dataset import Part

N, FRAUDS = 600, 24


@pytest.fixture
def train():
    """Numbers of very different sizes, a column with gaps that frauds have more often, and codes."""
    rng = np.random.default_rng(3)
    labels = np.zeros(N, np.int8)
    labels[rng.choice(N, FRAUDS, replace=False)] = 1
    rows = np.column_stack(
        [rng.normal(size=N), 1e6 * rng.normal(size=N), rng.integers(0, 3, N), rng.normal(size=N)]
    ).astype(np.float32)
    rows[labels == 1, 2] = rng.choice([0, 2], FRAUDS)  # no fraud has the code 1
    rows[rng.random(N) < np.where(labels == 1, 0.7, 0.1), 3] = np.nan
    return FitRows(rows, labels, np.ones(N, np.float32), {2: 3})


def test_none_changes_nothing(train):
    assert balanced(train, "none", 1) is train


def test_class_weights_make_both_kinds_weigh_the_same(train):
    found = balanced(train, "class_weight", 1)
    assert found.rows is train.rows
    assert found.weights[train.labels == 1].sum() == pytest.approx(N - FRAUDS)
    assert (found.weights[train.labels == 0] == 1).all()


def test_undersampling_keeps_every_fraud_and_as_many_others_in_their_order(train):
    found = balanced(train, "undersample", 1)
    assert (len(found), found.frauds) == (2 * FRAUDS, FRAUDS)
    kept = {row.tobytes(): n for n, row in enumerate(train.rows)}
    order = [kept[row.tobytes()] for row in found.rows]
    assert order == sorted(order)
    assert set(np.flatnonzero(train.labels)) <= set(order)


def test_synthetic_frauds_come_after_the_real_rows_and_lie_among_the_real_frauds(train):
    found = balanced(train, "smote", 1)
    assert (len(found), found.frauds) == (2 * (N - FRAUDS), N - FRAUDS)
    assert found.rows[:N].tobytes() == train.rows.tobytes()
    assert (found.labels[N:] == 1).all()
    made, frauds = found.rows[N:], train.rows[train.labels == 1]
    for column in (0, 1):
        assert made[:, column].min() >= frauds[:, column].min() * (1 + 1e-6) - 1e-3
        assert made[:, column].max() <= frauds[:, column].max() * (1 + 1e-6) + 1e-3
    assert set(made[:, 2]) <= {0.0, 2.0}
    assert np.isnan(made[:, 3]).mean() == pytest.approx(np.isnan(frauds[:, 3]).mean(), abs=0.1)
    assert not np.isnan(made[:, :3]).any()


@pytest.mark.parametrize("imbalance", ["smote", "undersample"])
def test_the_seed_decides(train, imbalance):
    one, same, other = (balanced(train, imbalance, seed).rows.tobytes() for seed in (1, 1, 2))
    assert one == same != other


def test_smote_without_gaps_or_codes(train):
    plain = FitRows(train.rows[:, :2], train.labels, train.weights)
    assert balanced(plain, "smote", 1).frauds == N - FRAUDS


def test_two_frauds_are_enough_for_smote_and_one_is_not(train):
    for frauds in (2, 1):
        labels = np.zeros(N, np.int8)
        labels[:frauds] = 1
        few = FitRows(train.rows, labels, train.weights, train.codes)
        if frauds == 2:
            assert balanced(few, "smote", 1).frauds == N - 2
            continue
        with pytest.raises(DataProblem, match="two frauds at least"):
            balanced(few, "smote", 1)


def test_the_validation_part_keeps_its_rows_and_weighs_frauds_as_training_does(train):
    """With the same weights in both parts, a fit that is weighed is stopped where one on copies of frauds would be."""
    part = Part(train.rows, train.labels, np.arange(N), train.rows)
    learner = XGBoost(trees=200, patience=5, subsample=1.0, colsample_bytree=1.0, tree_method="exact")
    weighted = fit(part, part, Training(learner=learner, imbalance="class_weight"), {})
    copies = np.where(train.labels == 1, (N - FRAUDS) // FRAUDS, 1)
    copied = Part(*(np.repeat(one, copies, axis=0) for one in (train.rows, train.labels, np.arange(N), train.rows)))
    alike = fit(copied, copied, Training(learner=learner), {})
    assert weighted.trees_used == alike.trees_used
    assert np.abs(weighted.predict(train.rows) - alike.predict(train.rows)).max() < 1e-4


def test_weights_are_given_once():
    with pytest.raises(InvalidDefinition, match="both weigh frauds"):
        Training(imbalance="class_weight", learner=XGBoost(scale_pos_weight=10))
    with pytest.raises(InvalidDefinition, match="C is 0"):
        LogisticRegression(C=0)
