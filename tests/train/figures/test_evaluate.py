"""Metrics at a threshold are scikit-learn's, and those of a model are beside those of simple rankings."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from sentinel.policy.thresholds import Thresholds
from sentinel.train.figures.evaluate import at_threshold, evaluate
from sentinel.train.figures.threshold_table import FALSE_POSITIVE_RATES, threshold_table

RNG = np.random.default_rng(2)
LABELS = (RNG.random(5_000) < 0.03).astype(np.int8)
SCORES = np.clip(RNG.normal(0.2, 0.1, 5_000) + 0.2 * LABELS, 0, 1).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.4, 0.99, 1.0])
def test_all_that_is_said_of_a_threshold_is_what_scikit_learn_says(threshold):
    one, alarms = at_threshold(SCORES, LABELS, threshold), threshold <= SCORES
    assert [list(row) for row in one.confusion] == confusion_matrix(LABELS, alarms, labels=[0, 1]).tolist()
    named = ((one.f1, f1_score), (one.precision, precision_score), (one.recall, recall_score))
    assert all(np.isclose(found, theirs(LABELS, alarms, zero_division=0)) for found, theirs in named)
    assert np.isclose(one.accuracy, accuracy_score(LABELS, alarms))
    assert (one.caught, one.false_alarms) == (one.confusion[1][1], one.confusion[0][1])


def test_the_table_keeps_to_its_shares_and_no_lower_threshold_would():
    table = threshold_table(SCORES, LABELS)
    legitimate = SCORES[LABELS == 0]
    assert [one.threshold for one in table] == sorted({one.threshold for one in table}, reverse=True)
    for share in FALSE_POSITIVE_RATES:
        lowest = min(one.threshold for one in table if one.false_positive_rate <= share)
        lower = max((one for one in SCORES if one < lowest), default=None)
        assert lower is None or np.mean(legitimate >= lower) > share or lowest == table[-1].threshold


def test_cards_make_the_interval_wider_where_their_rows_are_alike():
    rng = np.random.default_rng(8)
    cards = np.repeat(np.arange(100, dtype=np.uint64), 20)
    fraud = rng.random(100) < 0.15
    scores = (rng.normal(0, 1, 100) + fraud)[cards] + rng.normal(0, 0.1, 2_000)
    labels = fraud[cards].astype(np.int8)
    by_row, by_card = (evaluate(scores, labels, Thresholds(0.5, None), {"size": -scores}, one) for one in (None, cards))
    widths = [one.average_precision.high - one.average_precision.low for one in (by_row, by_card)]
    assert widths[1] > 2 * widths[0]
    assert (by_row.cards, by_card.cards) == (2_000, 100)
    assert by_row.average_precision.value == by_card.average_precision.value
    assert by_card.lift_over_best_baseline.value > 0
