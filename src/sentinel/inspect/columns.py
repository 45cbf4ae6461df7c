"""Columns as they are found: what kind of values each has, how many, how many are missing, and some of them."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.errors import DataProblem
from sentinel.events import cells
from sentinel.events.card_numbers import masked, masked_ends
from sentinel.events.cells import MISSING_WORDS
from sentinel.events.tables import BROKEN, REPEATED, Column, Table
from sentinel.inspect.distinct import Distinct

SAMPLED = 20_000
MOST_WORDS = 200
"""A column with more different values than that has no `words`."""

_EXAMPLES, _SHOWN, _LONGEST_WORD = 3, 32, 200
_COMMA = r"^\s*[+-]?(?:[0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+),[0-9]+\s*$"
_POINT = r"^\s*[+-]?[0-9]+\.[0-9]+\s*$"
_LEADING_ZERO = r"^\s*0[0-9]"
_ADDRESS = re.compile(r"[^\s<>@\"',;:]+@(?=[^\s@.]*)")
_DECIMALS = 7
_FEW = 0.01


def without_addresses(text: str) -> str:
    """The text without the names of e-mail addresses; their domains stay.

    >>> without_addresses("Ann <ann.b@example.com>")
    'Ann <...@example.com>'
    """
    return _ADDRESS.sub("...@", text)


class ColumnFound(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a file.

    `kind` is `whole`, `decimal`, `text`, `boolean`, `time`, `other` or `empty`. `missing` counts the cells that it is
    read without; in texts the empty ones alone, for `NA` is a text: `none_words` counts such words among them.
    `rows` are those that could be read: a line that is no JSON object lacks nothing. `distinct` is exact up to
    100,000. `words` counts its values where they are few. `decimals[n]` are the numbers that have n decimals, the last
    of them those that have more. `strays` are cells of a column of numbers that are none.
    """

    name: str
    kind: str
    type: str
    rows: int
    missing: int
    distinct: int
    distinct_is_exact: bool
    examples: tuple[str, ...]
    least: float | None = None
    greatest: float | None = None
    leading_zeros: int = 0
    strays: int = 0
    has_card_numbers: bool = False
    has_addresses: bool = False
    comma_decimals: bool = False
    decimals: tuple[int, ...] = ()
    words: dict[str, int] | None = None
    none_words: dict[str, int] = {}

    def as_time(self) -> "ColumnFound":
        """The same where its texts are times: there `NA` and its like are missing."""
        return msgspec.structs.replace(
            self,
            missing=self.missing + sum(self.none_words.values()),
            distinct=self.distinct - len(self.none_words),
            examples=tuple(one for one in self.examples if one not in self.none_words),
            words=None
            if self.words is None
            else {one: n for one, n in self.words.items() if one not in self.none_words},
            none_words={},
        )

    @property
    def present(self) -> int:
        """Cells that are not missing."""
        return self.rows - self.missing

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.kind in ("whole", "decimal")


class Found(msgspec.Struct, frozen=True):
    """All columns of a file, and some thousand of its rows, drawn at random and in the order of the file."""

    rows: int
    columns: tuple[ColumnFound, ...]
    sample: pl.DataFrame

    def column(self, name: str) -> ColumnFound:
        """The one of that name."""
        return next(one for one in self.columns if one.name == name)


def find_columns(table: Table, progress: Callable[[int], None]) -> Found:
    """Read the whole table once; `progress` is told how many rows are done. Raises DataProblem."""
    names = table.columns()
    found = {name: _Column(name) for name in names}
    sample, rows = Sample(SAMPLED), 0
    for raw in table.batches(names):
        n = len(next(iter(raw.values())))
        raw = _readable(raw)
        batch = {name: as_series(name, column) for name, column in raw.items()}
        for name, column in batch.items():
            found[name].add(column, is_other=_is_other(raw[name]))
        sample.add(batch, len(next(iter(batch.values()))))
        rows += n
        progress(rows)
    if rows == 0:
        raise DataProblem(f"{table.path} has no rows")
    return Found(rows, tuple(one.found() for one in found.values()), sample.frame())


def _readable(batch: dict[str, Column]) -> dict[str, Column]:
    """The batch without lines that are no object, or have a name twice: each stands in all columns."""
    first = next(iter(batch.values()))
    if not isinstance(first, list) or not any(one is BROKEN or one is REPEATED for one in first):
        return batch
    kept = [n for n, one in enumerate(first) if one is not BROKEN and one is not REPEATED]
    return {name: [column[n] for n in kept] for name, column in batch.items()}


def as_series(name: str, column: Column) -> pl.Series:
    """A column as a series: that of JSON lines as texts, lists and objects as their JSON."""
    if not isinstance(column, list):
        return column.cast(pl.String) if isinstance(column.dtype, (pl.Categorical, pl.Enum)) else column
    return pl.Series(name, [_shown(value) for value in column], pl.String)


def _is_other(column: Column) -> bool:
    """Whether it has values that are no text, number, boolean or time."""
    if isinstance(column, list):
        return any(isinstance(value, (dict, list)) for value in column)
    kind = column.dtype
    return kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Time) or isinstance(kind, pl.Duration)


def _shown(value: Any) -> str | None:
    if value is None or value is BROKEN or value is REPEATED:
        return None
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    return str(value) if type(value) in (int, float) else json.dumps(value)


class Sample:
    """Some rows out of many, each as likely as any other; the same of the same rows."""

    def __init__(self, most: int, seed: int = 42) -> None:
        self._most = most
        self._chance = np.random.default_rng(seed)
        self._kept: pl.DataFrame | None = None
        self._lots = np.empty(0)

    def add(self, columns: Mapping[str, pl.Series], n: int) -> None:
        """Take n rows into account: each draws a lot, and those of the lowest stay."""
        lots = self._chance.random(n)
        chosen = self._lowest(lots)
        frame = pl.DataFrame([column.gather(chosen).alias(name) for name, column in columns.items()])
        both = frame if self._kept is None else pl.concat([self._kept, frame], how="vertical_relaxed")
        all_lots = np.concatenate([self._lots, lots[chosen]])
        stay = self._lowest(all_lots)
        self._kept, self._lots = both[stay], all_lots[stay]

    def frame(self) -> pl.DataFrame:
        """Those that were drawn, in their order."""
        return pl.DataFrame() if self._kept is None else self._kept

    def _lowest(self, lots: NDArray[np.float64]) -> NDArray[np.int64]:
        """Their places, in order."""
        if len(lots) <= self._most:
            return np.arange(len(lots))
        return np.sort(np.argpartition(lots, self._most)[: self._most])


class _Column:
    """What is known of a column so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = "null"
        self.rows = self.empty = self.none = self.numbers = self.whole = self.commas = self.leading_zeros = 0
        self.least, self.greatest = np.inf, -np.inf
        self.decimals = np.zeros(_DECIMALS + 1, np.int64)
        self.distinct = Distinct()
        self.examples: list[str] = []
        self.words: dict[str, int] | None = {}
        self.none_words: dict[str, int] = {}
        self.has_card_numbers = self.has_addresses = False

    def add(self, column: pl.Series, *, is_other: bool) -> None:
        """Take a batch into account."""
        self.rows += len(column)
        if column.dtype == pl.Null:
            self.empty += len(column)
            return
        self.type = "other" if is_other or self.type == "other" else _name_of(column.dtype)
        if self.type == "other":
            self.empty += column.null_count()
            return
        if column.dtype.is_float():
            column = column.fill_nan(None)
        if column.dtype == pl.String:
            column = column.set(column == "", None)
        self.empty += column.null_count()
        present = column.drop_nulls()
        if column.dtype == pl.String:
            present = self._without_none_words(present)
        if len(present) == 0:
            return
        self.distinct.add(present.hash().to_numpy())
        self._take_words(present)
        self._take_examples(present)
        self._take_numbers(present)

    def _without_none_words(self, present: pl.Series) -> pl.Series:
        """The cells that are a value whatever the column is; words such as `NA` are counted."""
        is_none = present.str.strip_chars().str.to_lowercase().is_in(list(MISSING_WORDS))
        if not is_none.any():
            return present
        self.none += int(is_none.sum())
        for word, n in present.filter(is_none).alias("value").value_counts(sort=True).head(MOST_WORDS).iter_rows():
            if word in self.none_words or len(self.none_words) < MOST_WORDS:
                self.none_words[word] = self.none_words.get(word, 0) + n
        return present.filter(~is_none)

    def _take_words(self, present: pl.Series) -> None:
        if self.words is None:
            return
        counted = present.alias("value").value_counts()
        if len(counted) + len(self.words) > 2 * MOST_WORDS:
            self.words = None
            return
        for value, n in counted.iter_rows():
            word = str(value).lower() if isinstance(value, bool) else str(value)
            self.words[word] = self.words.get(word, 0) + n
        if len(self.words) > MOST_WORDS:
            self.words = None

    def _take_examples(self, present: pl.Series) -> None:
        head = present.head(1_000).unique(maintain_order=True).cast(pl.String).to_list()
        self.has_card_numbers = self.has_card_numbers or any(masked(one) != one for one in head)
        self.has_addresses = self.has_addresses or any(_ADDRESS.search(one) for one in head)
        for one in head[: 4 * _EXAMPLES]:
            shown = without_addresses(masked_ends(one, _SHOWN))
            if len(self.examples) < _EXAMPLES and shown not in self.examples:
                self.examples.append(shown)

    def _take_numbers(self, present: pl.Series) -> None:
        if present.dtype == pl.Boolean or present.dtype.is_temporal():
            return
        if present.dtype == pl.String:
            self.leading_zeros += int(present.str.contains(_LEADING_ZERO).sum())
            commas = int(present.str.contains(_COMMA).sum())
            self.commas += commas
            decimal = "," if commas > int(present.str.contains(_POINT).sum()) else "."
            values = cells.numbers(present, self.name, decimal=decimal).values.drop_nulls()
        else:
            values = cells.numbers(present, self.name).values.drop_nulls()
        if len(values) == 0:
            return
        self.numbers += len(values)
        self.least = min(self.least, float(values.min()))  # type: ignore[arg-type]
        self.greatest = max(self.greatest, float(values.max()))  # type: ignore[arg-type]
        self._take_decimals(values.to_numpy())

    def _take_decimals(self, values: Any) -> None:
        left = values
        for n in range(_DECIMALS):
            scale = 10.0**n
            fits = np.abs(np.round(left * scale) / scale - left) <= 1e-12 * np.abs(left)
            self.decimals[n] += int(np.count_nonzero(fits))
            left = left[~fits]
            if len(left) == 0:
                return
        self.decimals[_DECIMALS] += len(left)

    def found(self) -> ColumnFound:
        """What it is."""
        present = self.rows - self.empty - self.none
        kind = self._kind(present)
        is_number = kind in ("whole", "decimal")
        none_words = self.none_words if self.type == "text" and kind in ("text", "boolean") else {}
        return ColumnFound(
            name=self.name,
            kind=kind,
            type=self.type,
            rows=self.rows,
            missing=self.empty if none_words else self.empty + self.none,
            distinct=self.distinct.count + len(none_words),
            distinct_is_exact=self.distinct.is_exact,
            examples=(*self.examples, *none_words)[:_EXAMPLES],
            least=self.least if is_number else None,
            greatest=self.greatest if is_number else None,
            leading_zeros=self.leading_zeros,
            strays=present - self.numbers if is_number else 0,
            has_card_numbers=self.has_card_numbers,
            has_addresses=self.has_addresses,
            comma_decimals=self.commas > present / 2,
            decimals=tuple(self.decimals.tolist()),
            words=None
            if self.words is None or len(self.words) + len(none_words) > MOST_WORDS
            else {masked_ends(word, _LONGEST_WORD): n for word, n in (self.words | none_words).items()},
            none_words=none_words,
        )

    def _kind(self, present: int) -> str:
        if self.type in ("other", "boolean", "time"):
            return self.type
        if present == 0:
            return "empty"
        if self.words is not None and {word.strip().lower() for word in self.words} <= {"true", "false"}:
            return "boolean"
        if self.type == "text" and (self.leading_zeros > 0 or present - self.numbers > _FEW * present):
            return "text"
        return "whole" if self.decimals[0] == self.numbers else "decimal"


def _name_of(kind: pl.DataType) -> str:
    if kind == pl.Boolean:
        return "boolean"
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return "time"
    return "text" if kind == pl.String else str(kind).split("(", 1)[0].lower()
