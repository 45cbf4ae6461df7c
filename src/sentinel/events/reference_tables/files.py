"""Tables in files, and the histories that are looked up in them: the same rows, and the same lookup, as live."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from sentinel.errors import DataProblem, InvalidInput
from sentinel.events.files import LOOKED_UP_TYPES, NUMBER, Example, History, RowReader, columns_of_fields, said
from sentinel.events.reader import TransactionReader
from sentinel.events.reading import Reading
from sentinel.events.reference_tables.declaration import LAST, VALID_FROM
from sentinel.events.reference_tables.file_content import TableFile
from sentinel.events.reference_tables.lookup import Columns
from sentinel.events.reference_tables.rows import TableReader
from sentinel.events.reference_tables.versions import Row, TableVersions, Told
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets
from sentinel.events.tables import Column, Table
from sentinel.events.times import EARLIEST_US, LATEST_US

_NO_KEY = Secrets()
_AT_ONCE = 1_000
_NO_KEY_HERE = "its key holds a card number"


def read_table(
    path: Path,
    schema: Schema,
    name: str,
    reading: Reading | None = None,
    *,
    secrets: Secrets = _NO_KEY,
    valid_from_us: int = EARLIEST_US,
) -> TableFile:
    """Read a file of rows of a table that the schema declares, or all files of a folder or pattern.

    It has the columns that `rows.row_schema` says; rows of a file without `valid_from` hold from `valid_from_us`
    on. What the server would refuse is left out and counted; with `reading.strict` it is an error. Raises DataProblem,
    and InvalidDefinition when keys have to be hidden and `secrets` have no key.
    """
    reading = reading or Reading()
    file = _Reader(schema, name, reading, secrets, valid_from_us)
    table = Table(path, reading.dialect_of(file.rows.schema))
    column_of = columns_of_fields(path, file.rows.schema, reading.renames, table.columns())
    batches = table.batches(list(dict.fromkeys(column_of.values())))
    rows = [row for batch in batches for row in file.take({field: batch[one] for field, one in column_of.items()})]
    skipped, examples = file.left_out()
    last_of_each = {(row.key, row.valid_from_us): row for row in rows}
    if skipped and reading.strict:
        raise DataProblem(
            f"rows of the table {name} that cannot be used ({said(skipped, examples)}); mend them, or leave out "
            "--strict"
        )
    if not rows:
        raise DataProblem(f"{path} has no usable row of the table {name}: {said(skipped, examples) or 'it has no row'}")
    return TableFile(
        # removals first: what takes the place of a range may overlap it
        rows=sorted(last_of_each.values(), key=lambda row: (row.valid_from_us, bool(row.values))),
        is_dated=VALID_FROM in column_of,
        repeated=len(rows) - len(last_of_each),
        skipped=skipped,
        examples={reason: str(example) for reason, example in examples.items()},
    )


class _Reader:
    """Reads the rows of a table's file."""

    def __init__(self, schema: Schema, name: str, reading: Reading, secrets: Secrets, valid_from_us: int) -> None:
        self.rows = TableReader(schema, name, secrets, TransactionReader(schema, secrets))
        self._reader = RowReader(self.rows.schema, reading, secrets, LATEST_US)
        self._valid_from_us = valid_from_us
        self._skipped: dict[str, int] = {}
        self._examples: dict[str, Example] = {}

    def take(self, columns: Mapping[str, Column]) -> Iterator[Row]:
        """The rows of a batch that can be used."""
        n = len(next(iter(columns.values()), []))
        if VALID_FROM not in columns:  # a date of its own: a number would be read as seconds
            columns = {**columns, VALID_FROM: pl.Series([self._valid_from_us] * n).cast(pl.Datetime("us", "UTC"))}
        frame = self._reader.take(columns).frame
        row_fields = [self.rows.schema.id, VALID_FROM, NUMBER]
        lasts = frame[LAST] if self.rows.table.ranges else [None] * len(frame)
        columns_of = frame.select(list(self.rows.table.columns)).iter_rows()
        for head, last, values in zip(frame.select(row_fields).iter_rows(), lasts, columns_of, strict=True):
            first, valid_from_us, number = head
            try:
                yield Row(self.rows.key(first, last), valid_from_us, self.rows.values(values))
            except InvalidInput:
                is_range = self.rows.table.ranges is not None
                reason = f"{self.rows.schema.id} is no range of {self.rows.table.ranges}" if is_range else _NO_KEY_HERE
                self._skipped[reason] = self._skipped.get(reason, 0) + 1
                self._examples.setdefault(reason, Example.of(number, first if is_range else None))

    def left_out(self) -> tuple[dict[str, int], dict[str, Example]]:
        """How many rows were left out, by reason, and the first of each."""
        return self._reader.skipped | self._skipped, self._reader.examples | self._examples


def with_tables(history: History, schema: Schema, files: Mapping[str, TableFile | None]) -> History:
    """The history with what each table of the schema says of each transaction at its time.

    `files` has every table that the schema declares; of one without a file nothing is known. Raises DataProblem for
    rows that are refused, as ranges that overlap, and for a table without an entry.
    """
    found = []
    for name, table in schema.tables.items():
        if name not in files:
            raise DataProblem(
                f"the detector looks transactions up in the table {name}, and no file of it is given: "
                f"--table {name}=FILE, or --table {name}=none to do without"
            )
        file = files[name]
        columns = Columns(name, table)
        if file is not None:
            versions = versions_of(schema, name, file)
            rows = _looked_up(history.frame[table.by], history.frame[schema.time], versions, columns)
            for field, kind in zip(columns.names, table.columns.values(), strict=True):
                found.append(pl.Series(field, [getattr(row, field) for row in rows], LOOKED_UP_TYPES[kind]))
    given = {name: file for name, file in files.items() if file is not None and name in schema.tables}
    return dataclasses.replace(history, frame=history.frame.with_columns(found), tables=given)


def versions_of(schema: Schema, name: str, file: TableFile) -> TableVersions:
    """The rows of a file as a table. Raises DataProblem for rows that the server would refuse together."""
    table = schema.tables[name]
    versions = TableVersions(table.kind)
    for begin in range(0, len(file.rows), _AT_ONCE):
        draft = versions.draft([Told(*row) for row in file.rows[begin : begin + _AT_ONCE]], 0)
        try:
            versions.check(draft, name, table)
        except InvalidInput as error:
            raise DataProblem(str(error).removesuffix(" - at `$`")) from None
        versions.put(draft.rows, 0)
    return versions


def _looked_up(texts: pl.Series, times: pl.Series, versions: TableVersions, columns: Columns) -> list[Any]:
    """The columns for each text at its time."""
    known: dict[bytes, Any] = {b"": columns.none}
    found = []
    for text, time_us in zip(texts.to_list(), times.to_list(), strict=True):
        values = b"" if text is None else versions.values_at(text, time_us)
        if values not in known:
            known[values] = columns.read(values)
        found.append(known[values])
    return found
