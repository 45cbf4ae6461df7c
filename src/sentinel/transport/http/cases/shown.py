"""How cases are shown: money as exact text, moments as ISO 8601."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sentinel.events.times import iso
from sentinel.review.case_store.case import Case, Event, Payment
from sentinel.review.case_store.figures import Figures
from sentinel.review.case_store.queue import QueuePage
from sentinel.review.case_store.similar import Similar
from sentinel.review.cases.urgency import urgency


def money(units: int, decimals: int) -> str:
    """An amount as exact text.

    >>> money(1234, 2), money(-5, 2), money(7, 0)
    ('12.34', '-0.05', '7')
    """
    digits = f"{abs(units):0{decimals + 1}d}"
    whole, part = digits[: len(digits) - decimals], digits[len(digits) - decimals :]
    return f"{'-' if units < 0 else ''}{whole}{'.' if decimals else ''}{part}"


def shown_case(case: Case, now_us: int) -> dict[str, Any]:
    """A case as it is now."""
    return {
        "case": case.number, "version": case.version, "state": case.state, "why": case.why,
        "key": {"field": case.key_field, "value": case.key_value}, "priority": case.priority,
        "expected_loss": money(case.loss, case.decimals), "amount": money(case.amount, case.decimals),
        "largest": money(case.largest, case.decimals), "payments": case.payments,
        "urgency": urgency(case.loss, case.opened_us, case.due_us, now_us),
        "opened_at": iso(case.opened_us), "newest_at": iso(case.newest_us), "due_at": iso(case.due_us),
        "overdue": case.decided_us is None and case.due_us < now_us, "holder": case.holder,
        "escalated_to": case.escalated_to, "outcome": case.outcome, "decided_at": _moment(case.decided_us),
        "decided_by": case.decided_by,
    }  # fmt: skip


def shown_page(page: QueuePage) -> dict[str, Any]:
    """A page of the queue, as of its moment."""
    return {
        "cases": [shown_case(one, page.as_of_us) for one in page.cases],
        "total": page.total, "next": page.next, "as_of": iso(page.as_of_us),
    }  # fmt: skip


def shown_whole(
    case: Case, payments: Sequence[Payment], events: Sequence[Event], similar: Sequence[Similar], now_us: int
) -> dict[str, Any]:
    """A case with all that belongs to it."""
    return {
        **shown_case(case, now_us),
        "transactions": [_payment(one, case.decimals) for one in payments],
        "history": [_event(one) for one in events],
        "similar": [
            {**shown_case(one.case, now_us), "likeness": one.alike.likeness, "shared": one.alike.shared}
            for one in similar
        ],
    }


def shown_figures(found: Figures) -> dict[str, Any]:
    """The figures of the work."""
    fields = msgspec.to_builtins(found)
    since, until = iso(fields.pop("since_us")), iso(fields.pop("until_us"))
    loss = money(fields.pop("loss"), fields.pop("decimals"))
    return {"since": since, "until": until, **fields, "expected_loss": loss}


def _payment(one: Payment, decimals: int) -> dict[str, Any]:
    return {
        "transaction_id": one.transaction_id, "position": one.position, "decided_at": iso(one.received_us),
        "amount": None if one.amount is None else money(one.amount, decimals), "fraud_probability": one.probability,
        "decision": one.decision, "why": one.why, "is_fraud": one.is_fraud, "source": one.source,
    }  # fmt: skip


def _event(one: Event) -> dict[str, Any]:
    return {"at": iso(one.at_us), "who": one.who, "what": one.what, "version": one.version, "details": one.details}


def _moment(us: int | None) -> str | None:
    return None if us is None else iso(us)
