"""Intervals by card: weights are what copies would be, and the interval covers where frauds come in clusters."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from sentinel.train.figures.resampling import Ranking, card_weights, estimate, numbered


@given(st.integers(0, 2**32 - 1))
def test_a_weight_is_as_many_copies(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    scores, weights = rng.integers(0, 8, n) / 8, rng.poisson(1.0, n)
    labels = rng.integers(0, 2, n).astype(np.int8)
    figures = Ranking(scores, labels).figures(weights, 0.2)
    copies, truth = np.repeat(scores, weights), np.repeat(labels, weights)
    if len(set(truth.tolist())) < 2:
        assert np.isnan(figures).all()
        return
    assert np.isclose(figures.average_precision, average_precision_score(truth, copies))
    assert np.isclose(figures.auc_roc, roc_auc_score(truth, copies))
    legitimate = copies[truth == 0]
    bearable = [one for one in set(copies) if np.sum(legitimate >= one) <= 0.2 * len(legitimate)]
    caught = [np.mean(copies[truth == 1] >= one) for one in bearable]
    assert np.isclose(figures.recall_at_fpr, max(caught, default=0.0))


def test_a_card_comes_with_all_of_its_rows_and_the_same_seed_draws_the_same():
    numbers = numbered(np.array([7, 9, 7, 7, 2], np.uint64), 5)
    drawn = list(card_weights(numbers, 3, 50))
    assert all(len(set(one[[0, 2, 3]].tolist())) == 1 for one in drawn)
    assert any(one[0] != one[1] for one in drawn)
    assert [one.tolist() for one in drawn] == [one.tolist() for one in card_weights(numbers, 3, 50)]
    assert numbered(None, 3).tolist() == [0, 1, 2]


def _covered(by_card: bool, samples: int = 120) -> float:
    """How often the 95 % interval of AUC holds the true one, of cards with ten rows each that resemble each other."""
    rng = np.random.default_rng(11)
    cards = np.repeat(np.arange(60), 10)
    truth = np.array([_auc_of(rng, np.repeat(np.arange(4_000), 10))])
    hits = 0
    for _ in range(samples):
        scores, labels = _drawn(rng, cards)
        found = Ranking(scores, labels)
        weights = card_weights(cards if by_card else numbered(None, len(cards)), 1, 100)
        interval = estimate(0.0, np.array([found.figures(one).auc_roc for one in weights]))
        hits += bool(interval.low <= truth[0] <= interval.high)
    return hits / samples


def _drawn(rng, cards):
    n = int(cards.max()) + 1
    is_fraud = rng.random(n) < 0.2
    habit = rng.normal(0, 1, n) + is_fraud
    return habit[cards] + rng.normal(0, 0.2, len(cards)), is_fraud[cards].astype(np.int8)


def _auc_of(rng, cards):
    scores, labels = _drawn(rng, cards)
    return roc_auc_score(labels, scores)


def test_intervals_by_card_cover_where_those_by_transaction_are_far_too_narrow():
    assert _covered(by_card=True) > 0.85
    assert _covered(by_card=False) < 0.6


def test_an_interval_of_nothing_is_the_figure_itself():
    found = estimate(0.4, np.array([np.nan, np.nan]))
    assert (found.low, found.value, found.high) == (0.4, 0.4, 0.4)
