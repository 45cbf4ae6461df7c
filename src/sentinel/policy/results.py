"""What becomes of a decision: the results that are told of it, and the state that each leads to. One table says all."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from sentinel.policy.thresholds import Action


class Result(StrEnum):
    """What happened after a decision, as whoever saw it happen tells it."""

    CHALLENGE_PASSED = "challenge_passed"
    CHALLENGE_FAILED = "challenge_failed"
    CHALLENGE_ABANDONED = "challenge_abandoned"
    REVIEW_TAKEN = "review_taken"
    REVIEW_APPROVED = "review_approved"
    REVIEW_DECLINED = "review_declined"
    CAPTURED = "captured"
    REFUNDED = "refunded"


class State(StrEnum):
    """Where a transaction stands: it waits for somebody, or it is settled."""

    CHALLENGED = "challenged"
    ABANDONED = "abandoned"
    IN_REVIEW = "in_review"
    TAKEN = "taken"
    APPROVED = "approved"
    DECLINED = "declined"
    CAPTURED = "captured"
    REFUNDED = "refunded"


BEGINS: Mapping[Action, State] = MappingProxyType(
    {
        Action.APPROVE: State.APPROVED,
        Action.CHALLENGE: State.CHALLENGED,
        Action.REVIEW: State.IN_REVIEW,
        Action.BLOCK: State.DECLINED,
    }
)
"""The state that a decision begins in."""

AFTER: Mapping[State, Mapping[Result, State]] = MappingProxyType(
    {
        State.CHALLENGED: {
            Result.CHALLENGE_PASSED: State.APPROVED,
            Result.CHALLENGE_FAILED: State.DECLINED,
            Result.CHALLENGE_ABANDONED: State.ABANDONED,
        },
        State.ABANDONED: {Result.CHALLENGE_PASSED: State.APPROVED, Result.CHALLENGE_FAILED: State.DECLINED},
        State.IN_REVIEW: {
            Result.REVIEW_TAKEN: State.TAKEN,
            Result.REVIEW_APPROVED: State.APPROVED,
            Result.REVIEW_DECLINED: State.DECLINED,
        },
        State.TAKEN: {Result.REVIEW_APPROVED: State.APPROVED, Result.REVIEW_DECLINED: State.DECLINED},
        State.APPROVED: {Result.CAPTURED: State.CAPTURED},
        State.DECLINED: {},
        State.CAPTURED: {Result.REFUNDED: State.REFUNDED},
        State.REFUNDED: {},
    }
)
"""Which results may follow in a state, and the state after each. What is not here contradicts what was told before."""

WAITING = frozenset({State.CHALLENGED, State.ABANDONED, State.IN_REVIEW, State.TAKEN})
"""States that wait for somebody; the others are final until money moves."""

DEFAULTS: Mapping[Action, Result] = MappingProxyType(
    {Action.APPROVE: Result.REVIEW_APPROVED, Action.BLOCK: Result.REVIEW_DECLINED}
)
"""What a review comes to that nobody took in time, by the action that is declared for that."""


def state_after(action: Action, results: Iterable[Result]) -> State:
    """The state of a decision after these results, in the order in which they were told.

    >>> state_after(Action.REVIEW, [Result.REVIEW_APPROVED, Result.CAPTURED])
    <State.CAPTURED: 'captured'>
    """
    state = BEGINS[action]
    for result in results:
        state = AFTER[state][result]
    return state
