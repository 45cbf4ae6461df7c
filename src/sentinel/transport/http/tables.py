"""Reference tables over HTTP: rows are told, and looked at."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import BadBody, InvalidInput, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.reference_tables.declaration import LookupTable
from sentinel.events.reference_tables.rows import TableFacts, TableReader, facts_of, shown_row
from sentinel.events.reference_tables.versions import Draft, Told
from sentinel.events.schema import Schema
from sentinel.events.times import bound_us, clock_us, iso
from sentinel.record.audit import Change
from sentinel.record.entries import TableRows
from sentinel.record.standing import wait_until_it_stands
from sentinel.serve.engine import Engine
from sentinel.transport.http.admin.changes import by_caller
from sentinel.transport.http.api import Api
from sentinel.transport.http.bodies import items_in, read_body
from sentinel.transport.http.calls import kind_of


class ToldRows(msgspec.Struct, frozen=True):
    """The answer to rows of a table: how many came, how many of them changed something, and where the log has these."""

    table: str
    rows: int
    changed: int
    position: int | None


class TableCalls:
    """Has rows of tables recorded, and shows what is in force."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._turn = asyncio.Lock()  # between the look at rows and their record nobody else changes the tables
        self._readers: dict[str, TableReader] = {}  # by table, of the schema that they are for; within a turn
        self._schema: Schema | None = None

    async def tell(self, request: Request, name: str) -> ToldRows:
        """Record the rows of a body, all of them or none; they are durable when this returns.

        Raises BadBody, InvalidInput, NotFound, StorageProblem, TooLarge.
        """
        api = self._api
        worker, body = api.deciding(), await read_body(request, api.settings.max_body_bytes)
        kind = kind_of(request.headers.get("content-type", "")) or "json"
        found = items_in(body, kind, api.settings.max_batch, "a row")
        items: Sequence[Any] = [body] if found is None else found
        async with self._turn:
            engine, now_us = worker.ready_engine(), clock_us()
            draft = await run_in_threadpool(self._draft, engine, name, items, now_us)
            if not draft.rows:
                return ToldRows(name, len(items), 0, None)
            asked = {"table": name, "rows": len(items)}
            request.state.asked = msgspec.json.encode(asked)  # the audit does not say whose rows
            note = Change.of(by_caller(request), {}, {"table": name, "changed": len(draft.rows)}, now_us)
            entry = TableRows.of(name, _table(engine.schema, name).kind, draft.rows, request.state.caller.name)
            written = await asyncio.wrap_future(worker.tell(engine, entry, note))
        await run_in_threadpool(wait_until_it_stands, worker.log, written)
        return ToldRows(name, len(items), len(draft.rows), written.position)

    def _draft(self, engine: Engine, name: str, items: Sequence[Any], now_us: int) -> Draft:
        """What the rows change; they are checked as a whole."""
        schema = engine.schema
        table = _table(schema, name)
        reader, versions = self._reader(schema, name), engine.tables.tables.of(name, table.kind)
        told = [_read(reader, raw, n if len(items) > 1 else None) for n, raw in enumerate(items)]
        draft = versions.draft(told, now_us)
        versions.check(draft, name, table)
        return draft

    def _reader(self, schema: Schema, name: str) -> TableReader:
        if self._schema is not schema:
            self._schema, self._readers = schema, {}
        if name not in self._readers:
            secrets = self._api.secrets
            self._readers[name] = TableReader(schema, name, secrets, TransactionReader(schema, secrets))
        return self._readers[name]

    def row(self, name: str, text: str, as_of: str | None) -> dict[str, Any]:
        """The row in force for a text, now or at a moment. Raises NotFound, NotReady, InvalidInput."""
        engine, api = self._api.deciding().ready_engine(), self._api
        table = _table(engine.schema, name)
        time_us = clock_us() if as_of is None else bound_us(as_of.replace(" ", "+"), "$.as_of")
        reader = TransactionReader(engine.schema, api.secrets)
        versions = engine.tables.tables.of(name, table.kind)
        found = [row for one in reader.texts(table.by, text) if (row := versions.find(one, time_us)) is not None]
        if not found:
            raise NotFound(f"The table {name} has no row in force for {quoted(text, 200)} at {iso(time_us)}")
        return {"table": name, "as_of": iso(time_us), **shown_row(engine.schema, name, found[0])}

    def tables(self) -> list[TableFacts]:
        """The tables that the detector declares, and how much is in each. Raises NotReady."""
        engine = self._api.deciding().ready_engine()
        return [facts_of(name, table, engine.tables.tables) for name, table in engine.schema.tables.items()]


def _table(schema: Schema, name: str) -> LookupTable:
    if name not in schema.tables:
        raise NotFound(f"This detector has no table {quoted(name, 80)}; it has {', '.join(schema.tables) or 'none'}")
    return schema.tables[name]


def _read(reader: TableReader, raw: Any, n: int | None) -> Told:
    """A row; what is wrong says in which of several."""
    try:
        return reader.decode(raw)
    except InvalidInput as error:
        said = str(error).removesuffix(f" - at `{error.path}`")
        raise InvalidInput(said, error.path if n is None else f"$[{n}]{error.path[1:]}") from None
    except BadBody as error:
        raise BadBody(str(error) if n is None else f"Row {n}: {error}") from None
