"""Search: any decision by id, key, amount, time, action or model; the filters are in the address. And as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.secrets import is_hidden
from sentinel.events.times import bound_us, clock_us
from sentinel.policy.thresholds import Action
from sentinel.record.views import DecisionQuery, ListedDecision, Page, View, merged
from sentinel.transport.console.cells import safe_cell
from sentinel.transport.console.drawing import page
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import path_of
from sentinel.transport.console.stored import Stored
from sentinel.transport.console.words import instant
from sentinel.transport.people.people import People

ROWS = 50
MOST_OF_CSV = 10_000
_FIELDS = ("id", "from", "to", "least", "most", "action", "rule", "model", "degraded", "cursor")
_MOST_QUERIES = 16


def search_pages(stored: Stored, people: People) -> APIRouter:
    """`/search` and `/search.csv`. What is typed is sent by POST, and leads to an address without card numbers."""
    router = APIRouter()

    @router.get("/search")
    def search(request: Request) -> Response:
        asked = _asked(request.query_params)
        schema = stored.champion().plan.schema
        address = _address(asked, schema, stored)
        if asked.get("id") or address != _with_query(asked):
            return RedirectResponse(address, 303)
        queries = _queries(asked, schema, stored, ROWS)
        people.note(by_person(request, "search", _as_kept(asked, queries[0])), clock_us())
        with stored.view() as view:
            found = merged([view.search(one) for one in queries], ROWS)
            lag_s = max((clock_us() - view.position.projected_at_us) / 1e6, 0.0)
            fraud = view.outcomes_about([one.position for one in found.rows])
            total = view.counts().decisions
        filters = {name: value for name, value in asked.items() if name != "cursor"}
        values = {
            "asked": asked, "keys": schema.keys, "rows": found.rows, "fraud": fraud,
            "digits": stored.amount_digits(schema),
            "next": None if found.next is None else urlencode({**filters, "cursor": found.next}),
            "first": urlencode(filters), "filters": len(filters), "lag_s": lag_s, "total": total,
            "models": stored.registry.versions(), "most_of_csv": MOST_OF_CSV,
            "currency": stored.currency(), "said": said_of(
                len(found.rows), total, has_filters=bool(filters), is_all=not found.next and filters == asked
            ),
        }  # fmt: skip
        return page(request, "search.html", values)

    @router.post("/search")
    def lead(filled: Annotated[dict[str, str], Depends(_filled)]) -> Response:
        asked = _asked(filled)
        schema = stored.champion().plan.schema
        _queries(asked, schema, stored, ROWS)  # what cannot be is refused here, beside what was typed
        return Response(status_code=200, headers={"hx-redirect": _address(asked, schema, stored)})

    @router.get("/search.csv")
    def as_csv(request: Request) -> Response:
        asked = _asked(request.query_params)
        asked.pop("cursor", None)
        schema = stored.champion().plan.schema
        queries = _queries(asked, schema, stored, 500)
        people.note(by_person(request, "search as CSV", _as_kept(asked, queries[0])), clock_us())
        named = {"content-disposition": 'attachment; filename="decisions.csv"'}
        return StreamingResponse(_lines(stored, queries, schema), media_type="text/csv; charset=utf-8", headers=named)

    return router


def said_of(shown: int, total: int, *, has_filters: bool, is_all: bool) -> str:
    """How many fit, of how many there are; how many more there are is not counted.

    >>> said_of(7, 9_000, has_filters=True, is_all=True), said_of(50, 9_000, has_filters=True, is_all=False)
    ('7 of 9,000 decisions fit', 'more than 50 of 9,000 decisions fit')
    >>> said_of(50, 9_000, has_filters=False, is_all=False)
    '9,000 decisions'
    """
    if not has_filters:
        return f"{total:,} decisions"
    return f"{shown:,} of {total:,} decisions fit" if is_all else f"more than {ROWS} of {total:,} decisions fit"


async def _filled(request: Request) -> dict[str, str]:
    """The fields of a form."""
    async with request.form() as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def _asked(given: Mapping[str, str]) -> dict[str, str]:
    """What was filled in."""
    return {name: value.strip() for name, value in given.items() if value.strip()}


def _address(asked: Mapping[str, str], schema: Schema, stored: Stored) -> str:
    """Where a search stands, with the hash of what is secret in it: both, while a hash key follows another one."""
    reader = stored.reader(schema)
    if asked.get("id"):
        names = reader.texts(schema.id, asked["id"])
        return path_of("decisions", names[0] if len(names) == 1 else asked["id"])
    known = {name: ",".join(_texts(reader, name, asked[name])) for name in schema.keys if name in asked}
    return _with_query({**asked, **known})


def _with_query(asked: Mapping[str, str]) -> str:
    return f"/search?{urlencode(asked)}" if asked else "/search"


def _texts(reader: TransactionReader, name: str, value: str) -> list[str]:
    """What a key is found by; what an address holds already stays."""
    parts = value.split(",")
    return parts if all(map(is_hidden, parts)) else reader.texts(name, value)


def _queries(asked: Mapping[str, str], schema: Schema, stored: Stored, limit: int) -> list[DecisionQuery]:
    """Queries that differ in keys: a secret may be stored under two hashes. Raises InvalidInput."""
    unknown = [name for name in asked if name not in _FIELDS and name not in schema.keys]
    if unknown:
        raise InvalidInput(f"There is no search by {quoted(unknown[0])}", "$")
    reader = stored.reader(schema)
    hidden = {name: _texts(reader, name, asked[name]) for name in schema.keys if name in asked}
    each = [dict(zip(hidden, values, strict=True)) for values in product(*hidden.values())]
    if len(each) > _MOST_QUERIES:
        raise InvalidInput("Give fewer keys: each may be stored under two hashes while the hash key is changed")
    action = asked.get("action")
    if action is not None and action not in tuple(map(str, Action)):
        raise InvalidInput(f"Expected one of {', '.join(map(str, Action))}, got {quoted(action)}", "$.action")
    return [
        DecisionQuery(
            keys=keys, from_us=_time(asked, "from"), to_us=_time(asked, "to"),
            action=Action(action) if action else None,
            least_amount=_amount(asked, "least"), most_amount=_amount(asked, "most"), model_version=asked.get("model"),
            rule=asked.get("rule"),
            degraded="degraded" in asked, limit=limit, cursor=asked.get("cursor"),
        )
        for keys in each
    ]  # fmt: skip


def _as_kept(asked: Mapping[str, str], query: DecisionQuery) -> str:
    """What was asked, as the audit may keep it for ever: secrets as their hashes, and no card number anywhere.

    Card numbers are hidden first: in an address they are written so that nobody would know them.
    """
    return urlencode({name: query.keys.get(name, masked(value)) for name, value in asked.items()})


def _time(asked: Mapping[str, str], name: str) -> int | None:
    """ISO 8601; what a browser's field gives has no offset, and is UTC."""
    given = asked.get(name)
    return None if given is None else bound_us(given.replace(" ", "+"), f"$.{name}")


def _amount(asked: Mapping[str, str], name: str) -> float | None:
    given = asked.get(name)
    if given is None:
        return None
    try:
        return float(given.replace(",", ""))
    except ValueError:
        raise InvalidInput(f"Expected an amount such as 12.50, got {quoted(given)}", f"$.{name}") from None


def _lines(stored: Stored, queries: Sequence[DecisionQuery], schema: Schema) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    heads = ["transaction_id", "decided_at", "amount", "decision", "fraud_probability", "model_version", "degraded"]
    writer.writerow([*heads, *schema.keys, "is_fraud"])
    with stored.view() as view:
        for found in _pages(view, queries):
            fraud = view.outcomes_about([one.position for one in found])
            for one in found:
                writer.writerow(_row(one, schema, fraud.get(one.position)))
            yield text.getvalue()
            text.seek(0)
            text.truncate()


def _pages(view: View, queries: Sequence[DecisionQuery]) -> Iterator[list[ListedDecision]]:
    """Rows of page after page, as many as a file has at most."""
    left, cursor = MOST_OF_CSV, None
    while left > 0:
        found: Page = merged([view.search(msgspec.structs.replace(one, cursor=cursor)) for one in queries], 500)
        yield found.rows[:left]
        left, cursor = left - len(found.rows), found.next
        if cursor is None:
            return


def _row(one: ListedDecision, schema: Schema, is_fraud: bool | None) -> list[Any]:
    cells: list[Any] = [
        one.transaction_id, instant(one.received_us), one.amount, one.decision, one.fraud_probability,
        one.model_version, one.degraded, *(one.keys.get(name) for name in schema.keys), is_fraud,
    ]  # fmt: skip
    return [safe_cell(one) for one in cells]
