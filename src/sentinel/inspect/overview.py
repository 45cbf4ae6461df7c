"""The second reading: what a detector would get of the file, and how it is spread over time, classes and amounts."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.events.files import Example, RowReader, columns_of_fields
from sentinel.events.reading import Reading
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets
from sentinel.events.tables import Table
from sentinel.events.times import iso
from sentinel.inspect.columns import Sample, as_series

HOUR_US = 3_600_000_000
SAMPLED_EACH = 20_000
"""Rows of each class that are kept to look for leaks in."""

_SPANS_H = (1, 6, 24, 7 * 24, 28 * 24)
_MOST_PERIODS = 130
_LONGEST_GAPS = 5
_BINS_A_DECADE, _FIRST_DECADE, _LAST_DECADE = 5, -2, 9
EDGES = 10.0 ** np.arange(_FIRST_DECADE, _LAST_DECADE + 0.01, 1 / _BINS_A_DECADE)
"""Borders of the amounts that are counted together; what is below the first or above the last counts at the end."""


class Period(msgspec.Struct, frozen=True):
    """One stretch of time: transactions, those with a label, and frauds among them."""

    begin_us: int
    transactions: int
    labelled: int
    frauds: int


class Gap(msgspec.Struct, frozen=True):
    """A stretch of time without a transaction."""

    begin_us: int
    end_us: int

    @property
    def said(self) -> str:
        """The gap in words."""
        days = (self.end_us - self.begin_us) / (24 * HOUR_US)
        return f"nothing from {iso(self.begin_us)[:16]} to {iso(self.end_us)[:16]} ({days:,.1f} days)"


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a file and what is left out, and the transactions over time and by amount.

    `amounts[c]` counts the absolute amounts of class c (0 legitimate, 1 fraud, 2 unlabelled) between `EDGES`;
    `quiet_hours` are the hours of the day, of UTC, with the fewest transactions.
    """

    rows: int
    transactions: int
    labelled: int
    frauds: int
    left_out: dict[str, int]
    examples: dict[str, Example]
    repeated: int
    relabelled: int
    first_us: int
    last_us: int
    period_us: int
    periods: tuple[Period, ...]
    gaps: tuple[Gap, ...]
    quiet_hours: tuple[int, ...]
    amounts: tuple[tuple[int, ...], ...]
    negative_amounts: int

    @property
    def span_us(self) -> int:
        """From the first transaction to the last."""
        return self.last_us - self.first_us

    @property
    def repeats(self) -> str | None:
        """What is said of rows whose id was there before; None without any."""
        if not self.repeated:
            return None
        told = f", which is another one {self.relabelled:,} times" if self.relabelled else ""
        return f"{self.repeated:,} rows repeat an id: the first row counts, with the last label{told}"

    @property
    def quiet(self) -> str | None:
        """What is said of the quiet hours; None where all are alike."""
        if not self.quiet_hours:
            return None
        first, last = self.quiet_hours[0], (self.quiet_hours[-1] + 1) % 24
        hours = f"{first:02}:00 to {last:02}:00 in UTC"
        return f"the quietest hours are {hours}: if that is no night, times are of another zone"


class Looked(msgspec.Struct, frozen=True):
    """An overview, and a sample of each class: the columns of the file as they are, and their labels (n,).

    `lacking` counts the usable rows without a value, by field; a field that each of them has is not in it.
    """

    overview: Overview
    lacking: dict[str, int]
    sample: pl.DataFrame
    labels: NDArray[np.int8]


def look_over(
    table: Table,
    schema: Schema,
    reading: Reading,
    words: Mapping[str, int | None],
    *,
    secrets: Secrets,
    now_us: int,
    progress: Callable[[int], None],
) -> Looked:
    """Read the whole table once by the schema; `words` say what the labels mean.

    Memory is bounded but for 9 bytes a row, for ids that come twice. Raises DataProblem.
    """
    names = table.columns()
    column_of = columns_of_fields(table.path, schema, reading.renames, names)
    reader = RowReader(schema, reading, secrets, now_us)
    counts, ids = _Counts(schema), _Ids()
    samples = {label: Sample(SAMPLED_EACH, seed=label) for label in (0, 1)}
    for batch in table.batches(names):
        taken = reader.take({name: batch[column] for name, column in column_of.items()})
        labels = _labels(taken.frame, schema, words)
        counts.add(taken.frame, labels)
        if schema.id in column_of:
            ids.add(taken.frame[schema.id].hash().to_numpy(), labels)
        raw = {name: as_series(name, column).filter(taken.kept) for name, column in batch.items()}
        for label, sample in samples.items():
            of_class = pl.Series(labels == label)
            sample.add({name: column.filter(of_class) for name, column in raw.items()}, int(of_class.sum()))
        progress(reader.rows)
    repeated, relabelled = ids.repeated()
    overview = counts.overview(reader, repeated, relabelled)
    frames = {label: sample.frame() for label, sample in samples.items()}
    drawn = pl.concat(frames.values(), how="vertical_relaxed")
    labels = np.repeat(np.array([0, 1], np.int8), [len(frame) for frame in frames.values()])
    return Looked(overview, {name: n for name, n in counts.lacking.items() if n}, drawn, labels)


def _labels(frame: pl.DataFrame, schema: Schema, words: Mapping[str, int | None]) -> NDArray[np.int8]:
    """0, 1, or 2 where it is not known."""
    if schema.label not in frame.columns or not words:
        return np.full(len(frame), 2, np.int8)
    known = frame[schema.label].replace_strict(words, default=None, return_dtype=pl.Int8)
    return known.fill_null(2).to_numpy().astype(np.int8)


class _Ids:
    """Hashes of ids and their labels, to find the ids that come twice."""

    def __init__(self) -> None:
        self._hashes: list[NDArray[np.uint64]] = []
        self._labels: list[NDArray[np.int8]] = []

    def add(self, hashes: NDArray[np.uint64], labels: NDArray[np.int8]) -> None:
        self._hashes.append(hashes)
        self._labels.append(labels)

    def repeated(self) -> tuple[int, int]:
        """Rows whose id was there before, and ids whose last label is another than their first."""
        if not self._hashes:
            return 0, 0
        ordered = np.sort(np.concatenate(self._hashes))
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        parts = [
            pl.DataFrame({"id": hashes[(place := np.isin(hashes, twice))], "label": labels[place]})
            for hashes, labels in zip(self._hashes, self._labels, strict=True)
        ]
        again = pl.concat(parts)
        known = again.filter(pl.col("label") < 2).group_by("id", maintain_order=True)
        labels_of = known.agg(first=pl.col("label").first(), last=pl.col("label").last())
        return len(again) - len(twice), int((labels_of["first"] != labels_of["last"]).sum())


class _Counts:
    """Transactions by hour, class and amount."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._hours = pl.DataFrame(schema={"hour": pl.Int64, "label": pl.Int8, "n": pl.Int64})
        self._amounts = np.zeros((3, len(EDGES) - 1), np.int64)
        self._negative = 0
        self.lacking = dict.fromkeys(schema.optional, 0)
        self._first_us, self._last_us = np.iinfo(np.int64).max, 0

    def add(self, frame: pl.DataFrame, labels: NDArray[np.int8]) -> None:
        if frame.is_empty():
            return
        for name in self.lacking:
            self.lacking[name] += frame[name].null_count()
        times = frame[self._schema.time].to_numpy()
        self._first_us = min(self._first_us, int(times.min()))
        self._last_us = max(self._last_us, int(times.max()))
        by_hour = pl.DataFrame({"hour": times // HOUR_US, "label": labels})
        counted = by_hour.group_by("hour", "label").agg(pl.len().cast(pl.Int64).alias("n"))
        self._hours = pl.concat([self._hours, counted]).group_by("hour", "label").agg(pl.col("n").sum())
        amounts = frame[self._schema.amount].to_numpy()
        self._negative += int(np.count_nonzero(amounts < 0))
        sizes = np.clip(np.abs(amounts), EDGES[0], EDGES[-1] * 0.999)
        for label in range(3):
            self._amounts[label] += np.histogram(sizes[labels == label], EDGES)[0]

    def overview(self, reader: RowReader, repeated: int, relabelled: int) -> Overview:
        hours = self._hours.sort("hour", "label")
        of_label = dict(hours.group_by("label").agg(pl.col("n").sum()).iter_rows())
        transactions = sum(of_label.values())
        span_h = _span_h(hours["hour"])
        first, last = (self._first_us, self._last_us) if transactions else (0, 0)
        return Overview(
            rows=reader.rows,
            transactions=transactions,
            labelled=transactions - of_label.get(2, 0),
            frauds=of_label.get(1, 0),
            left_out=reader.skipped,
            examples=reader.examples,
            repeated=repeated,
            relabelled=relabelled,
            first_us=first,
            last_us=last,
            period_us=span_h * HOUR_US,
            periods=_periods(hours, span_h),
            gaps=_gaps(hours["hour"].unique().sort().to_numpy()),
            quiet_hours=_quiet_hours(hours),
            amounts=tuple(map(tuple, self._amounts.tolist())),
            negative_amounts=self._negative,
        )


def _span_h(hours: pl.Series) -> int:
    """Hours that are shown together: as few as a plot has room for."""
    whole = 0 if hours.is_empty() else int(hours[-1]) - int(hours[0]) + 1
    return next((span for span in _SPANS_H if whole / span <= _MOST_PERIODS), _SPANS_H[-1])


def _periods(hours: pl.DataFrame, span_h: int) -> tuple[Period, ...]:
    """Every period from the first to the last, the empty ones too."""
    if hours.is_empty():
        return ()
    place = pl.col("hour") // span_h
    by = hours.group_by(place=place).agg(
        n=pl.col("n").sum(),
        labelled=pl.col("n").filter(pl.col("label") < 2).sum(),
        frauds=pl.col("n").filter(pl.col("label") == 1).sum(),
    )
    found = {row[0]: row[1:] for row in by.iter_rows()}
    return tuple(
        Period(one * span_h * HOUR_US, *found.get(one, (0, 0, 0))) for one in range(min(found), max(found) + 1)
    )


def _gaps(hours: NDArray[Any]) -> tuple[Gap, ...]:
    """The longest times without a transaction: at least a day, and longer than is usual here."""
    if len(hours) < 2:
        return ()
    empty = np.diff(hours) - 1
    least = max(24, 4 * float(np.quantile(empty, 0.9, method="lower")))
    longest = np.argsort(-empty, kind="stable")[:_LONGEST_GAPS]
    found = sorted(int(one) for one in longest if empty[one] >= least)
    return tuple(Gap(int(hours[one] + 1) * HOUR_US, int(hours[one + 1]) * HOUR_US) for one in found)


def _quiet_hours(hours: pl.DataFrame) -> tuple[int, ...]:
    """Three hours of the day with clearly fewer transactions than others; none where all are alike."""
    of_day = np.zeros(24)
    for hour, n in hours.select("hour", "n").iter_rows():
        of_day[hour % 24] += n
    three = of_day + np.roll(of_day, -1) + np.roll(of_day, -2)
    begin = int(np.argmin(three))
    if three[begin] > 0.4 * three.mean() or of_day.sum() < 500:
        return ()
    return tuple((begin + n) % 24 for n in range(3))
