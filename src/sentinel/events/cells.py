"""Cells: a column of a file as texts, numbers, times or labels, by the rules that hold on the wire.

Every function takes a column (see `tables`) and gives its values and a mask of the cells that cannot be read; a missing
cell is null and is not in the mask. Raises DataProblem for a column whose kind has no such values, such as lists.
"""

import re
from collections.abc import Callable
from datetime import UTC
from functools import cache
from typing import Any, NamedTuple

import polars as pl

from sentinel.errors import DataProblem, InvalidInput
from sentinel.events.labels import word_of
from sentinel.events.tables import Column
from sentinel.events.times import EARLIEST_US, LATEST_US, TimeForm, instant_us, micros_of

_WHOLE_FLOATS = 2**53
"""From there on a float may stand for several whole numbers."""

MISSING_WORDS = ("", "na", "n/a", "nan", "null", "none")
"""In place of a number or a time, in small letters."""

_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_DIGITS = {
    "%Y": "(?:19[7-9][0-9]|20[0-9]{2})", "%m": "(?:0[1-9]|1[0-2])", "%d": "(?:0[1-9]|[12][0-9]|3[01])",
    "%H": "(?:[01][0-9]|2[0-3])", "%M": "[0-5][0-9]", "%S": "[0-5][0-9]",
}  # fmt: skip
_WHOLE_FORMS = tuple({"%Y", "%m", "%d", *clock} for clock in ((), ("%H", "%M"), ("%H", "%M", "%S")))
_ISO = "%Y-%m-%d %H:%M:%S"
_ISO_PATTERN = "^" + _DIGITS["%Y"] + "-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z?$"
_WHOLE_DECIMAL = r"^(-?[0-9]+)(?:\.0*)?$"


class Cells(NamedTuple):
    """The values of n cells, null where there is none, and which could not be read: Boolean (n,)."""

    values: pl.Series
    wrong: pl.Series


def texts(column: Column, name: str, *, takes_booleans: bool) -> Cells:
    """String: whole numbers as they are written, booleans as `true` and `false` where they are taken."""
    if isinstance(column, list):
        return _of_values(column, lambda value: _text_of(value, takes_booleans=takes_booleans), pl.String)
    kind = column.dtype
    if kind == pl.Boolean:
        if takes_booleans:
            return _right(column.cast(pl.String))
        return Cells(pl.Series(name, [None] * len(column), pl.String), column.is_not_null())
    if kind.is_float():
        column = column.cast(pl.Float64).fill_nan(None)
        is_whole = (column == column.floor()) & (column.abs() < _WHOLE_FLOATS)
        found = column.zip_with(is_whole.fill_null(value=False), pl.Series([None], dtype=pl.Float64))
        return _read(column, found.cast(pl.Int64).cast(pl.String))
    if isinstance(kind, pl.Decimal):
        return _read(column, column.cast(pl.String).str.extract(_WHOLE_DECIMAL))
    if kind.is_integer() or kind in (pl.String, pl.Null) or isinstance(kind, (pl.Categorical, pl.Enum)):
        return _right(column.cast(pl.String))
    raise _no_column(column, name, "a text or a whole number")


def numbers(column: Column, name: str, *, decimal: str = ".") -> Cells:
    """Float64, of texts those that are written as numbers; a Float32 is the shortest number that it stands for."""
    if isinstance(column, list):
        return _of_values(column, _number_of, pl.Float64)
    kind = column.dtype
    if kind == pl.String:
        text = column.str.strip_chars()
        present = column.set(_is_missing(text), None)
        if decimal == ",":
            text = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        text = text.set(~text.str.contains(_NUMBER), None)
        return _finite(present, text.cast(pl.Float64, strict=False))
    if kind == pl.Float32 or isinstance(kind, pl.Decimal):
        return _finite(column, column.cast(pl.String).cast(pl.Float64))
    if kind.is_numeric() or kind == pl.Null:
        return _finite(column, column.cast(pl.Float64))
    if kind == pl.Boolean:
        return Cells(pl.Series(name, [None] * len(column), pl.Float64), column.is_not_null())
    if isinstance(kind, (pl.Categorical, pl.Enum)):
        return numbers(column.cast(pl.String), name, decimal=decimal)
    raise _no_column(column, name, "a number")


def times(column: Column, name: str, form: TimeForm, earliest_us: int = EARLIEST_US) -> Cells:
    """Int64 microseconds since 1970 UTC, of texts and numbers as `instant_us` reads them."""

    def instant(value: Any) -> int | None:
        try:
            return instant_us(value, form=form, earliest_us=earliest_us) if type(value) in (str, int, float) else None
        except InvalidInput:
            return None

    if isinstance(column, list):
        return _of_values(column, instant, pl.Int64)
    kind = column.dtype
    if isinstance(kind, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        present = text.set(_is_missing(text), None)
        return _read(present, _instants(present, form, instant))
    if kind == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None and form.zone is not UTC:
            whole = column.cast(pl.Datetime("us"))
            return _read(column, mapped(whole, lambda moment: micros_of(moment, form.zone), pl.Int64))
        return _right(column.dt.epoch("us"))
    if kind.is_integer() or kind.is_float() or isinstance(kind, pl.Decimal):
        number = numbers(column, name).values
        return _read(number, mapped(number, instant, pl.Int64))
    if kind in (pl.Null, pl.Boolean):
        return Cells(pl.Series(name, [None] * len(column), pl.Int64), column.is_not_null())
    raise _no_column(column, name, "a time")


def _instants(texts: pl.Series, form: TimeForm, instant: Callable[[str], int | None]) -> pl.Series:
    """Of texts in the form itself, or in the plainest of ISO 8601, all at once; of others one by one, by `instant`."""
    plain = (_ISO, _ISO_PATTERN) if form.format is None else (form.format, _pattern_of(form.format))
    if form.zone is not UTC or form.from_us is not None or plain[1] is None:
        return mapped(texts, instant, pl.Int64)
    is_plain = texts.str.contains(plain[1]).fill_null(value=False)
    at_once = texts.set(~is_plain, None)
    if form.format is None:
        at_once = at_once.str.strip_chars_end("Z").str.replace("T", " ", literal=True)
    found = at_once.str.to_datetime(plain[0], time_unit="us", strict=False).dt.epoch("us")
    found = found.set((found < EARLIEST_US) | (found >= LATEST_US), None)
    others = mapped(texts.set(found.is_not_null(), None), instant, pl.Int64)
    return found.fill_null(others)


@cache
def _pattern_of(form: str) -> str | None:
    """What texts of the form look like, where each of its parts has as many digits as it can; None for other parts."""
    pattern, parts = "", re.split(r"(%.)", form)
    for part in parts:
        if part.startswith("%") and part not in _DIGITS:
            return None
        pattern += _DIGITS.get(part, re.escape(part))
    return f"^{pattern}$" if {part for part in parts if part in _DIGITS} in _WHOLE_FORMS else None


def label_words(column: Column, name: str) -> pl.Series:
    """String: labels as `labels.meanings` takes them; null where there is none."""
    if isinstance(column, list):
        shown = [None if value is None else str(value) for value in column]
        column = pl.Series(name, shown, pl.String)
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise _no_column(column, name, "a label")
    return mapped(column.cast(pl.String), word_of, pl.String)


def _right(values: pl.Series) -> Cells:
    return Cells(values, pl.repeat(False, len(values), dtype=pl.Boolean, eager=True))


def _read(column: pl.Series, values: pl.Series) -> Cells:
    """What was there and has no value cannot be read."""
    return Cells(values, values.is_null() & column.is_not_null())


def _finite(column: pl.Series, values: pl.Series) -> Cells:
    if column.dtype.is_float():
        column = column.fill_nan(None)
    return _read(column, values.set(~values.is_finite(), None))


def _is_missing(text: pl.Series) -> pl.Series:
    return text.str.to_lowercase().is_in(list(MISSING_WORDS))


def _of_values(column: list[Any], read: Callable[[Any], Any], kind: type[pl.DataType]) -> Cells:
    found = [None if value is None else read(value) for value in column]
    wrong = [one is None and value is not None for one, value in zip(found, column, strict=True)]
    return Cells(pl.Series(found, dtype=kind), pl.Series(wrong, dtype=pl.Boolean))


def _text_of(value: Any, *, takes_booleans: bool) -> str | None:
    if type(value) is str:
        return value
    if type(value) is bool:
        return ("true" if value else "false") if takes_booleans else None
    return str(value) if type(value) is int else None


def _number_of(value: Any) -> float | None:
    if type(value) is float:
        return value
    try:
        return float(value) if type(value) is int else None
    except OverflowError:
        return None


def mapped(column: pl.Series, change: Callable[[Any], Any], kind: type[pl.DataType]) -> pl.Series:
    """Each distinct value changed once; null stays."""
    distinct = column.unique().drop_nulls()
    made = pl.Series([change(one) for one in distinct.to_list()], dtype=kind)
    return column.replace_strict(distinct, made, default=None, return_dtype=kind)


def _no_column(column: pl.Series, name: str, what: str) -> DataProblem:
    return DataProblem(f"{name} holds {str(column.dtype).split('(', 1)[0].lower()} values; each has to be {what}")
