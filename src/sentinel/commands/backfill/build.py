"""`sentinel features build`: the features of a history, as the live service would compute them."""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from sentinel.commands.backfill.output import write_file
from sentinel.commands.backfill.parquet_rows import ParquetRows
from sentinel.commands.backfill.pieces import Pieces
from sentinel.commands.backfill.repeated_ids import IdsSeen
from sentinel.commands.backfill.survey import Survey, survey
from sentinel.commands.declared_events import check_events_given
from sentinel.commands.given_history import read_data, tell_labels, tell_skipped
from sentinel.commands.progress import Stage, stages
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem
from sentinel.events.files import RowReader, columns_of_fields, said
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.events.stamps import stamps_of
from sentinel.events.tables import Table, files_of
from sentinel.features.store import MemoryStore
from sentinel.train.vocabulary import learn_vocabulary

ROWS_AT_ONCE = 50_000


class _RowsOfOneId(Exception):
    """Two rows have one id: which of them counts is only known of a history that is read as a whole."""


def build_features(settings: Settings, name: str, data: Path, out: Path, reading: Reading) -> dict[str, object]:
    """Write a Parquet file of the id and every feature; categories are learned on the file itself.

    Parquet files are read piece by piece, and take as much memory as the state of their keys; so is no history that
    has a file of context events, tables, or ids that come twice, or comes from a log: those are read as a whole.
    """
    if out.suffix != ".parquet":
        raise DataProblem(f"{out}: features are written as Parquet; end the name in .parquet")
    detector = load_detector(name)
    check_events_given(detector, reading)
    if not _goes_in_pieces(detector, data, reading):
        return _build_at_once(settings, detector, data, out, reading)
    try:
        return _build_in_pieces(settings, detector, data, out, reading)
    except _RowsOfOneId:
        return _build_at_once(settings, detector, data, out, reading)


def _goes_in_pieces(detector: Detector, data: Path, reading: Reading) -> bool:
    if reading.events is not None or reading.tables or detector.schema.tables:
        return False
    if any(file.suffix.lower() != ".parquet" for file in files_of(data)):
        return False
    columns = Table(data).columns()
    fields = columns_of_fields(data, detector.schema, reading.renames, columns)
    return detector.schema.time in fields and not stamps_of(columns)


def _build_in_pieces(
    settings: Settings, detector: Detector, data: Path, out: Path, reading: Reading
) -> dict[str, object]:
    schema, now_us = detector.schema, time.time_ns() // 1_000
    fields = columns_of_fields(data, schema, reading.renames, Table(data).columns())
    rows = ParquetRows(files_of(data), fields, ROWS_AT_ONCE)
    if rows.count == 0:
        raise DataProblem(f"{data} has no rows")
    known = survey(detector, reading, rows, fields, RowReader(schema, reading, settings.secrets(), now_us))
    reader = RowReader(schema, reading, settings.secrets(), now_us)
    with stages() as stage, ThreadPoolExecutor(_threads()) as threads:
        pieces = Pieces(detector, reader, MemoryStore(detector.plan(known.vocabulary), threads), known.meanings)
        run = _Run(rows, pieces, known, reading, stage)
        write_file(out, [schema.id, *pieces.store.plan.names], run.frames(schema.time, schema.id, out.parent))
    tell_skipped(reader.skipped, reader.examples)
    tell_labels(detector, run.transactions, pieces.labels() if schema.label in fields else None)
    return _facts(run.transactions, len(pieces.store.plan.names), reader.skipped, out)


class _Run:
    """One run over all rows, and how many transactions it had so far."""

    def __init__(self, rows: ParquetRows, pieces: Pieces, known: Survey, reading: Reading, stage: Stage) -> None:
        self.transactions = 0
        self._rows, self._pieces, self._known, self._reading, self._stage = rows, pieces, known, reading, stage

    def frames(self, time_field: str, id_field: str, folder: Path) -> Iterator[pl.DataFrame]:
        """The features of every batch. Raises DataProblem at the end for a history that cannot be used."""
        form, reader, done = self._reading.time_form(self._pieces.schema), self._pieces.reader, 0
        with tempfile.TemporaryFile(dir=folder) as file:
            seen = IdsSeen(file)
            for batch in self._rows.in_order(time_field, form, 0):
                frame = self._pieces.take(batch)
                done += len(batch.numbers)
                self._stage("features", done, self._rows.count)
                self.transactions += len(frame)
                seen.add(frame[id_field])
                yield frame
            if seen.has_repeats() or self._pieces.words.keys() != self._known.meanings.keys():
                raise _RowsOfOneId
        if reader.skipped and self._reading.strict:
            found = said(reader.skipped, reader.examples)
            raise DataProblem(f"rows that cannot be used ({found}); mend them, or leave out --strict")
        if self.transactions == 0:
            raise DataProblem(f"no usable row: {said(reader.skipped, reader.examples)}")


def _build_at_once(
    settings: Settings, detector: Detector, data: Path, out: Path, reading: Reading
) -> dict[str, object]:
    history = read_data(settings, detector, data, reading)
    plan = detector.plan(learn_vocabulary(detector, history.frame))
    ids = history.frame[detector.schema.id]

    def frames(stage: Stage) -> Iterator[pl.DataFrame]:
        events, done = columns_of_frame(detector.schema, history.frame, detector.trusts, history.context), 0
        store = MemoryStore(plan)
        for begin in range(0, len(events), ROWS_AT_ONCE):
            rows = store.advance(events.rows(slice(begin, begin + ROWS_AT_ONCE))).rows
            columns = {name: rows[:, i].copy() for i, name in enumerate(plan.names)}
            yield pl.DataFrame({detector.schema.id: ids[done : done + len(rows)], **columns})
            done += len(rows)
            stage("features", min(begin + ROWS_AT_ONCE, len(events)), len(events))

    with stages() as stage:
        write_file(out, [detector.schema.id, *plan.names], frames(stage))
    return _facts(len(ids), len(plan.names), history.skipped, out)


def _facts(transactions: int, features: int, skipped: dict[str, int], out: Path) -> dict[str, object]:
    return {"transactions": transactions, "features": features, "skipped": skipped, "out": str(out)}


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
