"""Rows of tables as they are told, on the wire and in files: read by the rules that hold for transactions."""

import operator
from functools import cached_property
from typing import Any

import msgspec

from sentinel.events.reader import TransactionReader
from sentinel.events.reference_tables.declaration import FIRST, LAST, VALID_FROM, LookupTable
from sentinel.events.reference_tables.ranges import BETWEEN, span_of
from sentinel.events.reference_tables.versions import Row, Tables, Told
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets
from sentinel.events.times import iso


class RowSchema(Schema, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True, omit_defaults=True):
    """The fields of the rows of a table; its `id` is the key of a row, or the first end of a range."""

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Every number kept exactly -> its decimals: there is no amount of its own."""
        return self.exact


def row_schema(schema: Schema, name: str) -> RowSchema:
    """The fields of the rows of a table that a schema declares."""
    table = schema.tables[name]

    def of(kind: str) -> tuple[str, ...]:
        return tuple(column for column, one in table.columns.items() if one == kind)

    key, ends = (table.by, ()) if table.ranges is None else (FIRST, (LAST,))
    return RowSchema(
        id=key,
        time=VALID_FROM,
        amount="",
        categories=of("category") + ends,
        numbers=of("number"),
        exact=dict.fromkeys(of("amount"), schema.amount_decimals),
        times=of("time"),
        optional=(VALID_FROM, *table.columns, *ends),
        not_card_numbers=(key, *ends),
        label=schema.label,
        timezone=schema.timezone,
        time_format=schema.time_format,
        time_from=schema.time_from,
        decimal=schema.decimal,
        encoding=schema.encoding,
    )


class TableReader:
    """Reads the rows of one table of a schema. `reader` reads transactions: it hides keys as it hides those."""

    def __init__(self, schema: Schema, name: str, secrets: Secrets, reader: TransactionReader) -> None:
        self.schema = row_schema(schema, name)
        self.table = schema.tables[name]
        self._rows = TransactionReader(self.schema, secrets)
        self._transactions = reader
        self._columns = tuple(self.table.columns)
        self._values_of: Any = (
            operator.attrgetter(*self._columns)
            if len(self._columns) > 1
            else lambda row: (getattr(row, self._columns[0]),)
        )

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> Told:
        """A row from its JSON bytes; without any column it is removed. Raises BadBody, InvalidInput."""
        row: Any = self._rows.decode(raw)
        first, last = getattr(row, self.schema.id), getattr(row, LAST) if self.table.ranges else None
        return Told(self.key(first, last), getattr(row, VALID_FROM), self.values(self._values_of(row)))

    def key(self, first: str, last: str | None) -> str:
        """The key of a row as it is kept. Raises InvalidInput."""
        if self.table.ranges is not None:
            return span_of(self.table.ranges, first, last)[0]
        return self._transactions.text(self.table.by, first)

    def texts(self, text: str) -> list[str]:
        """What the row for a text of a transaction is found by: as it is kept, and before the hash key was changed."""
        return self._transactions.texts(self.table.by, text)

    def values(self, values: tuple[Any, ...]) -> bytes:
        """The columns of a row as they are kept, from those of the table in their order: JSON, empty without any."""
        found = {name: one for name, one in zip(self._columns, values, strict=True) if one is not None}
        return msgspec.json.encode(found) if found else b""


class TableFacts(msgspec.Struct, frozen=True):
    """A table that is declared, and how much is in it: rows, removed ones too while they are kept, and their versions.

    `bytes` are those of keys and columns, `last_change` is when the newest row was received.
    """

    name: str
    by: str
    ranges: str | None
    columns: dict[str, str]
    rows: int
    versions: int
    bytes: int
    last_change: str | None


def facts_of(name: str, table: LookupTable, tables: Tables) -> TableFacts:
    """How much is in a table."""
    found = tables.of(name, table.kind)
    changed = iso(found.changed_us) if found.changed_us else None
    columns = {column: str(kind) for column, kind in table.columns.items()}
    return TableFacts(name, table.by, table.ranges, columns, len(found), found.n_versions, found.nbytes, changed)


def told_row(schema: Schema, name: str, row: Row) -> dict[str, Any]:
    """A row as it would be told: its key or its range, since when it holds, and its columns."""
    return _head_of(schema, name, row) | _columns_of(schema, name, row)


def shown_row(schema: Schema, name: str, row: Row) -> dict[str, Any]:
    """A row for people, its columns by themselves."""
    return _head_of(schema, name, row) | {"columns": _columns_of(schema, name, row)}


def _head_of(schema: Schema, name: str, row: Row) -> dict[str, Any]:
    table = schema.tables[name]
    first, _, last = row.key.partition(BETWEEN)
    key = {table.by: row.key} if table.ranges is None else {FIRST: first, LAST: last}
    return {**key, VALID_FROM: iso(row.valid_from_us)}


def _columns_of(schema: Schema, name: str, row: Row) -> dict[str, Any]:
    columns: dict[str, Any] = msgspec.json.decode(row.values) if row.values else {}
    for column, kind in schema.tables[name].columns.items():
        if kind == "time" and isinstance(columns.get(column), int):
            columns[column] = iso(columns[column])
    return columns
