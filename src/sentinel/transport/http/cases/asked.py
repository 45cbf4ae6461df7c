"""What is asked for in the address of a call about cases."""

from collections.abc import Mapping

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import quoted
from sentinel.review.case_store.queue import Filters, states_named
from sentinel.transport.http.api import Api
from sentinel.transport.http.queries import whole_number

_NAMED = ("state", "holder", "priority", "overdue", "transaction_id")
_DAY_US = 86_400_000_000
MOST_DAYS = 90


def asked_filters(asked: Mapping[str, str], api: Api) -> Filters:
    """The filters of these, where a key is given by its name and may be secret. Raises InvalidInput, NotReady."""
    engine = api.deciding().ready_engine()
    keys = [name for name in engine.schema.keys if name in asked]
    unknown = [name for name in asked if name not in keys and name not in _NAMED]
    if unknown or len(keys) > 1:
        name = (unknown or keys)[0]
        raise InvalidInput(
            f"Cases are found by {', '.join(_NAMED)}, and by one of {', '.join(engine.schema.keys)}",
            f"$.{quoted(name)}",
        )
    reader = api.reader(engine)
    key = (keys[0], tuple(reader.texts(keys[0], asked[keys[0]]))) if keys else None
    transaction_id = asked.get("transaction_id")
    return Filters(
        states=states_named(asked.get("state", "work")), holder=asked.get("holder"), priority=asked.get("priority"),
        overdue=_yes(asked.get("overdue", "false")), key=key,
        transaction_ids=None if transaction_id is None else tuple(reader.texts(engine.schema.id, transaction_id)),
    )  # fmt: skip


def period_us(asked: Mapping[str, str]) -> int:
    """The period of `days`, seven where none are given. Raises InvalidInput."""
    days = whole_number(asked.get("days", "7"), "days")
    if not 1 <= days <= MOST_DAYS:
        raise InvalidInput(f"Expected 1 to {MOST_DAYS} days, got {days}", "$.days")
    return days * _DAY_US


def _yes(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidInput(f"Expected true or false, got {quoted(text)}", "$.overdue")
    return text == "true"
