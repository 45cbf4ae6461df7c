"""`sentinel features build`: the features of a history, as the live service would compute them."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from sentinel.commands.backfill.history_files import ROWS_AT_ONCE, HistoryFiles, goes_in_pieces
from sentinel.commands.backfill.in_pieces import RowsOfOneId, build_in_pieces
from sentinel.commands.backfill.output import write_file
from sentinel.commands.backfill.unfinished import Unfinished
from sentinel.commands.declared_events import check_events_given
from sentinel.commands.given_history import read_data, tell_labels, tell_skipped
from sentinel.commands.progress import Stage, stages
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.features.store import MemoryStore
from sentinel.train.rows.vocabulary import learn_vocabulary

CHECKPOINT_ROWS = 5_000_000


def build_features(
    settings: Settings, name: str, data: Path, out: Path, reading: Reading, checkpoint_rows: int = CHECKPOINT_ROWS,
    *, restart: bool = False,
) -> dict[str, object]:  # fmt: skip
    """Write a Parquet file of the id and every feature; categories are learned on the file itself.

    Parquet files are read piece by piece, and take as much memory as the state of their keys; so is no history that
    has a file of context events, tables, or ids that come twice, or comes from a log: those are read as a whole.
    A build in pieces that was stopped goes on from its newest checkpoint, of which there is one behind about every
    `checkpoint_rows`; `restart` forgets it.
    """
    if out.suffix != ".parquet":
        raise DataProblem(f"{out}: features are written as Parquet; end the name in .parquet")
    if checkpoint_rows < 1:
        raise DataProblem("--checkpoint-rows must be at least 1")
    detector = load_detector(name)
    check_events_given(detector, reading)
    if restart:
        with Unfinished(out).locked() as before:
            before.clear()
    if not goes_in_pieces(detector, data, reading):
        return _build_at_once(settings, detector, data, out, reading)
    try:
        return _build_in_pieces(HistoryFiles.of(settings, detector, data, reading), out, checkpoint_rows)
    except RowsOfOneId:
        return _build_at_once(settings, detector, data, out, reading)


def _build_in_pieces(history: HistoryFiles, out: Path, checkpoint_rows: int) -> dict[str, object]:
    transactions, pieces = build_in_pieces(history, out, checkpoint_rows)
    reader, labelled = pieces.reader, history.detector.schema.label in history.fields
    tell_skipped(reader.skipped, reader.examples)
    tell_labels(history.detector, transactions, pieces.labels() if labelled else None)
    return facts_of(transactions, len(pieces.store.plan.names), reader.skipped, out)


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
    return facts_of(len(ids), len(plan.names), history.skipped, out)


def facts_of(transactions: int, features: int, skipped: dict[str, int], out: Path) -> dict[str, object]:
    """What the command says of a build."""
    return {"transactions": transactions, "features": features, "skipped": skipped, "out": str(out)}
