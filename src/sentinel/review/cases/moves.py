"""Moves: the states of a case, what may be done in each, and by whom. `MOVES` is the one table of it."""

from collections.abc import Set
from enum import StrEnum
from typing import NamedTuple

from sentinel.errors import Conflict, Forbidden
from sentinel.events.card_numbers import quoted


class CaseState(StrEnum):
    """Where a case stands. It waits while it is `open`, `reopened` or `escalated`, and nobody has it then."""

    OPEN = "open"
    ASSIGNED = "assigned"
    ESCALATED = "escalated"
    DECIDED = "decided"
    CLOSED = "closed"
    REOPENED = "reopened"


class Act(StrEnum):
    """What people do with a case."""

    TAKE = "take"
    RELEASE = "release"
    HAND_OVER = "hand over"
    ESCALATE = "escalate"
    DECIDE = "decide"
    CLOSE = "close"
    REOPEN = "reopen"
    NOTE = "note"
    LINK = "link"


class Outcome(StrEnum):
    """How a case is decided; of `undecided` nothing is told about its transactions."""

    FRAUD = "fraud"
    LEGITIMATE = "legitimate"
    UNDECIDED = "undecided"


class Move(NamedTuple):
    """An act: the states in which it is possible, and the one that follows (None: the same).

    `of_holder` is whether an assigned case is its holder's alone to do this to; a lead may as well if `of_lead`.
    """

    since: frozenset[CaseState]
    to: CaseState | None
    of_holder: bool = False
    of_lead: bool = False


WAITING = frozenset({CaseState.OPEN, CaseState.REOPENED, CaseState.ESCALATED})
UNDONE = WAITING | {CaseState.ASSIGNED}
"""The states in which a case is work."""

DONE = frozenset({CaseState.DECIDED, CaseState.CLOSED})
LEAD = "operator"
"""The role of who may take a case out of the hands of another one."""

MOVES = {
    Act.TAKE: Move(WAITING, CaseState.ASSIGNED),
    Act.RELEASE: Move(frozenset({CaseState.ASSIGNED}), CaseState.OPEN, of_holder=True, of_lead=True),
    Act.HAND_OVER: Move(UNDONE, CaseState.ASSIGNED, of_holder=True, of_lead=True),
    Act.ESCALATE: Move(UNDONE, CaseState.ESCALATED, of_holder=True, of_lead=True),
    Act.DECIDE: Move(UNDONE, CaseState.DECIDED, of_holder=True),
    Act.CLOSE: Move(UNDONE, CaseState.CLOSED, of_holder=True),
    Act.REOPEN: Move(DONE, CaseState.REOPENED),
    Act.NOTE: Move(frozenset(CaseState), None),
    Act.LINK: Move(frozenset(CaseState), None),
}


class Analyst(NamedTuple):
    """Who acts: a name, and the roles whose rights they have, their own among them."""

    name: str
    roles: Set[str]


def check_may(act: Act, state: CaseState, holder: str | None, escalated_to: str | None, who: Analyst) -> None:
    """Raise Conflict for what cannot be done in this state or is another one's, Forbidden for what needs a role.

    `holder` is who has an assigned case, `escalated_to` the role that an escalated one waits for.
    """
    move = MOVES[act]
    if state not in move.since:
        raise Conflict(f"The case is {state}; to {act} it, it has to be {' or '.join(sorted(move.since))}")
    if (
        move.of_holder
        and state is CaseState.ASSIGNED
        and holder != who.name
        and not (move.of_lead and LEAD in who.roles)
    ):
        raise Conflict(
            f"{quoted(holder or '', 80)} has the case; ask them to release it or to hand it over, or an {LEAD} to do so"
        )
    needs = escalated_to if state is CaseState.ESCALATED and move.to is not None else None
    if needs is not None and needs not in who.roles:
        raise Forbidden(f"The case waits for the role {needs}, which {quoted(who.name, 80)} does not have")
