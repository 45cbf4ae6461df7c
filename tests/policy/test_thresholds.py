import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sentinel.errors import InvalidDefinition
from sentinel.policy.thresholds import ACTIONS, Action, Policy, Thresholds, choose_thresholds

unit = st.floats(0, 1, width=32)


@given(arrays(np.float32, st.integers(1, 300), elements=unit), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_no_more_legitimate_transactions_are_disturbed_than_allowed(scores, a, b):
    policy = Policy(review_at_fpr=max(a, b), block_at_fpr=min(a, b))
    found = choose_thresholds(scores, np.zeros(len(scores), np.int8), policy)
    assert found.review <= found.block
    if scores.max() < 1:  # a certainty cannot be exceeded
        assert np.mean(scores >= found.review) <= policy.review_at_fpr
        assert np.mean(scores >= found.block) <= policy.block_at_fpr


def test_as_many_are_disturbed_as_allowed_when_scores_differ():
    scores = (np.arange(1000) / 1000).astype(np.float32)
    found = choose_thresholds(scores, np.zeros(1000, np.int8), Policy(review_at_fpr=0.05, block_at_fpr=0.01))
    assert np.sum(scores >= found.review) == 50
    assert np.sum(scores >= found.block) == 10


def test_frauds_do_not_move_the_thresholds():
    scores = np.array([0.1, 0.2, 0.9, 0.95], np.float32)
    policy = Policy(review_at_fpr=0.4, block_at_fpr=0.4)
    assert choose_thresholds(scores, np.array([0, 0, 1, 1], np.int8), policy).review < 0.21


def test_without_legitimate_transactions_it_says_what_to_do():
    with pytest.raises(InvalidDefinition, match="longer validation part"):
        choose_thresholds(np.ones(3, np.float32), np.ones(3, np.int8), Policy())


def test_a_score_on_the_threshold_is_over_it():
    thresholds = Thresholds(review=0.25, block=0.75)
    actions = [thresholds.action(score) for score in (0.0, 0.2499, 0.25, 0.7499, 0.75, 1.0)]
    assert actions == [Action.APPROVE] * 2 + [Action.REVIEW] * 2 + [Action.BLOCK] * 2


@given(st.lists(unit, max_size=40), unit, st.none() | unit)
def test_the_levels_of_many_scores_are_their_actions(scores, review, block):
    thresholds = Thresholds(review, None if block is None else max(review, block))
    bounds = [one for one in (thresholds.review, thresholds.block) if one is not None]
    scores = np.array([*scores, *bounds])
    levels = thresholds.levels(scores)
    assert levels.dtype == np.uint8
    assert [ACTIONS[level] for level in levels.tolist()] == [thresholds.action(score) for score in scores]


def test_blocking_more_than_is_reviewed_is_refused():
    with pytest.raises(InvalidDefinition, match="block_at_fpr"):
        Policy(review_at_fpr=0.001, block_at_fpr=0.01)


def test_a_policy_may_never_block():
    scores = (np.arange(1000) / 1000).astype(np.float32)
    found = choose_thresholds(scores, np.zeros(1000, np.int8), Policy(review_at_fpr=0.05, block_at_fpr=None))
    assert np.sum(scores >= found.review) == 50
    assert found.block is None
    assert [found.action(score) for score in (0.1, 0.97, 1.0)] == [Action.APPROVE, Action.REVIEW, Action.REVIEW]
    assert msgspec.convert(msgspec.to_builtins(found), Thresholds) == found
    with pytest.raises(InvalidDefinition, match="block_at_fpr"):
        Policy(review_at_fpr=0.0, block_at_fpr=None)
