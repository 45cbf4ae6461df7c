"""Lists over HTTP: values are put on them and taken off, rules sleep for one key, and what was known when is told."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import DeploymentRefused, InvalidInput, NotFound
from sentinel.events.card_numbers import masked_ends, quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.reference_tables.versions import LIST, SNOOZE, TableVersions
from sentinel.events.times import bound_us, clock_us, iso
from sentinel.events.wire import MAX_TEXT, read_json
from sentinel.record.audit import Change
from sentinel.record.listed import Listing, declared, entries_in, on_list
from sentinel.record.standing import wait_until_it_stands
from sentinel.transport.http.admin.changes import by_caller
from sentinel.transport.http.api import Api
from sentinel.transport.http.bodies import items_in, read_as, read_body, schema_of, shown_body
from sentinel.transport.http.calls import kind_of
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import JSON, NDJSON, ok

_MOST_SHOWN = 500
_REASON = Annotated[str, msgspec.Meta(max_length=500)]
_VALUE = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
_MOMENT = str | int | float


class EntryBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"since": "from"}):
    """A value of the list's field, in clear text. It is on the list `from` then (now) `until` then (for good).

    With `remove` it is off the list from now on, whatever was said of it before.
    """

    value: _VALUE
    reason: _REASON = ""
    since: _MOMENT | None = None
    until: _MOMENT | None = None
    remove: bool = False


class SnoozeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule, and for which value of which key it holds no more until when; with `remove` it does again."""

    rule: Annotated[str, msgspec.Meta(max_length=80)]
    by: Annotated[str, msgspec.Meta(max_length=80)]
    value: _VALUE
    reason: _REASON = ""
    until: _MOMENT | None = None
    remove: bool = False


class LookUpBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value in clear text, and the moment that is asked about (now)."""

    value: _VALUE
    as_of: Annotated[str, msgspec.Meta(max_length=40)] | None = None


class ToldEntries(msgspec.Struct, frozen=True):
    """How many entries came, and where the log has what changed by them; None where nothing did."""

    list: str
    entries: int
    position: int | None


class ListCalls:
    """Has entries of lists recorded, and shows them."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def tell(self, request: Request, name: str) -> ToldEntries:
        """Record what a body says of a list, all of it or none; it is durable when this returns.

        Raises BadBody, InvalidInput, NotFound, StorageProblem, TooLarge.
        """
        api = self._api
        engine, body = api.deciding().ready_engine(), await read_body(request, api.settings.max_body_bytes)
        by = declared(engine.lineup.rules, name).by
        kind = kind_of(request.headers.get("content-type", "")) or "json"
        found = items_in(body, kind, api.settings.max_batch, "an entry")
        items: Sequence[Any] = [body] if found is None else found
        asked = [_read(raw, n if len(items) > 1 else None) for n, raw in enumerate(items)]
        if len(asked) > 1 and api.settings.rules_need_two:
            raise DeploymentRefused(
                "several entries at once need two people (SENTINEL_RULES_NEED_TWO): write them down with POST "
                "/v1/rules/drafts, and somebody else applies the draft; one at a time needs nobody else"
            )
        told = listings(TransactionReader(engine.schema, api.secrets), by, asked, by_caller(request).who)
        said = {"list": name, "entries": len(asked), "removed": sum(one.remove for one in asked)}
        position = await self.record(request, (name, LIST), told, said)
        return ToldEntries(name, len(asked), position)

    async def snooze(self, request: Request) -> ToldEntries:
        """Let a rule sleep for one key; it is durable when this returns.

        Raises BadBody, InvalidInput, NotFound, StorageProblem.
        """
        engine = self._api.deciding().ready_engine()
        one: SnoozeBody = _parse(await read_body(request, self._api.settings.max_body_bytes), _snoozes)
        rules, keys = engine.lineup.rules, engine.schema.keys
        if rules is None or one.rule not in {rule.name for rule in rules.book.all_rules}:
            raise NotFound(f"There is no rule {quoted(one.rule, 80)} in force")
        if one.by not in keys:
            raise InvalidInput(f"Expected a key of transactions, one of {', '.join(keys)}", "$.by")
        if one.until is None and not one.remove:
            raise InvalidInput("Expected a moment at which the rule wakes again", "$.until")
        reason, author = masked_ends(one.reason, 500), by_caller(request).who
        told = [
            Listing(f"{one.by}={text}", reason, author, None, _moment(one.until, "until"), one.remove)
            for text in TransactionReader(engine.schema, self._api.secrets).texts(one.by, one.value)
        ]
        asked = {"rule": one.rule, "by": one.by, "remove": one.remove}
        return ToldEntries(one.rule, 1, await self.record(request, (one.rule, SNOOZE), told, asked))

    async def record(
        self, request: Request, which: tuple[str, str], told: Sequence[Listing], asked: dict[str, Any]
    ) -> int | None:
        """Record what is said of a list or of who a rule sleeps for; the position, None where nothing changes by it.

        The audit has `asked` of it. Raises InvalidInput, StorageProblem.
        """
        request.state.asked = msgspec.json.encode(asked)  # the audit does not say whose
        worker, note = self._api.deciding(), Change.of(by_caller(request), {}, asked, clock_us())
        written = await asyncio.wrap_future(worker.list_values(*which, told, by_caller(request).who, note))
        if written is None:
            return None
        await run_in_threadpool(wait_until_it_stands, worker.log, written)
        return written.position

    def lists(self) -> list[dict[str, Any]]:
        """The lists that the book in force declares, and how many versions of entries each has. Raises NotReady."""
        engine = self._api.deciding().ready_engine()
        lineup = engine.lineup
        return [
            {**msgspec.structs.asdict(one), **_sizes(engine.tables.tables.of(one.name, LIST))}
            for one in (lineup.rules.acting.lists if lineup.rules else ())
        ]

    def entries(self, request: Request, name: str) -> dict[str, Any]:
        """A page of what is on a list now, as it is kept. Raises NotFound, NotReady, InvalidInput."""
        engine = self._api.deciding().ready_engine()
        versions = engine.tables.tables.of(declared(engine.lineup.rules, name).name, LIST)
        limit = whole_number(request.query_params.get("limit", "50"), "limit")
        if not 1 <= limit <= _MOST_SHOWN:
            raise InvalidInput(f"Expected 1 to {_MOST_SHOWN}, got {limit}", "$.limit")
        cursor = whole_number(request.query_params.get("cursor", "0"), "cursor")
        found, after = entries_in(versions, clock_us(), cursor, limit)
        return {"list": name, "entries": found, "next": after}

    def entry(self, name: str, value: str, as_of: str | None) -> Any:
        """Whether a value is on a list, now or at a moment, and when. Raises NotFound, NotReady, InvalidInput."""
        engine = self._api.deciding().ready_engine()
        by = declared(engine.lineup.rules, name).by
        time_us = clock_us() if as_of is None else bound_us(_given(as_of), "$.as_of")
        keys = TransactionReader(engine.schema, self._api.secrets).texts(by, value)
        return on_list(engine.tables.tables.of(name, LIST), name, keys, keys[0], time_us)


def listings(reader: TransactionReader, by: str, asked: Sequence[EntryBody], author: str) -> list[Listing]:
    """What these entries of a list of the field `by` say, with values as they are kept. Raises InvalidInput."""
    return [
        Listing(
            key, masked_ends(one.reason, 500), author, _moment(one.since, "from"), _moment(one.until, "until"),
            one.remove,
        )
        for one in asked
        for key in reader.texts(by, one.value)  # also as it was before the hash key was changed
    ]  # fmt: skip


_entries = msgspec.json.Decoder(EntryBody).decode
_snoozes = msgspec.json.Decoder(SnoozeBody).decode


def _parse(raw: Any, decode: Any) -> Any:
    return read_json(decode, raw)


def _read(raw: Any, n: int | None) -> EntryBody:
    """An entry; what is wrong says in which of several."""
    try:
        found: EntryBody = _parse(raw, _entries)
    except InvalidInput as error:
        said = str(error).removesuffix(f" - at `{error.path}`")
        raise InvalidInput(said, error.path if n is None else f"$[{n}]{error.path[1:]}") from None
    return found


def _given(moment: str) -> str:
    return moment.replace(" ", "+")


def _moment(given: _MOMENT | None, name: str) -> int | None:
    if given is None:
        return None
    return bound_us(given, f"$.{name}")


def _sizes(versions: TableVersions) -> dict[str, Any]:
    changed = iso(versions.changed_us) if versions.changed_us else None
    return {"values": len(versions), "versions": versions.n_versions, "bytes": versions.nbytes, "last_change": changed}


def add_lists(app: FastAPI, calls: ListCalls) -> None:
    """The calls under `/v1/lists`, and the one that lets a rule sleep."""
    one = schema_of(EntryBody)
    told = {JSON: {"schema": {"oneOf": [one, {"type": "array", "items": one}]}}, NDJSON: {"schema": {"type": "string"}}}

    @app.get("/v1/lists", tags=["lists"])
    def lists() -> Response:
        """The lists of the book in force, and how much is on each."""
        return ok({"lists": calls.lists()})

    @app.get("/v1/lists/{name}", tags=["lists"])
    def entries(request: Request, name: str) -> Response:
        """What is on a list now, as it is kept: `limit` entries (50, at most 500) from `cursor` on."""
        return ok(calls.entries(request, name))

    @app.post("/v1/lists/{name}", openapi_extra={"requestBody": {"required": True, "content": told}}, tags=["lists"])
    async def tell(request: Request, name: str) -> Response:
        """Put values on a list, or take them off, one or up to 1,000: all are taken, or none.

        They count from the next decision on, or `from` then, `until` then. A value is told in clear text, and kept as
        transactions keep it. What is told again changes nothing.
        """
        return ok(await calls.tell(request, name))

    @app.post("/v1/lists/{name}/look-up", openapi_extra=shown_body(LookUpBody), tags=["lists"])
    async def look_up(request: Request, name: str) -> Response:
        """The same as with the value in the address, for a value that is to stand in none: `{"value", "as_of"?}`."""
        asked = await read_as(request, LookUpBody)
        request.state.asked = b""  # the audit does not say whose
        return ok(calls.entry(name, asked.value, asked.as_of))

    @app.get("/v1/lists/{name}/{value:any_text}", tags=["lists"])
    def entry(name: str, value: str, as_of: str | None = None) -> Response:
        """Whether a value is on a list now, or was at the moment `as_of`; all its periods, who said so, and why."""
        return ok(calls.entry(name, value, as_of))

    @app.post(
        "/v1/rules/snooze",
        openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": schema_of(SnoozeBody)}}}},
        tags=["rules"],
    )
    async def snooze(request: Request) -> Response:
        """Let a rule sleep for one key until a moment: `{"rule": .., "by": "card_id", "value": .., "until": ..}`."""
        return ok(await calls.snooze(request))
