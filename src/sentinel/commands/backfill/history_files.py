"""A history in Parquet files that is read in pieces, and which histories are."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sentinel.commands.backfill.parquet_rows import ParquetRows
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.errors import DataProblem
from sentinel.events.files import RowReader, columns_of_fields
from sentinel.events.reading import Reading
from sentinel.events.stamps import stamps_of
from sentinel.events.tables import Table, files_of

ROWS_AT_ONCE = 50_000


class HistoryFiles(NamedTuple):
    """A history in Parquet files: by which detector it is read, and how; `fields` are its columns by field."""

    detector: Detector
    reading: Reading
    settings: Settings
    files: list[Path]
    fields: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, detector: Detector, data: Path, reading: Reading) -> "HistoryFiles":
        """The files of a path. Raises DataProblem for what has not the fields that there must be."""
        fields = columns_of_fields(data, detector.schema, reading.renames, Table(data).columns())
        return cls(detector, reading, settings, files_of(data), fields)

    def rows(self, at_once: int = ROWS_AT_ONCE) -> ParquetRows:
        """Its rows, so many at once. Raises DataProblem where there is none."""
        rows = ParquetRows(self.files, self.fields, at_once)
        if rows.count == 0:
            raise DataProblem(f"{self.files[0].parent if len(self.files) > 1 else self.files[0]} has no rows")
        return rows

    def rows_of_files(self) -> list[int]:
        """How many rows each file has."""
        try:
            return [pl.scan_parquet(one, glob=False).select(pl.len()).collect().item() for one in self.files]
        except pl.exceptions.PolarsError as error:
            raise DataProblem(f"a file cannot be read as Parquet: {error}") from error

    def reader(self, now_us: int) -> RowReader:
        """Reads its rows as the server would have at `now_us`."""
        return RowReader(self.detector.schema, self.reading, self.settings.secrets(), now_us)


def goes_in_pieces(detector: Detector, data: Path, reading: Reading) -> bool:
    """Whether the files are all Parquet, have times, and nothing beside them, and were not exported from a log."""
    if reading.events is not None or reading.tables or detector.schema.tables:
        return False
    if any(file.suffix.lower() != ".parquet" for file in files_of(data)):
        return False
    columns = Table(data).columns()
    fields = columns_of_fields(data, detector.schema, reading.renames, columns)
    return detector.schema.time in fields and not stamps_of(columns)
