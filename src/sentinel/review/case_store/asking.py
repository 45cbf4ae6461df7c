"""What asks for a person: decisions that open a case, or join the one that is open for their key."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from sentinel.review.case_store.case import SENTINEL, Case, case_of
from sentinel.review.case_store.tables import case_payments, case_signs, cases
from sentinel.review.case_store.writing import JOINED, OPENED, change, cut, sums, sums_with, tell
from sentinel.review.cases.deadlines import Deadlines
from sentinel.review.cases.likeness import AMOUNT, sign_of_amount
from sentinel.review.cases.moves import CaseState

BY_HAND = "by hand"
"""Why a decision asks for a person where a person says so; what else they say comes after a colon."""


class Asking(NamedTuple):
    """A decision that a person should look at. `amount` is in units of 10^-decimals, None where it is not known.

    `why` says what asks, `signs` are those of `likeness`. It belongs to the case of `key_field` and `key_value`.
    """

    position: int
    transaction_id: str
    received_us: int
    amount: int | None
    decimals: int
    probability: float
    decision: str
    why: str
    signs: frozenset[str]
    key_field: str
    key_value: str


def key_sha256(field: str, value: str) -> str:
    """By what a case is found: field and value, whatever is in either.

    >>> key_sha256("a", "b=c") != key_sha256("a=b", "c")
    True
    """
    return hashlib.sha256(f"{len(field)}:{field}={value}".encode()).hexdigest()


def case_about(reader: sa.Connection, position: int) -> int | None:
    """The number of the case that a decision is in."""
    return reader.scalar(sa.select(case_payments.c.number).where(case_payments.c.position == position))


def open_or_join(writer: sa.Connection, one: Asking, deadlines: Deadlines, now_us: int, who: str = SENTINEL) -> Case:
    """The case that a decision is in from now on. What is in a case already stays there, and changes nothing."""
    known = case_about(writer, one.position)
    if known is not None:
        return case_of(writer, known)
    sha256 = key_sha256(one.key_field, one.key_value)
    number = writer.scalar(sa.select(cases.c.number).where(cases.c.open_key == sha256))
    if number is None:
        return _open(writer, one, sha256, deadlines, now_us, who)
    before = case_of(writer, number)
    joins = _in_units(one, before.decimals)
    _add(writer, number, joins)
    values = sums_with(before, joins.probability, joins.amount or 0, joins.received_us, deadlines)
    details = {"transaction_id": one.transaction_id, "why": one.why}
    after = change(writer, before, values, JOINED, details, who, now_us)
    _sign_amount(writer, after)
    return after


def storable(writer: sa.Connection, text: str) -> str:
    """The text; the one sign that PostgreSQL's texts cannot have is replaced there: no payment may stop the others."""
    return text if writer.dialect.name == "sqlite" else text.replace("\x00", "\ufffd")


def sign(writer: sa.Connection, number: int, signs: Sequence[str]) -> None:
    """Note by what a case is like others."""
    asked = sa.select(case_signs.c.sign).where(case_signs.c.number == number, case_signs.c.sign.in_(signs))
    new = set(map(cut, signs)) - set(writer.scalars(asked))
    if new:
        writer.execute(case_signs.insert(), [{"number": number, "sign": one} for one in sorted(new)])


def _open(writer: sa.Connection, one: Asking, sha256: str, deadlines: Deadlines, now_us: int, who: str) -> Case:
    begun = {"opened_us": now_us, "decimals": one.decimals}
    row = {
        "key_field": one.key_field, "key_value": storable(writer, one.key_value),
        "key_sha256": sha256, "open_key": sha256,
        "state": CaseState.OPEN, "why": cut(one.why), "due_us": now_us, "priority": "", "loss": 0, "amount": 0,
        "largest": 0, "payments": 0, "newest_us": one.received_us, "version": 1, **begun,
    }  # fmt: skip
    number: int = writer.execute(cases.insert().values(row)).inserted_primary_key[0]  # type: ignore[index]
    _add(writer, number, one)
    writer.execute(cases.update().where(cases.c.number == number).values(sums(writer, number, deadlines, begun)))
    opened = case_of(writer, number)
    _sign_amount(writer, opened)
    tell(writer, opened, OPENED, {"transaction_id": one.transaction_id, "why": one.why}, who, now_us)
    return opened


def _add(writer: sa.Connection, number: int, one: Asking) -> None:
    row = {
        "position": one.position, "number": number, "transaction_id": storable(writer, one.transaction_id),
        "received_us": one.received_us, "amount": one.amount, "probability": one.probability,
        "decision": one.decision, "why": cut(one.why),
    }  # fmt: skip
    writer.execute(case_payments.insert().values(row))
    sign(writer, number, sorted(one.signs))


def _sign_amount(writer: sa.Connection, case: Case) -> None:
    """One sign says how large the largest payment is."""
    is_amount = sa.and_(case_signs.c.number == case.number, case_signs.c.sign.startswith(AMOUNT, autoescape=True))
    writer.execute(case_signs.delete().where(is_amount))
    sign(writer, case.number, [sign_of_amount(case.largest, case.decimals)])


def _in_units(one: Asking, decimals: int) -> Asking:
    """The same with its amount in units of 10^-decimals, as the case has them: a detector may have changed its own."""
    if one.amount is None or one.decimals == decimals:
        return one
    return one._replace(amount=round(one.amount * 10.0 ** (decimals - one.decimals)), decimals=decimals)
