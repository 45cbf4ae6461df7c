"""What may be told of a decision: the same again is known, and what contradicts what was told is refused."""

from typing import NamedTuple

import numpy as np

from sentinel.errors import Conflict
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import hash_text
from sentinel.policy.results import AFTER, BEGINS, Result, State
from sentinel.policy.thresholds import Action
from sentinel.record.entries import DecisionRow
from sentinel.record.log import Record
from sentinel.record.results import ResultRow, Results

NOBODY = "review_within"
"""Who tells the result of a review that nobody took in time."""


class Telling(NamedTuple):
    """What somebody tells of a decision; with `unless_taken` it is of no use once somebody looks at the review."""

    result: Result
    told_by: str
    reason: str = ""
    unless_taken: bool = False


class Concluded(NamedTuple):
    """A result as the log has it, in this record, and whether it was told before."""

    row: ResultRow
    replayed: bool
    record: Record


def state_of(decision: str, told: list[ResultRow]) -> State:
    """Where a transaction stands, by its decision and all of its results, oldest first."""
    return State(told[-1].state) if told else BEGINS[Action(decision)]


def repeated(told: list[ResultRow], telling: Telling) -> ResultRow | None:
    """The result that this one repeats: nothing but the same can follow on the same, so it was told before."""
    return next((row for row in told if row.result == telling.result), None)


def following(row: DecisionRow, told: list[ResultRow], telling: Telling) -> Results:
    """The entry of a result that was not told before.

    Raises Conflict for one that contradicts what was: it cannot follow in the state that the transaction is in.
    """
    state = state_of(row.decision, told)
    after = AFTER[state].get(telling.result)
    if after is None or (telling.unless_taken and state is State.TAKEN):
        allowed = ", ".join(AFTER[state]) or "nothing"
        raise Conflict(
            f"Transaction {quoted(row.transaction_id, 200)} is {state}, after which there is no {telling.result}: "
            f"{allowed} may follow. What was told before stays; nothing was stored"
        )
    return Results(
        ids=[row.transaction_id],
        hashes=np.array([hash_text(row.transaction_id)], "<u8").tobytes(),
        about=np.array([row.position], "<i8").tobytes(),
        results=[str(telling.result)],
        states=[str(after)],
        told_by=[telling.told_by],
        reasons=[telling.reason],
    )
