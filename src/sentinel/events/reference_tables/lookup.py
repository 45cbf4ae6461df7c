"""The lookup: what tables say of a transaction, as of its own time, becomes part of it."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from sentinel.events.reference_tables.declaration import COLUMN_TYPES, LookupTable
from sentinel.events.reference_tables.versions import Tables, TableVersions
from sentinel.events.schema import Schema
from sentinel.events.wire import Transaction, before_of


class Columns:
    """Reads the columns of a table's rows under the names that they have in a transaction."""

    def __init__(self, name: str, table: LookupTable) -> None:
        self.names = tuple(f"{name}_{column}" for column in table.columns)
        fields: list[Any] = [
            (field, COLUMN_TYPES[kind] | None, msgspec.field(default=None, name=column))
            for field, (column, kind) in zip(self.names, table.columns.items(), strict=True)
        ]
        made: Any = msgspec.defstruct("Columns", fields, frozen=True, gc=False)
        self._decode = msgspec.json.Decoder(made).decode
        self.none = made()
        """Of a row that says nothing."""

    def read(self, values: bytes) -> Any:
        """What JSON of columns says; nothing where it was told for columns of other types."""
        try:
            return self._decode(values) if values else self.none
        except msgspec.MsgspecError:
            return self.none


class _Step(NamedTuple):
    """One table: by which field, where it is looked up, and how its rows are read."""

    by: str
    text_of: Callable[[Transaction], str | None]
    versions: TableVersions
    columns: Columns


class Lookup:
    """Looks up the transactions of a schema in tables."""

    def __init__(self, schema: Schema, tables: Tables) -> None:
        self._time_of: Callable[[Transaction], int] = operator.attrgetter(schema.time)
        self._steps = [
            _Step(table.by, operator.attrgetter(table.by), tables.of(name, table.kind), Columns(name, table))
            for name, table in schema.tables.items()
        ]

    def fill(self, transactions: Sequence[Transaction]) -> None:
        """Set what the tables say of these, whose times are known, in place."""
        for by, text_of, versions, columns in self._steps:
            values_at, read, names = versions.values_at, columns.read, columns.names
            for one in transactions:
                text, values = text_of(one), b""
                if text is not None:
                    time_us = self._time_of(one)
                    values = values_at(text, time_us)
                    if not values and one.hashed_before is not UNSET and (before := before_of(one, by)):
                        values = values_at(before, time_us)  # the row may have been told before the key was changed
                if values:
                    row = read(values)
                    for name in names:
                        setattr(one, name, getattr(row, name))
