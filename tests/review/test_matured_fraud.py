"""The share of fraud among decisions that are old enough to be known."""

import pytest

from sentinel.record.views import LabelCounts
from sentinel.review.matured_fraud import matured_fraud


def of(decisions, labelled, frauds, blocked, training=0.01):
    return matured_fraud(LabelCounts(decisions, labelled, frauds, blocked), training, "a", "b")


def test_what_was_blocked_without_an_outcome_is_left_out():
    found = of(1_100, 20, 10, 100)
    assert (found.decisions, found.share, found.differs) == (1_000, 0.01, False)
    assert found.low < 0.01 < found.high


def test_a_share_that_training_did_not_have_is_said():
    assert of(10_000, 300, 300, 0).differs
    assert not of(100, 2, 2, 0).differs  # two of a hundred may be chance
    assert of(10_000, 0, 0, 0).differs


@pytest.mark.parametrize("blocked", [0, 7])
def test_nothing_matured_is_no_share(blocked):
    found = of(blocked, 0, 0, blocked)
    assert (found.share, found.low, found.differs) == (None, None, False)
