import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentinel.policy.thresholds import ACTIONS, Action, Thresholds

unit = st.floats(0, 1, width=32)


def test_a_level_keeps_its_action_whatever_actions_there_come_to_be():
    assert [str(action) for action in ACTIONS] == ["approve", "review", "block", "challenge"]
    assert sorted(ACTIONS, key=list(Action).index) == list(Action)


def test_a_score_on_the_threshold_is_over_it():
    thresholds = Thresholds(review=0.25, block=0.75)
    actions = [thresholds.action(score) for score in (0.0, 0.2499, 0.25, 0.7499, 0.75, 1.0)]
    assert actions == [Action.APPROVE] * 2 + [Action.REVIEW] * 2 + [Action.BLOCK] * 2


def test_a_challenge_is_between_approval_and_review():
    thresholds = Thresholds(review=0.5, block=0.75, challenge=0.25)
    actions = [thresholds.action(score) for score in (0.0, 0.2499, 0.25, 0.4999, 0.5, 0.75, 1.0)]
    assert actions == [Action.APPROVE] * 2 + [Action.CHALLENGE] * 2 + [Action.REVIEW] + [Action.BLOCK] * 2
    assert (thresholds.alarm, Thresholds(0.5, None).alarm) == (0.25, 0.5)


def test_nothing_is_said_of_a_challenge_that_there_is_not():
    assert msgspec.json.encode(Thresholds(0.5, None)) == b'{"review":0.5,"block":null}'
    assert msgspec.json.encode(Thresholds(0.5, None, 0.2)) == b'{"review":0.5,"block":null,"challenge":0.2}'


@given(st.lists(unit, max_size=40), unit, st.none() | unit, st.none() | unit)
def test_the_levels_of_many_scores_are_their_actions(scores, review, block, challenge):
    block = None if block is None else max(review, block)
    thresholds = Thresholds(review, block, None if challenge is None else min(review, challenge))
    scores = np.array([*scores, *thresholds.begins])
    levels = thresholds.levels(scores)
    assert levels.dtype == np.uint8
    assert [ACTIONS[level] for level in levels.tolist()] == [thresholds.action(score) for score in scores]
