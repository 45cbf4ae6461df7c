"""The one table of moves, as it is written in the documentation too: what is possible in which state, and for whom."""

import re
from itertools import product
from pathlib import Path

import pytest

from sentinel.errors import Conflict, Forbidden
from sentinel.review.cases.moves import MOVES, Act, Analyst, CaseState, check_may

ANA, BOB = Analyst("ana", {"viewer", "analyst"}), Analyst("bob", {"viewer", "analyst"})
LEE = Analyst("lee", {"viewer", "analyst", "rule editor", "operator"})

MAY = {  # act -> what ana, who has assigned cases, bob, and lee, an operator, may do in which states
    Act.TAKE: ("open reopened", "open reopened", "open reopened escalated"),
    Act.RELEASE: ("assigned", "", "assigned"),
    Act.HAND_OVER: ("open reopened assigned", "open reopened", "open reopened assigned escalated"),
    Act.ESCALATE: ("open reopened assigned", "open reopened", "open reopened assigned escalated"),
    Act.DECIDE: ("open reopened assigned", "open reopened", "open reopened escalated"),
    Act.CLOSE: ("open reopened assigned", "open reopened", "open reopened escalated"),
    Act.REOPEN: ("decided closed", "decided closed", "decided closed"),
    Act.NOTE: ("*", "*", "*"),
    Act.LINK: ("*", "*", "*"),
}


@pytest.mark.parametrize(("act", "state"), list(product(Act, CaseState)))
def test_who_may_do_what(act, state):
    holder = "ana" if state is CaseState.ASSIGNED else None
    role = "operator" if state is CaseState.ESCALATED else None
    for who, states in zip((ANA, BOB, LEE), MAY[act], strict=True):
        if states == "*" or state in states.split():
            check_may(act, state, holder, role, who)
        else:
            with pytest.raises((Conflict, Forbidden)):
                check_may(act, state, holder, role, who)


def test_who_is_second_is_told_who_was_first():
    with pytest.raises(Conflict, match="'ana' has the case"):
        check_may(Act.DECIDE, CaseState.ASSIGNED, "ana", None, BOB)
    with pytest.raises(Forbidden, match="waits for the role operator"):
        check_may(Act.TAKE, CaseState.ESCALATED, None, "operator", BOB)
    with pytest.raises(Conflict, match="is decided; to take it, it has to be escalated or open or reopened"):
        check_may(Act.TAKE, CaseState.DECIDED, None, None, BOB)


def test_every_state_can_be_reached_and_left():
    after = {move.to for move in MOVES.values()} | {CaseState.OPEN}
    assert after - {None} == set(CaseState)
    for state in CaseState:
        assert any(state in move.since and move.to not in (None, state) for move in MOVES.values())


def test_the_documentation_has_the_table():
    text = (Path(__file__).parents[3] / "docs" / "cases.md").read_text()
    rows = re.findall(r"^\| `([a-z ]+)` \| ([a-z, ]+) \| ([a-z ]+) \|", text, re.MULTILINE)
    written = {name: (set(since.split(", ")), to) for name, since, to in rows}
    assert written == {
        str(act): (
            set(map(str, move.since)) if len(move.since) < len(CaseState) else {"every one"},
            str(move.to or "the same"),
        )
        for act, move in MOVES.items()
    }
