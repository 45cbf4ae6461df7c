"""Histories in files (CSV, Parquet, JSON lines), read into the fields of a schema."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import polars as pl

from sentinel.errors import DataProblem, InvalidInput
from sentinel.events.hidden_columns import REFUSED, hide_columns
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets
from sentinel.events.times import EARLIEST_US, FARTHEST_AHEAD_US, LATEST_US, SECOND_US, instant_us
from sentinel.events.wire import MAX_ID, MAX_TEXT

_Kinds: TypeAlias = dict[str, type[pl.DataType]]
_READERS: dict[str, Callable[[Path, _Kinds], pl.LazyFrame]] = {
    ".parquet": lambda path, _kinds: pl.scan_parquet(path),
    ".csv": lambda path, kinds: pl.scan_csv(path, infer_schema_length=10_000, schema_overrides=kinds),
    ".jsonl": lambda path, _kinds: pl.scan_ndjson(path),
    ".ndjson": lambda path, _kinds: pl.scan_ndjson(path),
}
_OK = "ok"
_NO_KEY = Secrets()


@dataclass(frozen=True, slots=True)
class History:
    """Transactions of the past in the fields of a schema, by time.

    `frame` has a column per field, with texts as String, times as int64 microseconds and numbers as Float64,
    and the label and outcome time where the file has them. `skipped` counts the rows left out, by reason.
    """

    frame: pl.DataFrame
    skipped: dict[str, int]

    def __len__(self) -> int:
        """Number of transactions."""
        return len(self.frame)


def read_history(
    path: Path,
    schema: Schema,
    *,
    renames: Mapping[str, str] | None = None,
    secrets: Secrets = _NO_KEY,
    strict: bool = False,
    now_us: int | None = None,
) -> History:
    """Read a file of transactions, hiding what is secret.

    `renames` maps a column of the file to a field of the schema, on top of `schema.columns`. Rows that the
    server would refuse at `now_us` (microseconds since 1970, None for this moment) are left out and counted;
    with `strict` they are an error. Raises DataProblem, and InvalidDefinition when something has to be hidden and
    `secrets` have no key.

    Where the schema lets ids be assigned, rows without one are named `row-1`, `row-2`, by their position in the
    file. Where it lets times be assigned and the file has no such column, rows are taken one second apart in the
    order of the file, from 1970 on; in a file that has the column, a row without a time is left out.
    """
    frame = read_columns(path, schema, renames or {})
    return history_of_frame(frame, schema, secrets=secrets, strict=strict, now_us=now_us)


def read_columns(path: Path, schema: Schema, renames: Mapping[str, str]) -> pl.DataFrame:
    """The columns of the file that the schema knows, under the names of its fields, as they are."""
    try:
        kinds = _scan(path, {}).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataProblem(f"{path} cannot be read: {error}") from error
    column_of = _columns(path, schema, renames, kinds.names())
    scan = _scan(path, _plain_numbers(schema, column_of, kinds))
    try:
        frame = scan.select([pl.col(column).alias(field) for field, column in column_of.items()]).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataProblem(f"{path} cannot be read: {error}") from error
    if frame.is_empty():
        raise DataProblem(f"{path} has no rows")
    return frame


def _plain_numbers(schema: Schema, column_of: Mapping[str, str], kinds: pl.Schema) -> _Kinds:
    """Number columns that begin with whole numbers: `1e+05` or `12.5` may follow further down."""
    numbers = {schema.time, *schema.decimals, *schema.numbers}
    others = {column for field, column in column_of.items() if field not in numbers}
    columns = {column for field, column in column_of.items() if field in numbers} - others
    return {column: pl.Float64 for column in columns if kinds[column].is_integer()}


def _scan(path: Path, kinds: _Kinds) -> pl.LazyFrame:
    if not path.is_file():
        raise DataProblem(f"there is no file {path}")
    suffixes = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zst")]
    reader = _READERS.get(suffixes[-1].lower() if suffixes else "")
    if reader is None:
        raise DataProblem(f"{path}: what it holds is told by its ending; use .csv, .parquet, .jsonl or .ndjson")
    try:
        return reader(path, kinds)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataProblem(f"{path} cannot be read: {error}") from error


def _columns(path: Path, schema: Schema, renames: Mapping[str, str], present: list[str]) -> dict[str, str]:
    """Field -> column of the file, for every field that the file has."""
    given = {field: column for column, field in renames.items()}
    strangers = [column for column in renames if column not in present]
    known = [*schema.fields, schema.label, *schema.outcome_columns]
    unknown = [field for field in given if field not in known]
    if strangers or unknown:
        what = f"no column {', '.join(strangers)} in {path}" if strangers else f"no field {', '.join(unknown)}"
        raise DataProblem(f"--map: {what}; columns: {', '.join(present)}; fields: {', '.join(known)}")
    found: dict[str, str] = {}
    for field in known:
        for column in (given.get(field), schema.columns.get(field), field):
            if column in present:
                found[field] = str(column)
                break
    missing = [field for field in schema.fields if field not in found and field not in schema.may_lack]
    if missing:
        raise DataProblem(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(present)}. "
            f"Say which column is which with --map COLUMN={missing[0]}"
        )
    return found


def history_of_frame(
    frame: pl.DataFrame,
    schema: Schema,
    *,
    secrets: Secrets = _NO_KEY,
    strict: bool = False,
    now_us: int | None = None,
) -> History:
    """The same for a frame that is already in memory, under the names of the fields."""
    absent = [pl.lit(None).alias(name) for name in schema.fields if name not in frame.columns]
    typed = frame.with_columns(absent).with_columns(
        *(_as_text(frame, name, schema).alias(name) for name in (schema.id, *schema.texts)),
        *(_as_number(name).alias(name) for name in (*schema.decimals, *schema.numbers)),
        _times(frame, schema).alias(schema.time),
    )
    if schema.id in schema.optional:
        places = pl.format("row-{}", pl.int_range(1, pl.len() + 1))
        typed = typed.with_columns(pl.coalesce(schema.id, places).alias(schema.id))
    typed = hide_columns(typed, schema, secrets)
    if schema.label in frame.columns:
        typed = typed.with_columns(_as_label(frame[schema.label]).alias(schema.label))
    if schema.outcome_time in frame.columns:
        typed = typed.with_columns(_as_time(frame[schema.outcome_time]).alias(schema.outcome_time))
    if schema.outcome_source in frame.columns:
        typed = typed.with_columns(pl.col(schema.outcome_source).cast(pl.String))
    latest_us = (time.time_ns() // 1_000 if now_us is None else now_us) + FARTHEST_AHEAD_US
    typed = typed.with_columns(_fault(schema, latest_us).alias("_fault"))
    counts = dict(typed["_fault"].value_counts().iter_rows())
    skipped = {reason: n for reason, n in sorted(counts.items()) if reason != _OK}
    kept = typed.filter(pl.col("_fault") == _OK).drop("_fault", REFUSED)
    unique = kept.unique(subset=schema.id, keep="first", maintain_order=True)
    if len(unique) < len(kept):
        skipped[f"{schema.id} seen before"] = len(kept) - len(unique)
    if skipped and strict:
        reasons = "; ".join(f"{n} rows: {reason}" for reason, n in skipped.items())
        raise DataProblem(f"rows that cannot be used ({reasons}); mend them, or leave out --strict to skip them")
    if unique.is_empty():
        raise DataProblem(f"no usable row: {'; '.join(f'{n} rows: {reason}' for reason, n in skipped.items())}")
    return History(unique.sort(schema.time, maintain_order=True), skipped)


def _times(frame: pl.DataFrame, schema: Schema) -> pl.Series:
    if schema.time in frame.columns or schema.time not in schema.optional:
        return _as_time(frame[schema.time])
    return pl.int_range(EARLIEST_US, EARLIEST_US + len(frame) * SECOND_US, SECOND_US, eager=True)


def _as_text(frame: pl.DataFrame, name: str, schema: Schema) -> pl.Expr:
    if name not in frame.columns:
        return pl.lit(None, dtype=pl.String)
    column, kind = pl.col(name), frame.schema[name]
    if kind.is_float():  # a whole number that an empty cell has turned into a float
        whole = column.cast(pl.Int64, strict=False)
        column = pl.when(whole == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))
        return pl.when(pl.col(name).is_nan()).then(None).otherwise(column)
    text = column.cast(pl.String)
    return text.replace("", None) if name in schema.may_lack else text


def _as_number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64, strict=False).fill_nan(None)


def _as_label(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        words = {"true": 1, "1": 1, "yes": 1, "fraud": 1, "false": 0, "0": 0, "no": 0, "legitimate": 0}
        return column.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Int8)
    return column.cast(pl.Int8, strict=False)


def _as_time(column: pl.Series) -> pl.Series:
    """Instants as int64 microseconds, null where there is none; the same rule as `instant_us`."""
    if column.dtype == pl.String:
        return _times_of_text(column)
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone not in (None, "UTC"):
            column = column.dt.convert_time_zone("UTC")
        return column.dt.epoch("us")
    if not column.dtype.is_numeric():
        return pl.Series(column.name, [None] * len(column), dtype=pl.Int64)
    number = pl.col("t").cast(pl.Float64)
    seconds = (number * 1e6).round(mode="half_to_even")
    millis = (number * 1e3).round(mode="half_to_even")
    micros = pl.when(number < 1e11).then(seconds).when(number < 1e14).then(millis).otherwise(number)
    return column.to_frame("t").select(micros.cast(pl.Int64, strict=False)).to_series()


def _times_of_text(column: pl.Series) -> pl.Series:
    values = column.unique().drop_nulls()
    return column.replace_strict(
        values, pl.Series([_instant_or_none(text) for text in values], dtype=pl.Int64), return_dtype=pl.Int64
    )


def _instant_or_none(text: str) -> int | None:
    try:
        return instant_us(float(text) if text.replace(".", "", 1).isdigit() else text)
    except InvalidInput:
        return None


def _fault(schema: Schema, latest_us: int) -> pl.Expr:
    """Why a row cannot be used, or `ok`."""
    when = pl.col(schema.time)
    checks: list[tuple[pl.Expr, str]] = [
        (pl.col(REFUSED), "it holds a card number"),
        (pl.col(schema.id).is_null() | (pl.col(schema.id).str.len_chars() == 0), f"{schema.id} is missing"),
        (when.is_null() | (when < EARLIEST_US) | (when >= LATEST_US), f"{schema.time} is no time from 1970 to 2100"),
        (when > latest_us, f"{schema.time} more than a day ahead of now"),
    ]
    checks += [
        (pl.col(name).is_null(), f"{name} is missing or of the wrong type")
        for name in (*schema.decimals, *schema.numbers, *schema.texts)
        if name not in schema.may_lack
    ]
    for name in (*schema.decimals, *schema.numbers):
        checks.append((pl.col(name).is_infinite(), f"{name} is infinite"))
        limits = schema.limits(name)
        if limits is not None:
            low, high = limits
            checks.append(((pl.col(name) < low) | (pl.col(name) > high), f"{name} is outside {low:g} to {high:g}"))
    for name, digits in schema.checked_decimals.items():
        scale = 10**digits
        nearest = (pl.col(name) * scale).round(mode="half_to_even") / scale
        wrong = (nearest - pl.col(name)).abs() > 1e-12 * pl.col(name).abs()
        checks.append((wrong, f"{name} has more than {digits} decimals"))
    limits_of_texts = {schema.id: MAX_ID} | dict.fromkeys(schema.texts, MAX_TEXT)
    for name, most in limits_of_texts.items():
        checks.append((pl.col(name).str.len_chars() > most, f"{name} is longer than {most} characters"))
        checks.append((pl.col(name) == "", f"{name} is missing or of the wrong type"))
    verdict = pl.lit(_OK)
    for wrong, reason in reversed(checks):
        verdict = pl.when(wrong.fill_null(value=False)).then(pl.lit(reason)).otherwise(verdict)
    return verdict
