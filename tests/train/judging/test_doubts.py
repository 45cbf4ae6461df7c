"""What speaks against a model is said, and nothing is said of one that works."""

import msgspec
import numpy as np
import pytest

from sentinel.cli.training import metric_lines
from sentinel.policy.thresholds import Thresholds
from sentinel.train.figures.evaluate import evaluate
from sentinel.train.judging.doubts import doubts, rows_between

N = 2_000
LABELS = (np.arange(N) % 50 == 0).astype(np.int8)
RNG = np.random.default_rng(4)
GOOD = np.where(LABELS == 1, RNG.uniform(0.5, 1, N), RNG.uniform(0, 0.6, N)).astype(np.float32)
WORKING = Thresholds(0.58, 0.6)
TRAINED = {"trees_used": 100, "rows_between_thresholds": 50}


def said(scores=GOOD, thresholds=WORKING, training=TRAINED, **rankings):
    return doubts(evaluate(scores, LABELS, thresholds, rankings), training)


def test_nothing_is_said_of_a_model_that_works():
    assert said(amount=RNG.random(N)) == ()
    assert said(thresholds=Thresholds(0.58, None), training={"trees_used": 10}) == ()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"thresholds": Thresholds(0.58, 0.58)}, "begin at the same score (0.58): nothing is ever reviewed"),
        ({"training": TRAINED | {"rows_between_thresholds": 2}}, "2 validation rows lie between"),
        ({"amount": LABELS + 0.0}, "ranking by amount alone is as good as the model: average precision 1"),
        ({"scores": RNG.random(N, np.float32)}, "AUC ROC"),
        ({"scores": -GOOD, "thresholds": Thresholds(0, None)}, "no fraud that chance would not"),
        ({"thresholds": Thresholds(0.3, None)}, "take 50% of the legitimate transactions of the test part"),
        ({"thresholds": Thresholds(1.0, None)}, "find 0 of 40 frauds: allow more false alarms by review_at_fpr"),
        ({"thresholds": Thresholds(0.58, 1.0)}, "block finds no fraud"),
        ({"training": TRAINED | {"trees_used": 3}}, "only 3 trees"),
    ],
)
def test_what_speaks_against_a_model_is_said(given, text):
    assert any(text in one for one in said(**given)), said(**given)


def test_rows_between_the_thresholds_are_those_that_would_be_reviewed():
    scores = np.array([0.1, 0.5, 0.7, 0.75, 0.95], np.float32)
    assert rows_between(scores, Thresholds(0.5, 0.75)) == 2
    assert rows_between(scores, Thresholds(0.5, None)) is None


@pytest.mark.parametrize(("review", "block"), [(0.01447, 0.01452), (0.5, np.nextafter(0.5, 1)), (1e-9, 2e-9)])
def test_thresholds_that_differ_are_shown_as_different(review, block):
    metrics = msgspec.to_builtins(evaluate(GOOD, LABELS, Thresholds(review, float(block)), {}))
    shown = [line.split()[2] for line in metric_lines("v1", metrics)[-2:]]
    assert shown[0] != shown[1]
