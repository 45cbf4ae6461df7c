"""Context events in files, read as transactions are (`files.py`): what the server would refuse is left out."""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from sentinel.errors import DataProblem
from sentinel.events import cells
from sentinel.events.context import event_schema
from sentinel.events.files import (
    NUMBER,
    Example,
    History,
    RowReader,
    columns_for,
    read_history,
    said,
    skipped_lines,
)
from sentinel.events.reading import Reading
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets
from sentinel.events.stamps import EVENT_STAMPS, POSITION, stamps_of
from sentinel.events.tables import Column, Table
from sentinel.events.wire import EVENT_ID, KIND

_NO_KEY = Secrets()


def read_whole_history(
    path: Path,
    schema: Schema,
    reading: Reading,
    *,
    secrets: Secrets = _NO_KEY,
    now_us: int | None = None,
) -> History:
    """The transactions of `path` with the context events of `reading.events`, where there is such a file."""
    history = read_history(path, schema, reading, secrets=secrets, now_us=now_us)
    if reading.events is None:
        return history
    return with_context(history, reading.events, schema, reading, secrets=secrets, now_us=now_us)


def with_context(
    history: History,
    path: Path,
    schema: Schema,
    reading: Reading | None = None,
    *,
    secrets: Secrets = _NO_KEY,
    now_us: int | None = None,
) -> History:
    """The history with the context events of a file, or of all files of a folder or pattern.

    A file has the columns `event` (the kind), `event_id`, and the schema's names of the time and of what the kinds
    carry; what a kind does not carry is not looked at. Events after the last transaction are left out: they belong to
    what comes next; those of a log (see `stamps`) stay, in the order in which they came in there. Rows that cannot be
    used are counted in `skipped`, after `events: `; with `reading.strict` they are an error. Raises DataProblem, and
    what `read_history` raises.
    """
    reading = reading or Reading()
    table = Table(path, reading.dialect_of(schema))
    reader = _ContextReader(str(path), table.columns(), schema, reading, secrets, now_us)
    return _with(history, table.batches(reader.columns), reader)


def with_context_of_frame(
    history: History,
    frame: pl.DataFrame,
    schema: Schema,
    reading: Reading | None = None,
    *,
    secrets: Secrets = _NO_KEY,
    now_us: int | None = None,
) -> History:
    """The same for a frame that is already in memory, under the names of the fields."""
    reader = _ContextReader("the frame", frame.columns, schema, reading or Reading(), secrets, now_us)
    return _with(history, [{name: frame[name] for name in reader.columns}], reader)


def _with(history: History, batches: Iterable[Mapping[str, Column]], reader: "_ContextReader") -> History:
    found = pl.concat([reader.empty, *map(reader.take, batches)], how="diagonal")
    found = found.sort(NUMBER, maintain_order=True)
    first = found.unique(subset=EVENT_ID, keep="first", maintain_order=True)
    skipped, examples = reader.left_out()
    if len(first) < len(found):
        skipped[f"{EVENT_ID} seen before"] = len(found) - len(first)
    if skipped and reader.strict:
        raise DataProblem(f"events that cannot be used ({said(skipped, examples)}); mend them, or leave out --strict")
    when = pl.col(reader.time)
    last_us = history.frame[reader.time].max()
    is_of_log = pl.col(POSITION).is_not_null() if POSITION in first.columns else pl.lit(value=False)
    order = [name for name in (POSITION, reader.time) if name in first.columns]
    kept = first.filter((when <= last_us) | is_of_log).drop(NUMBER).sort(order, maintain_order=True, nulls_last=False)
    if len(kept) < len(first):
        skipped["later than the last transaction"] = len(first) - len(kept)
    return dataclasses.replace(
        history,
        context=kept,
        skipped=history.skipped | {f"events: {reason}": n for reason, n in skipped.items()},
        examples=history.examples | {f"events: {reason}": one for reason, one in examples.items()},
    )


class _ContextReader:
    """Reads the rows of an events file: each by the schema of its kind."""

    def __init__(
        self, named: str, present: Sequence[str], schema: Schema, reading: Reading, secrets: Secrets, now_us: int | None
    ) -> None:
        """Of the file of this name, with these columns."""
        if not schema.events:
            raise DataProblem(f"{named} has events, and the schema declares none; declare their kinds in `events`")
        kind = columns_for((KIND,), schema, reading.renames, present)
        if not kind:
            raise DataProblem(f"{named} lacks the column {KIND}, which names the kind; it has {', '.join(present)}")
        now_us = time.time_ns() // 1_000 if now_us is None else now_us
        self.time, self.strict = schema.time, reading.strict
        self._named = named
        self._schemas = {kind: event_schema(schema, kind) for kind in schema.events}
        self._readers = {kind: RowReader(one, reading, secrets, now_us) for kind, one in self._schemas.items()}
        self._fields = {
            kind: columns_for(one.fields, one, reading.renames, present) for kind, one in self._schemas.items()
        }
        self._kind = kind[KIND]
        self._stamps = stamps_of(present, EVENT_STAMPS)
        self.columns = list(
            dict.fromkeys(
                [self._kind, *self._stamps, *(one for found in self._fields.values() for one in found.values())]
            )
        )
        """Those that have to be read."""

        self._rows = 0
        self._skipped: dict[str, int] = {}
        self._examples: dict[str, Example] = {}
        self.empty = pl.DataFrame(
            schema={NUMBER: pl.Int64, KIND: pl.String, EVENT_ID: pl.String, schema.time: pl.Int64}
            | dict.fromkeys((*schema.exact_numbers, *schema.plain_numbers), pl.Float64)
            | dict.fromkeys(schema.instants, pl.Int64)
            | dict.fromkeys(schema.texts, pl.String)
            | dict.fromkeys(self._stamps, pl.Int64)
        )

    def take(self, batch: Mapping[str, Column]) -> pl.DataFrame:
        """The rows of a batch that can be used, with the `NUMBER` of each in the file."""
        column = batch[self._kind]
        n = len(column)
        numbers = pl.int_range(self._rows + 1, self._rows + n + 1, eager=True)
        kinds = cells.texts(column, KIND, takes_booleans=False).values.str.strip_chars()
        self._count(column, kinds, numbers)
        self._rows += n
        parts = [self.empty]
        for kind, reader in self._readers.items():
            rows = (kinds == kind).fill_null(value=False)
            if rows.any():
                some = {field: _some(batch[name], rows) for field, name in self._found(kind).items()}
                taken = reader.take_numbered(some, numbers.filter(rows))
                parts.append(taken.frame.with_columns(pl.lit(kind).alias(KIND)))
        return pl.concat(parts, how="diagonal")

    def _found(self, kind: str) -> dict[str, str]:
        """By field, the columns of a kind of which the file has events."""
        schema, found = self._schemas[kind], self._fields[kind]
        needed = [one for one in schema.fields if one not in schema.may_lack or one == schema.time]
        missing = [field for field in needed if field not in found]
        if missing:
            raise DataProblem(f"{self._named} has events of the kind {kind}, and lacks {', '.join(missing)}")
        return found | {name: name for name in self._stamps}

    def _count(self, column: Column, kinds: pl.Series, numbers: pl.Series) -> None:
        """Count the rows that are of no kind."""
        lines = skipped_lines(column, len(kinds))
        known = kinds.is_in(list(self._schemas)).fill_null(value=False)
        reasons = (
            ("it is no JSON object", lines == 1),
            ("it has a name twice", lines == 2),
            (f"{KIND} is missing", ~known & (lines == 0) & (kinds.is_null() | (kinds == ""))),
            (f"{KIND} is none of {', '.join(self._schemas)}", ~known & (lines == 0) & (kinds != "")),
        )
        for reason, rows in reasons:
            if n := int(rows.fill_null(value=False).sum()):
                first = int(rows.fill_null(value=False).arg_true()[0])
                shown = None if lines[first] else kinds[first]
                self._skipped[reason] = self._skipped.get(reason, 0) + n
                self._examples.setdefault(reason, Example.of(int(numbers[first]), shown or None))

    def left_out(self) -> tuple[dict[str, int], dict[str, Example]]:
        """How many rows were left out, by reason, and the first of each."""
        skipped, examples = dict(self._skipped), dict(self._examples)
        for kind, reader in self._readers.items():
            skipped |= {f"{kind}: {reason}": n for reason, n in reader.skipped.items()}
            examples |= {f"{kind}: {reason}": one for reason, one in reader.examples.items()}
        return skipped, examples


def _some(column: Column, rows: pl.Series) -> Column:
    if isinstance(column, list):
        return [value for value, is_one in zip(column, rows, strict=True) if is_one]
    return column.filter(rows)
