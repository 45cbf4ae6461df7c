"""Histories in files (CSV, Parquet, JSON lines), read into the fields of a schema by the rules of the live service."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sentinel.errors import DataProblem
from sentinel.events import cells
from sentinel.events.card_numbers import masked, masked_ends, quoted
from sentinel.events.cells import Cells
from sentinel.events.hidden_columns import REFUSED, hide_columns
from sentinel.events.labels import meanings
from sentinel.events.reading import Reading
from sentinel.events.reference_tables.file_content import TableFile
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets
from sentinel.events.stamps import POSITION, of_log, stamps_in, weights_in
from sentinel.events.tables import BROKEN, REPEATED, Column, Table
from sentinel.events.times import EARLIEST_US, FARTHEST_AHEAD_US, LATEST_US, LONG_AGO_US, SECOND_US
from sentinel.events.wire import EVENT_ID, KIND, MAX_ID, MAX_TEXT

_NO_KEY = Secrets()
_ROW, _LINE = "_row", "_line"
_LAST = "#last"
NUMBER = "#row"
"""The column with the number of a row in its file, from 1 on and without the header; no field can be called so."""
_SHOWN = 40

LOOKED_UP_TYPES: dict[str, type[pl.DataType]] = {
    "amount": pl.Float64, "category": pl.String, "number": pl.Float64, "time": pl.Int64,
}  # fmt: skip
"""What a column of a table is in a history, by its type."""


class Example(NamedTuple):
    """The first row that was left out for a reason: its number, from 1 on and without the header, and its cell."""

    row: int
    cell: str | None

    @classmethod
    def of(cls, row: int, cell: str | None) -> "Example":
        """With the cell as far as it may be shown."""
        return cls(row, None if cell is None else masked(cell[:_SHOWN]))

    def __str__(self) -> str:
        return f"row {self.row}" if self.cell is None else f"row {self.row}, {quoted(self.cell)}"


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """Transactions of the past in the fields of a schema, by time; those of a log (see `stamps`) as they came in there.

    `frame` has a column per field, with texts as String, times as int64 microseconds and numbers as Float64,
    and the label (Int8, null where it is not known) and outcome time where the file has them; what tables say is null
    until it was looked up (see `reference_tables.files`). `skipped` counts the rows
    left out, by reason, and `examples` has the first of them. `relabelled` counts the transactions that a later row
    of the file gave another label. `context` has the context events (see `context_files`) by time: `event`, `event_id`
    and a column for the time and for all that a kind may carry, null where it does not. `tables` has the files that
    it was looked up in.
    """

    frame: pl.DataFrame
    skipped: dict[str, int]
    examples: dict[str, Example] = dataclasses.field(default_factory=dict)
    relabelled: int = 0
    context: pl.DataFrame | None = None
    tables: Mapping[str, TableFile] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        """Number of transactions."""
        return len(self.frame)


def read_history(
    path: Path,
    schema: Schema,
    reading: Reading | None = None,
    *,
    secrets: Secrets = _NO_KEY,
    now_us: int | None = None,
) -> History:
    """Read a file of transactions, or all files of a folder or pattern, hiding what is secret.

    Rows that the server would refuse at `now_us` (microseconds since 1970, None for this moment) are left out and
    counted; with `reading.strict` they are an error. Raises DataProblem, and InvalidDefinition when something has to be
    hidden and `secrets` have no key.

    Where the schema lets ids be assigned, rows without one are named `row-1`, `row-2`, by their position in the
    file. Where it lets times be assigned and the file has no such column, rows are taken one second apart in the
    order of the file, from 1970 on; in a file that has the column, a row without a time is left out.
    """
    reading = reading or Reading()
    dialect = reading.dialect_of(schema)
    table, beside = Table(path, dialect), None if reading.events is None else Table(reading.events, dialect).columns()
    column_of = columns_of_fields(path, schema, reading.renames, table.columns(), beside)
    wanted = list(dict.fromkeys(column_of.values()))
    batches = ({name: batch[column] for name, column in column_of.items()} for batch in table.batches(wanted))
    return _history(batches, schema, reading, secrets, now_us, str(path))


def history_of_frame(
    frame: pl.DataFrame,
    schema: Schema,
    reading: Reading | None = None,
    *,
    secrets: Secrets = _NO_KEY,
    now_us: int | None = None,
) -> History:
    """The same for a frame that is already in memory, under the names of the fields."""
    known = (*schema.fields, schema.label, *schema.outcome_columns, *of_log(frame.columns))
    columns: dict[str, Column] = {name: frame[name] for name in known if name in frame.columns}
    return _history([columns], schema, reading or Reading(), secrets, now_us, "the history")


def columns_of_fields(
    path: Path, schema: Schema, renames: Mapping[str, str], present: list[str], beside: Sequence[str] | None = None
) -> dict[str, str]:
    """Field -> column of the file, for every field that the file has. Raises DataProblem for one that it must have.

    `beside` are the columns of a file of context events, where there is one: `renames` speaks of that as well.
    """
    known = [*schema.fields, schema.label, *schema.outcome_columns]
    mapped = known if beside is None else [*known, KIND, EVENT_ID]
    strangers = [column for column in renames if column not in present and column not in (beside or ())]
    unknown = [field for field in renames.values() if field not in mapped]
    if strangers or unknown:
        files = path if beside is None else f"{path} or the file of events"
        what = f"no column {', '.join(strangers)} in {files}" if strangers else f"no field {', '.join(unknown)}"
        columns = dict.fromkeys([*present, *(beside or ())])
        raise DataProblem(f"--map: {what}; columns: {', '.join(columns)}; fields: {', '.join(mapped)}")
    found = columns_for(known, schema, renames, present)
    shown = ", ".join(masked_ends(one, _SHOWN) if one.isprintable() else quoted(one) for one in present)
    missing = [field for field in schema.fields if field not in found and field not in schema.may_lack]
    if missing:
        raise DataProblem(
            f"{path} lacks {', '.join(missing)}; it has {shown}. "
            f"Say which column is which with --map COLUMN={missing[0]}"
        )
    return found | {name: name for name in of_log(present)}


def columns_for(
    fields: Iterable[str], schema: Schema, renames: Mapping[str, str], present: Sequence[str]
) -> dict[str, str]:
    """Field -> column, for each of these fields that is `present`: as renamed, as the schema says, or of its name."""
    found: dict[str, str] = {}
    for field in fields:
        renamed = [column for column, of in renames.items() if of == field]
        named = [one for one in (*renamed, schema.columns.get(field), field) if one in present]
        if named:
            found[field] = str(named[0])
    return found


def _history(
    batches: Iterable[Mapping[str, Column]],
    schema: Schema,
    reading: Reading,
    secrets: Secrets,
    now_us: int | None,
    named: str,
) -> History:
    reader = RowReader(schema, reading, secrets, (time.time_ns() // 1_000 if now_us is None else now_us))
    kept = [reader.take(columns).frame for columns in batches]
    if reader.rows == 0:
        raise DataProblem(f"{named} has no rows")
    skipped, examples = reader.skipped, reader.examples
    frame = pl.concat(kept, rechunk=True)
    again = frame.filter(~pl.col(schema.id).is_first_distinct()).select(NUMBER, schema.id)
    if len(again):
        skipped[f"{schema.id} seen before"] = len(again)
        examples[f"{schema.id} seen before"] = Example.of(again[NUMBER][0], again[schema.id][0])
    found, relabelled = _one_row_each(frame.drop(NUMBER), schema, reading)
    if skipped and reading.strict:
        raise DataProblem(f"rows that cannot be used ({said(skipped, examples)}); mend them, or leave out --strict")
    if found.is_empty():
        raise DataProblem(f"no usable row: {said(skipped, examples)}")
    order = [name for name in (POSITION, schema.time) if name in found.columns]
    return History(found.sort(order, maintain_order=True, nulls_last=False), skipped, examples, relabelled)


def said(skipped: Mapping[str, int], examples: Mapping[str, Example]) -> str:
    """What was left out, in words."""
    return "; ".join(
        f"{n} rows: {reason}" + (f", first {examples[reason]}" if reason in examples else "")
        for reason, n in skipped.items()
    )


def _one_row_each(frame: pl.DataFrame, schema: Schema, reading: Reading) -> tuple[pl.DataFrame, int]:
    """The first row of every id, with the last label that a row of it has; and how many labels that changed."""
    if schema.label in frame.columns:
        words = frame[schema.label]
        rows = dict(words.drop_nulls().alias("word").value_counts().iter_rows())
        known = meanings(rows, schema.label, {**schema.labels, **reading.labels})
        frame = frame.with_columns(words.replace_strict(known, default=None, return_dtype=pl.Int8).alias(schema.label))
    first = frame.unique(subset=schema.id, keep="first", maintain_order=True)
    if len(first) == len(frame) or schema.label not in frame.columns:
        return first, 0
    about_label = [name for name in (schema.label, *schema.outcome_columns) if name in frame.columns]
    last = frame.filter(pl.col(schema.label).is_not_null())
    last = last.select(schema.id, *about_label).unique(subset=schema.id, keep="last", maintain_order=True)
    joined = first.join(last, on=schema.id, how="left", suffix=_LAST, maintain_order="left")
    has_last = pl.col(f"{schema.label}{_LAST}").is_not_null()
    changed = has_last & pl.col(schema.label).is_not_null() & (pl.col(schema.label) != pl.col(f"{schema.label}{_LAST}"))
    relabelled = int(joined.select(changed.sum()).item())
    latest = [pl.when(has_last).then(f"{name}{_LAST}").otherwise(name).alias(name) for name in about_label]
    return joined.with_columns(latest).select(first.columns), relabelled


class Taken(NamedTuple):
    """The rows of a batch that can be used, and which these are.

    They are in columns of the types that a history has, and their `NUMBER`.
    """

    frame: pl.DataFrame
    kept: pl.Series


class RowReader:
    """Reads batches of columns (by field) one after the other, and counts what it leaves out.

    Labels are left as words (see `labels.meanings`), and rows of an id that was there before are not looked for.
    """

    def __init__(self, schema: Schema, reading: Reading, secrets: Secrets, now_us: int) -> None:
        self.rows = 0
        self.skipped: dict[str, int] = {}
        self.examples: dict[str, Example] = {}
        self._schema = schema
        self._reading = reading
        self._secrets = secrets
        self._form = reading.time_form(schema)
        self._checks = _checks(schema, now_us + FARTHEST_AHEAD_US)

    def take(self, columns: Mapping[str, Column]) -> Taken:
        """The rows of a batch that can be used."""
        n = len(next(iter(columns.values()), []))
        return self.take_numbered(columns, pl.int_range(self.rows + 1, self.rows + n + 1, dtype=pl.Int64, eager=True))

    def take_numbered(self, columns: Mapping[str, Column], numbers: pl.Series) -> Taken:
        """The same of rows with these numbers in the file (n,)."""
        typed = hide_columns(self._typed(columns, numbers), self._schema, self._secrets)
        verdict = pl.lit(0, pl.Int32)
        for number, check in reversed(list(enumerate(self._checks, 1))):
            verdict = pl.when(check.fails.fill_null(value=False)).then(number).otherwise(verdict)
        verdicts = typed.select(verdict.alias("verdict"))["verdict"]
        self._count(verdicts, columns, numbers)
        self.rows += len(numbers)
        kept = verdicts == 0
        return Taken(typed.with_columns(numbers.alias(NUMBER)).filter(kept).select(pl.exclude(r"^_.*$")), kept)

    def _count(self, verdicts: pl.Series, columns: Mapping[str, Column], numbers: pl.Series) -> None:
        wrong = verdicts.to_frame().with_row_index(_ROW).filter(pl.col("verdict") > 0)
        for number, row, n in wrong.group_by("verdict").agg(pl.col(_ROW).first(), pl.len()).sort("verdict").iter_rows():
            check = self._checks[number - 1]
            self.skipped[check.reason] = self.skipped.get(check.reason, 0) + n
            if check.reason not in self.examples:
                self.examples[check.reason] = Example.of(int(numbers[row]), self._cell(check.field, row, columns))

    def _cell(self, name: str | None, row: int, columns: Mapping[str, Column]) -> str | None:
        """What stands there, unless it is secret."""
        if name is None or name not in columns or name in self._schema.hidden:
            return None
        value = columns[name][row]
        return None if value is None else str(value)

    def _typed(self, columns: Mapping[str, Column], numbers: pl.Series) -> pl.DataFrame:
        """Columns of the types that a history has, and for each of them `_wrong_<name>`."""
        n = len(numbers)
        schema, decimal = self._schema, self._reading.decimal or self._schema.decimal
        found = {name: _absent(n, LOOKED_UP_TYPES[kind]) for name, kind in schema.looked_up.items()}
        for name in (schema.id, *schema.keys, *schema.categories, *schema.taken):
            booleans = name != schema.id and name not in schema.keys
            if name not in columns:
                found[name] = _absent(n, pl.String)
                continue
            read = cells.texts(columns[name], name, takes_booleans=booleans)
            if name in schema.may_lack:
                read = Cells(read.values.set(read.values == "", None), read.wrong)
            found[name] = read
        for name in (*schema.decimals, *schema.numbers):
            found[name] = (
                cells.numbers(columns[name], name, decimal=decimal) if name in columns else _absent(n, pl.Float64)
            )
        found |= self._times_of(columns, n)
        if schema.id in schema.optional:
            found[schema.id] = _or_place(found[schema.id], numbers)
        made = [one.values.alias(name) for name, one in found.items()]
        made += [one.wrong.alias(f"_wrong_{name}") for name, one in found.items()]
        made += self._told(columns)
        made += stamps_in(columns)
        made += weights_in(columns)
        return pl.DataFrame([*made, skipped_lines(next(iter(columns.values()), []), n).alias(_LINE)])

    def _times_of(self, columns: Mapping[str, Column], n: int) -> dict[str, Cells]:
        schema = self._schema
        found = {schema.time: self._times(columns, n)}
        for name in schema.times:
            found[name] = (
                cells.times(columns[name], name, self._form, LONG_AGO_US) if name in columns else _absent(n, pl.Int64)
            )
        if schema.outcome_time is not None and schema.outcome_time in columns:
            found[schema.outcome_time] = cells.times(columns[schema.outcome_time], schema.outcome_time, self._form)
        return found

    def _told(self, columns: Mapping[str, Column]) -> Iterator[pl.Series]:
        """The words of the label, and whose they are."""
        label, source = self._schema.label, self._schema.outcome_source
        if label in columns:
            yield cells.label_words(columns[label], label).alias(label)
        if source is not None and source in columns:
            yield cells.texts(columns[source], source, takes_booleans=False).values.alias(source)

    def _times(self, columns: Mapping[str, Column], n: int) -> Cells:
        schema = self._schema
        if schema.time in columns or schema.time not in schema.optional:
            return cells.times(columns[schema.time], schema.time, self._form)
        begin = EARLIEST_US + self.rows * SECOND_US
        return Cells(pl.int_range(begin, begin + n * SECOND_US, SECOND_US, eager=True), _absent(n, pl.String).wrong)


def _or_place(ids: Cells, numbers: pl.Series) -> Cells:
    """The ids, and where there is none the row's number in the file."""
    places = pl.Series([f"row-{row}" for row in numbers], dtype=pl.String)
    return Cells(ids.values.zip_with(ids.values.is_not_null(), places), ids.wrong)


def _absent(n: int, kind: type[pl.DataType]) -> Cells:
    return Cells(pl.Series([None] * n, dtype=kind), pl.repeat(False, n, dtype=pl.Boolean, eager=True))


def skipped_lines(column: Column, n: int) -> pl.Series:
    """What is wrong with the line of JSON that a row is, as 0, 1 (no object) or 2 (a name twice)."""
    if not isinstance(column, list):
        return pl.repeat(0, n, dtype=pl.Int8, eager=True)
    return pl.Series([1 if one is BROKEN else 2 if one is REPEATED else 0 for one in column], dtype=pl.Int8)


class _Check(NamedTuple):
    """Rows for which `fails` holds are left out; `field` is whose cell shows why."""

    fails: pl.Expr
    reason: str
    field: str | None = None


def _checks(schema: Schema, latest_us: int) -> list[_Check]:
    """Why a row cannot be used: the first that holds counts."""
    return [
        _Check(pl.col(_LINE) == 1, "it is no JSON object"),
        _Check(pl.col(_LINE) == 2, "it has a name twice"),
        _Check(pl.col(REFUSED), "it holds a card number"),
        _Check(pl.col(f"_wrong_{schema.id}"), f"{schema.id} is no text or whole number", schema.id),
        *_missing(schema.id),
        *_checks_of_time(schema, latest_us),
        *(check for name in schema.times for check in _checks_of_further_time(schema, name)),
        *(check for name in (*schema.decimals, *schema.numbers) for check in _checks_of_number(schema, name)),
        *(check for name in schema.texts for check in _checks_of_text(schema, name)),
        *_checks_of_size(schema),
    ]


def _checks_of_time(schema: Schema, latest_us: int) -> Iterator[_Check]:
    name, when = schema.time, pl.col(schema.time)
    reason = f"{name} is no time from 1970 to 2100, or a number before 1980"
    yield _Check(pl.col(f"_wrong_{name}"), reason, name)
    yield _Check(when.is_null(), f"{name} is missing")
    yield _Check((when < EARLIEST_US) | (when >= LATEST_US), reason, name)
    yield _Check(when > latest_us, f"{name} is more than a day ahead of now", name)


def _checks_of_further_time(schema: Schema, name: str) -> Iterator[_Check]:
    reason = f"{name} is no time from 1900 to 2100"
    yield _Check(pl.col(f"_wrong_{name}"), reason, name)
    yield _Check((pl.col(name) < LONG_AGO_US) | (pl.col(name) >= LATEST_US), reason, name)
    if name not in schema.may_lack:
        yield _Check(pl.col(name).is_null(), f"{name} is missing")


def _checks_of_number(schema: Schema, name: str) -> Iterator[_Check]:
    yield _Check(pl.col(f"_wrong_{name}"), f"{name} is no number", name)
    if name not in schema.may_lack:
        yield _Check(pl.col(name).is_null(), f"{name} is missing")


def _checks_of_text(schema: Schema, name: str) -> Iterator[_Check]:
    yield _Check(pl.col(f"_wrong_{name}"), f"{name} is no text or whole number", name)
    if name not in schema.may_lack:
        yield from _missing(name)


def _checks_of_size(schema: Schema) -> Iterator[_Check]:
    """Numbers out of range, or with more decimals than are kept; texts that are too long."""
    for name in (*schema.decimals, *schema.numbers):
        limits = schema.limits(name)
        if limits is not None:
            outside = (pl.col(name) < limits[0]) | (pl.col(name) > limits[1])
            yield _Check(outside, f"{name} is outside {limits[0]:g} to {limits[1]:g}", name)
    for name, digits in schema.checked_decimals.items():
        scale = 10**digits
        nearest = (pl.col(name) * scale).round(mode="half_to_even") / scale
        wrong = (nearest - pl.col(name)).abs() > 1e-12 * pl.col(name).abs()
        yield _Check(wrong, f"{name} has more than {digits} decimals", name)
    lengths = {schema.id: MAX_ID} | dict.fromkeys(schema.texts, MAX_TEXT)
    for name, most in lengths.items():
        yield _Check(pl.col(name).str.len_chars() > most, f"{name} is longer than {most} characters", name)


def _missing(name: str) -> list[_Check]:
    return [_Check(pl.col(name).is_null() | (pl.col(name) == ""), f"{name} is missing")]
