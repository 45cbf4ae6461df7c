"""Writing to cases: each change makes a new version, is in the history, and goes out, in one transaction."""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from sentinel.record.written import outbox
from sentinel.review.case_store.case import SENTINEL, Case, case_of
from sentinel.review.case_store.tables import case_events, case_payments, cases
from sentinel.review.cases.deadlines import Deadlines
from sentinel.review.cases.moves import UNDONE
from sentinel.review.cases.urgency import expected_loss

OPENED, JOINED, OUTCOME, OVERDUE = "opened", "joined", "outcome", "overdue"
_LONGEST_WHY = 200


def change(
    writer: sa.Connection, before: Case, values: Mapping[str, Any], what: str, details: Mapping[str, Any], who: str,
    now_us: int,
) -> Case:  # fmt: skip
    """Change a case: it has another version then, `what` is in its history, and `case.<what>` goes out."""
    made = {**values, "version": before.version + 1}
    if "state" in made:
        made["open_key"] = cases.c.key_sha256 if made["state"] in UNDONE else sa.null()
    writer.execute(cases.update().where(cases.c.number == before.number).values(made))
    after = case_of(writer, before.number)
    tell(writer, after, what, details, who, now_us)
    return after


def tell(writer: sa.Connection, case: Case, what: str, details: Mapping[str, Any], who: str, now_us: int) -> None:
    """Have what was done in the history of a case, and sent to whoever wants to know of it."""
    text = msgspec.json.encode(details).decode()
    row = {"number": case.number, "version": case.version, "at_us": now_us, "who": who, "what": what, "details": text}
    writer.execute(case_events.insert().values(row))
    body = {"case": shown_outside(case), "what": what, "who": who, "details": details}
    outbox.put(writer, f"case.{what}", f"case {case.number}", body, now_us)


def shown_outside(case: Case) -> dict[str, Any]:
    """What messages say of a case: nothing by which a card is known."""
    kept = (
        "number", "state", "priority", "holder", "escalated_to", "outcome", "payments", "loss", "amount", "decimals",
        "opened_us", "due_us", "version",
    )  # fmt: skip
    return {name: value for name, value in msgspec.to_builtins(case).items() if name in kept}


def sums(writer: sa.Connection, number: int, deadlines: Deadlines, case: Mapping[str, Any]) -> dict[str, Any]:
    """What the payments of a case make of it; `case` has its `opened_us`, `decimals`, and `due_us` if it has one.

    A case that may lose more than before is due sooner; it is never due later.
    """
    asked = sa.select(
        case_payments.c.probability, case_payments.c.amount, case_payments.c.is_fraud, case_payments.c.received_us
    )
    rows = writer.execute(asked.where(case_payments.c.number == number)).all()
    amounts = [row.amount or 0 for row in rows]
    loss = expected_loss((row.probability, row.amount or 0) for row in rows if row.is_fraud is None)
    sooner = _sooner(loss, deadlines, case)
    return {
        "loss": loss, "amount": sum(amounts), "largest": max(amounts, default=0), "payments": len(rows),
        "newest_us": max((row.received_us for row in rows), default=case["opened_us"]), **sooner,
    }  # fmt: skip


def sums_with(before: Case, probability: float, amount: int, received_us: int, deadlines: Deadlines) -> dict[str, Any]:
    """What one more payment makes of a case: the same as `sums`, without a look at those that it has already."""
    loss = before.loss + expected_loss([(probability, amount)])
    return {
        "loss": loss, "amount": before.amount + amount, "largest": max(before.largest, amount),
        "payments": before.payments + 1, "newest_us": max(before.newest_us, received_us),
        **_sooner(loss, deadlines, msgspec.structs.asdict(before)),
    }  # fmt: skip


def _sooner(loss: int, deadlines: Deadlines, case: Mapping[str, Any]) -> dict[str, Any]:
    due = deadlines.of(loss, case["decimals"])
    due_us = case["opened_us"] + due.within_us
    is_sooner = case.get("due_us") is None or due_us < case["due_us"]
    return {"due_us": due_us, "priority": due.priority} if is_sooner else {}


def recount(writer: sa.Connection, before: Case, deadlines: Deadlines) -> None:
    """Have a case say what its payments make of it by now, without another version."""
    found = sums(writer, before.number, deadlines, msgspec.structs.asdict(before))
    if before.state not in UNDONE:
        found = {name: one for name, one in found.items() if name not in ("due_us", "priority")}
    writer.execute(cases.update().where(cases.c.number == before.number).values(found))


def tell_overdue(writer: sa.Connection, now_us: int, most: int) -> int:
    """Say of cases that are past their deadline that they are, once of each; of how many, at most `most`."""
    late = sa.and_(cases.c.open_key.is_not(None), cases.c.due_us < now_us, cases.c.overdue_us.is_(None))
    numbers = writer.scalars(sa.select(cases.c.number).where(late).order_by(cases.c.due_us).limit(most)).all()
    for number in numbers:
        before = case_of(writer, number)
        change(writer, before, {"overdue_us": now_us}, OVERDUE, {"due_us": before.due_us}, SENTINEL, now_us)
    return len(numbers)


def cut(text: str) -> str:
    """A text that fits the column `why`, without the one sign that PostgreSQL's texts cannot have."""
    text = text.replace("\x00", "\ufffd")
    return text if len(text) <= _LONGEST_WHY else f"{text[: _LONGEST_WHY - 3]}..."
