"""What may become of a decision: one table, written out here a second time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.policy.results import AFTER, BEGINS, DEFAULTS, WAITING, Result, State, state_after
from sentinel.policy.thresholds import Action

TABLE = """
state       result               after
challenged  challenge_passed     approved
challenged  challenge_failed     declined
challenged  challenge_abandoned  abandoned
abandoned   challenge_passed     approved
abandoned   challenge_failed     declined
in_review   review_taken         taken
in_review   review_approved      approved
in_review   review_declined      declined
taken       review_approved      approved
taken       review_declined      declined
approved    captured             captured
captured    refunded             refunded
"""


def test_exactly_these_results_may_follow():
    rows = {tuple(line.split()) for line in TABLE.strip().splitlines()[1:]}
    assert {(state, result, after) for state, found in AFTER.items() for result, after in found.items()} == rows
    assert set(AFTER) == set(State)


def test_every_decision_begins_somewhere_and_no_two_in_one_place():
    assert BEGINS.keys() == set(Action)
    assert len(set(BEGINS.values())) == len(Action)


@given(action=st.sampled_from(list(Action)), data=st.data())
def test_no_result_is_told_twice_and_there_is_an_end(action, data):
    """So the same result again is a repeat, always."""
    told = []
    while following := sorted(AFTER[state_after(action, told)]):
        result = data.draw(st.sampled_from(following))
        assert result not in told
        told.append(result)
    assert state_after(action, told) in {State.DECLINED, State.REFUNDED}


@pytest.mark.parametrize("default", [Action.APPROVE, Action.BLOCK])
def test_a_default_ends_a_review(default):
    assert AFTER[State.IN_REVIEW][DEFAULTS[default]] not in WAITING
    assert DEFAULTS[default] in AFTER[State.TAKEN]


def test_what_waits_has_results_that_end_it():
    assert all(set(AFTER[state]) for state in WAITING)
    assert {Result.CAPTURED, Result.REFUNDED}.isdisjoint(result for state in WAITING for result in AFTER[state])
