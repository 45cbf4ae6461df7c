"""The desk: what people do with cases. Each act is checked and done in one transaction, or not at all."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sentinel.errors import Conflict, InvalidInput
from sentinel.events.card_numbers import masked, quoted
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store import telling
from sentinel.review.case_store.asking import Asking, case_about, open_or_join
from sentinel.review.case_store.case import Case, case_of, checked_case, newer_of_key, payments_of
from sentinel.review.case_store.queue import next_for
from sentinel.review.case_store.tables import case_events, case_payments
from sentinel.review.case_store.telling import Begun
from sentinel.review.case_store.writing import change, sums
from sentinel.review.cases.deadlines import Deadlines
from sentinel.review.cases.moves import MOVES, Act, Analyst, Outcome, check_may

LONGEST_NOTE = 10_000
LONGEST_ADDRESS = 2_000
MOST_WRITTEN = 200
"""Notes and links of one case: all of them are shown, beside what was done, to everyone who opens it."""

ANALYST = "analyst"
"""The source of the outcomes that cases are decided with."""

PAST = {
    Act.TAKE: "taken", Act.RELEASE: "released", Act.HAND_OVER: "handed over", Act.ESCALATE: "escalated",
    Act.DECIDE: "decided", Act.CLOSE: "closed", Act.REOPEN: "reopened", Act.NOTE: "noted", Act.LINK: "linked",
}  # fmt: skip
_NOBODY: Mapping[str, Any] = {"holder": None, "escalated_to": None}
_UNDECIDED: Mapping[str, Any] = {"outcome": None, "decided_us": None, "decided_by": None}


class Desk:
    """Acts on the cases of one home; from any thread, and any number of processes.

    `version` is the one that a person has looked at: where the case has changed since, Conflict says how. Raises
    NotFound for a case that is none, Conflict and Forbidden as `check_may` says, StorageProblem. Times are arguments,
    microseconds since 1970.
    """

    def __init__(self, database: WrittenDatabase, deadlines: Deadlines) -> None:
        self.database, self._deadlines = database, deadlines

    def take(self, number: int, version: int | None, who: Analyst, now_us: int) -> Case:
        """Have a case that nobody has."""
        return self._act(Act.TAKE, number, version, who, now_us, {"holder": who.name, "escalated_to": None})

    def take_next(self, who: Analyst, now_us: int) -> Case | None:
        """Have the most urgent of those that wait for this person; None where none does."""
        with self.database.writing() as writer:
            found = next_for(writer, who, now_us)
            values = {"holder": who.name, "escalated_to": None}
            return None if found is None else self._done(writer, Act.TAKE, found, who, now_us, values)

    def release(self, number: int, version: int, who: Analyst, now_us: int) -> Case:
        """Put a case back into the queue."""
        return self._act(Act.RELEASE, number, version, who, now_us, _NOBODY)

    def hand_over(self, number: int, version: int, to: str, who: Analyst, now_us: int) -> Case:
        """Give a case to another person, who is known by this name."""
        values = {"holder": to, "escalated_to": None}
        return self._act(Act.HAND_OVER, number, version, who, now_us, values, {"to": to})

    def escalate(self, number: int, version: int, role: str, reason: str, who: Analyst, now_us: int) -> Case:
        """Have a case wait for somebody with a role."""
        values = {"holder": None, "escalated_to": role}
        return self._act(Act.ESCALATE, number, version, who, now_us, values, {"to": role, "reason": clean(reason)})

    def note(self, number: int, text: str, who: Analyst, now_us: int, version: int | None = None) -> Case:
        """Write something down about a case. Raises InvalidInput for nothing, or too much."""
        said = clean(text)
        if not said.strip() or len(said) > LONGEST_NOTE:
            raise InvalidInput(f"Expected a note of 1 to {LONGEST_NOTE:,} characters, got {len(said):,}", "$.text")
        return self._act(Act.NOTE, number, version, who, now_us, {}, {"text": said})

    def link(
        self, number: int, address: str, title: str, who: Analyst, now_us: int, version: int | None = None
    ) -> Case:
        """Attach the address of something that is elsewhere. Raises InvalidInput for what no browser may open."""
        return self._act(
            Act.LINK, number, version, who, now_us, {}, {"address": checked_address(address), "title": clean(title)}
        )

    def close(self, number: int, version: int, reason: str, who: Analyst, now_us: int) -> Case:
        """End a case without a word about its transactions."""
        values = {**_NOBODY, "decided_us": now_us, "decided_by": who.name}
        return self._act(Act.CLOSE, number, version, who, now_us, values, {"reason": clean(reason)})

    def to_decide(self, number: int, version: int, who: Analyst, now_us: int) -> Begun:
        """The case, and the payments whose outcomes are to be told first: those that no other source told of.

        Nobody else acts on it until it is decided, or given up. Raises Conflict while another one does the same.
        """
        with self.database.writing() as writer:
            found = checked_case(writer, number, version)
            check_may(Act.DECIDE, found.state, found.holder, found.escalated_to, who)
            until_us = telling.begin(writer, number, who.name, now_us)
            payments = [one for one in payments_of(writer, number, None) if one.source in (None, ANALYST)]
            return Begun(found, payments, until_us)

    def give_up(self, begun: Begun) -> None:
        """Leave a case as it is: others may act on it again."""
        with self.database.writing() as writer:
            telling.give_up(writer, begun)

    def decide(self, begun: Begun, outcome: Outcome, told: Mapping[int, bool], who: Analyst, now_us: int) -> Case:
        """Note how a case was decided, once its outcomes are durable: `told` has them by the payments' positions.

        It is checked again that nobody has acted on it meanwhile, and who has it; payments that have joined meanwhile
        are in it, and nothing is told of them.
        """
        number = begun.case.number
        with self.database.writing() as writer:
            telling.end(writer, begun)
            for position, is_fraud in told.items():
                of_it = case_payments.c.position == position
                writer.execute(case_payments.update().where(of_it).values(is_fraud=is_fraud, source=ANALYST))
            values = {**_NOBODY, "outcome": outcome, "decided_us": now_us, "decided_by": who.name}
            before = case_of(writer, number)
            counted = self._sums(writer, before)
            details = {"outcome": outcome, "told": len(told)}
            return self._done(writer, Act.DECIDE, before, who, now_us, {**values, **counted}, details)

    def to_reopen(self, number: int, version: int, who: Analyst, now_us: int) -> Begun:
        """The case, whose outcomes are to be taken back first, held as `to_decide` does.

        Raises Conflict where its key has another one.
        """
        with self.database.writing() as writer:
            found = checked_case(writer, number, version)
            check_may(Act.REOPEN, found.state, None, None, who)
            if newer_of_key(writer, found) is not None:
                raise _not_again(found)
            return Begun(found, [], telling.begin(writer, number, who.name, now_us))

    def reopen(self, begun: Begun, reason: str, who: Analyst, now_us: int) -> Case:
        """Have a case be work again, for whoever takes it; its time begins anew, and no outcome of its own counts."""
        number = begun.case.number
        with self.database.writing() as writer:
            telling.end(writer, begun)
            own = sa.and_(case_payments.c.number == number, case_payments.c.source == ANALYST)
            writer.execute(case_payments.update().where(own).values(is_fraud=None, source=None))
            anew = {"opened_us": now_us, "due_us": None, "overdue_us": None}
            before = case_of(writer, number)
            counted = sums(writer, number, self._deadlines, {"opened_us": now_us, "decimals": before.decimals})
            values = {**anew, **_UNDECIDED, **_NOBODY, **counted}
            return self._done(writer, Act.REOPEN, before, who, now_us, values, {"reason": clean(reason)})

    def open(self, one: Asking, who: Analyst, now_us: int) -> Case:
        """Open a case by hand, or add to the one of the same key. Raises Conflict for a decision that is in one."""
        with self.database.writing() as writer:
            known = case_about(writer, one.position)
            if known is not None:
                raise Conflict(f"Transaction {quoted(one.transaction_id, 200)} is in case {known} already")
            return open_or_join(writer, one, self._deadlines, now_us, who.name)

    def _act(
        self, act: Act, number: int, version: int | None, who: Analyst, now_us: int, values: Mapping[str, Any],
        details: Mapping[str, Any] | None = None,
    ) -> Case:  # fmt: skip
        with self.database.writing() as writer:
            before = checked_case(writer, number, version)
            if MOVES[act].to is None:
                _check_room(writer, number)
            else:
                telling.overtake(writer, number, who.name, now_us)
            return self._done(writer, act, before, who, now_us, values, details)

    def _done(
        self, writer: sa.Connection, act: Act, before: Case, who: Analyst, now_us: int, values: Mapping[str, Any],
        details: Mapping[str, Any] | None = None,
    ) -> Case:  # fmt: skip
        check_may(act, before.state, before.holder, before.escalated_to, who)
        to = MOVES[act].to
        moved = {} if to is None else {"state": to}
        try:
            return change(writer, before, {**values, **moved}, PAST[act], details or {}, who.name, now_us)
        except IntegrityError:
            raise _not_again(before) from None

    def _sums(self, writer: sa.Connection, case: Case) -> dict[str, Any]:
        of = {"opened_us": case.opened_us, "decimals": case.decimals, "due_us": case.due_us}
        return sums(writer, case.number, self._deadlines, of)


def _not_again(case: Case) -> Conflict:
    return Conflict(
        f"Case {case.number} cannot be work again: a newer case of the same {case.key_field} is; note there"
    )


def _check_room(writer: sa.Connection, number: int) -> None:
    """Raise Conflict where a case has as many notes and links as one may have."""
    written = sa.and_(case_events.c.number == number, case_events.c.what.in_((PAST[Act.NOTE], PAST[Act.LINK])))
    if (writer.scalar(sa.select(sa.func.count()).select_from(case_events).where(written)) or 0) >= MOST_WRITTEN:
        raise Conflict(f"Case {number} has {MOST_WRITTEN} notes and links already; put more elsewhere")


def clean(text: str) -> str:
    """A text as it may be kept: no card number in it, and no sign that a database refuses."""
    return masked(text.replace("\x00", ""))


def checked_address(address: str) -> str:
    """An address that a link may lead to. Raises InvalidInput.

    >>> checked_address("https://wiki.example/case?id=7")
    'https://wiki.example/case?id=7'
    """
    is_ours = address.startswith(("https://", "http://")) and address.isprintable() and " " not in address
    if not is_ours or len(address) > LONGEST_ADDRESS or masked(address) != address:
        raise InvalidInput(
            f"Expected an address such as https://wiki.example/7, of at most {LONGEST_ADDRESS:,} signs, without a card "
            f"number, got {quoted(address, 80)}", "$.address",
        )  # fmt: skip
    return address
