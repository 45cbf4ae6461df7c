"""A file that grows by frames, in bounded memory, and appears whole or not at all: Parquet, or CSV."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from sentinel.durable import replacing
from sentinel.errors import DataProblem

ROW_GROUP = 100_000
"""Rows that are in memory at once, about."""

FORMATS = (".parquet", ".csv")


def check_name(path: Path) -> None:
    """Raise DataProblem unless it can be written: the ending says how, and the folder is there."""
    if path.suffix not in FORMATS:
        raise DataProblem(f"{path}: what is written is told by its ending; use {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise DataProblem(f"{path}: there is no folder {path.parent}; make it first")


def write_frames(paths: Sequence[Path], columns: pl.Schema, frames: Iterable[pl.DataFrame]) -> int:
    """Write frames with these columns, one after the other, to each of these files; the number of rows.

    Whatever is wrong meanwhile, no file is there that was not there before, or is another one than before.
    """
    if not paths:
        raise DataProblem("no file to write to is given")
    with TemporaryDirectory(prefix=f".{paths[0].name}.", dir=paths[0].parent) as folder:
        parts: list[Path] = []
        rows = 0
        for group in _groups(frames):
            parts.append(Path(folder) / f"{len(parts):06}.parquet")
            group.write_parquet(parts[-1], compression="lz4")
            rows += len(group)
        if not parts:
            parts.append(Path(folder) / "none.parquet")
            pl.DataFrame(schema=columns).write_parquet(parts[-1])
        for path in paths:
            with replacing(path) as draft:
                scan = pl.scan_parquet(parts, glob=False)
                if path.suffix == ".csv":
                    scan.sink_csv(draft, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ", check_extension=False)
                else:
                    scan.sink_parquet(draft, row_group_size=ROW_GROUP)
    return rows


def _groups(frames: Iterable[pl.DataFrame]) -> Iterable[pl.DataFrame]:
    """The same rows in greater frames."""
    waiting: list[pl.DataFrame] = []
    n = 0
    for frame in frames:
        waiting.append(frame)
        n += len(frame)
        if n >= ROW_GROUP:
            yield pl.concat(waiting)
            waiting, n = [], 0
    if waiting and n:
        yield pl.concat(waiting)
