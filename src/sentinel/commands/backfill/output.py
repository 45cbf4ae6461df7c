"""Where features go: a Parquet file that appears whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import polars as pl
from polars.io.plugins import register_io_source

from sentinel.durable import replacing
from sentinel.errors import DataProblem, SentinelError

_COMPRESSION: Literal["lz4"] = "lz4"
_ROWS = 100_000  # of a row group: what is written is held until one is full


def write_file(out: Path, names: list[str], frames: Iterator[pl.DataFrame]) -> None:
    """Write one file from frames of an id and features, one frame at a time; it appears when the last is written.

    Raises DataProblem where it cannot be written, and what the frames raise.
    """
    raised: list[SentinelError] = []

    def pieces(_columns: Any, _predicate: Any, _rows: Any, _size: Any) -> Iterator[pl.DataFrame]:
        try:
            yield from frames
        except SentinelError as error:
            raised.append(error)
            raise

    first, *rest = names
    schema = {first: pl.String, **dict.fromkeys(rest, pl.Float64)}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as draft:
            source = register_io_source(pieces, schema=schema)
            source.sink_parquet(draft, compression=_COMPRESSION, row_group_size=_ROWS, maintain_order=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        if raised:
            raise raised[0] from None
        raise DataProblem(f"{out} cannot be written: {error}") from error


def write_together(out: Path, parts: list[Path]) -> None:
    """Write the rows of several such files as one, in their order. Raises DataProblem where it cannot be written."""
    try:
        with replacing(out) as draft:
            rows = pl.scan_parquet([*parts], glob=False)
            rows.sink_parquet(draft, compression=_COMPRESSION, row_group_size=_ROWS, maintain_order=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataProblem(f"{out} cannot be written: {error}") from error
