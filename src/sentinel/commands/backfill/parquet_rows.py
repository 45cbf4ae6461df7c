"""The rows of Parquet files in the order of time, in batches: as they stand, or by slices where they are not sorted.

A slice is a stretch of time with about as many rows as a batch. Its rows are found by reading all files once more, so
unsorted files take as many readings as they have slices, and no more memory than sorted ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.errors import DataProblem
from sentinel.events import cells
from sentinel.events.files import NUMBER
from sentinel.events.times import TimeForm

_SAMPLED = 1 << 20  # times, by which slices are cut
_NO_TIME = -(2**62)
_AT = "#at"


class ParquetRows:
    """The rows of some files, one after the other; `column_of` says which column each field is.

    They come in frames of a column for each field, and NUMBER (Int64), the row's number in the files from 1 on.

    Raises DataProblem, as its methods do, for files that cannot be read, or do not fit together.
    """

    def __init__(self, files: Sequence[Path], column_of: Mapping[str, str], at_once: int) -> None:
        self.at_once = at_once
        self._column_of = column_of
        scan = pl.scan_parquet([*files], glob=False, missing_columns="insert", extra_columns="ignore")
        self._scan = scan.select(pl.col(column).alias(field) for field, column in column_of.items())
        self._named = str(files[0]) if len(files) == 1 else f"{files[0].parent}"
        self.count = self._counted(scan)

    def in_order(self, time: str, form: TimeForm, begin: int) -> Iterator[pl.DataFrame]:
        """All rows by the field `time`, those of one moment as they stand in the files, from the row `begin` on."""
        if self._is_sorted(time, form):
            yield from self.as_they_stand(begin)
            return
        left_out = 0
        for batch in self._by_slices(time, form):
            here = len(batch)
            skipped = min(max(begin - left_out, 0), here)
            left_out += here
            if skipped < here:
                yield batch[skipped:]

    def column(self, field: str) -> Iterator[pl.Series]:
        """One column in pieces, as it stands in the files."""
        return (frame[field] for frame in self._frames(self._scan.select(field)))

    def as_they_stand(self, begin: int = 0) -> Iterator[pl.DataFrame]:
        """All rows in the order of the files, from the row `begin` on."""
        done = begin
        for frame in self._frames(self._scan.slice(begin)):
            numbers = pl.int_range(done + 1, done + len(frame) + 1, dtype=pl.Int64, eager=True)
            done += len(frame)
            yield frame.with_columns(numbers.alias(NUMBER))

    def _by_slices(self, time: str, form: TimeForm) -> Iterator[pl.DataFrame]:
        borders = self._borders(time, form)
        for low, high in pairwise([_NO_TIME, *borders, -_NO_TIME]):
            parts = []
            for batch in self.as_they_stand():
                at = moments(batch[time], time, form)
                within = (at >= low) & (at < high)
                if within.any():
                    parts.append(batch.with_columns(at.alias(_AT)).filter(within))
            if parts:
                yield pl.concat(parts).sort(_AT, maintain_order=True).drop(_AT)

    def _is_sorted(self, time: str, form: TimeForm) -> bool:
        """Whether no row is earlier than one before it."""
        newest = None
        for column in self.column(time):
            at = moments(column, time, form)
            if len(at) and (not at.is_sorted() or (newest is not None and at[0] < newest)):
                return False
            newest = at[-1] if len(at) else newest
        return True

    def _borders(self, time: str, form: TimeForm) -> list[int]:
        """Moments that part the rows into slices, ascending."""
        step = max(self.count // _SAMPLED, 1)
        sampled = [moments(column.gather_every(step), time, form).to_numpy() for column in self.column(time)]
        times: NDArray[np.int64] = np.sort(np.concatenate(sampled))
        slices = -(-self.count // self.at_once)
        return sorted({int(times[len(times) * one // slices]) for one in range(1, slices)} - {int(times[0])})

    def _frames(self, scan: pl.LazyFrame) -> Iterator[pl.DataFrame]:
        try:
            yield from scan.collect_batches(chunk_size=self.at_once, maintain_order=True)
        except pl.exceptions.PolarsError as error:
            raise self._fault(error) from error

    def _counted(self, scan: pl.LazyFrame) -> int:
        try:
            return int(scan.select(pl.len()).collect().item())
        except pl.exceptions.PolarsError as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> DataProblem:
        return DataProblem(f"{self._named} cannot be read as Parquet: {error}")


def moments(column: pl.Series, name: str, form: TimeForm) -> pl.Series:
    """Microseconds; what is no time stands with the earliest, and is left out by whoever reads the rows."""
    return cells.times(column, name, form).values.fill_null(_NO_TIME)
