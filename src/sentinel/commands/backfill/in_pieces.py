"""The engine of one machine: pieces one after the other, with checkpoints between the parts of what is written."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import polars as pl

from sentinel.commands.backfill.history_files import ROWS_AT_ONCE, HistoryFiles
from sentinel.commands.backfill.origin import origin_of
from sentinel.commands.backfill.output import write_file, write_together
from sentinel.commands.backfill.pieces import Pieces, Progress, features_of
from sentinel.commands.backfill.repeated_ids import IdsSeen
from sentinel.commands.backfill.survey import Survey, survey
from sentinel.commands.backfill.unfinished import Checkpoint, Facts, Unfinished, sync
from sentinel.commands.progress import Stage, stages
from sentinel.errors import DataProblem
from sentinel.events.files import Example, said
from sentinel.features.store import MemoryStore


class RowsOfOneId(Exception):
    """Two rows have one id: which of them counts is only known of a history that is read as a whole."""


def build_in_pieces(history: HistoryFiles, out: Path, checkpoint_rows: int) -> tuple[int, Pieces]:
    """Write the features of a history; how many transactions it has, and the pieces that it went through.

    Raises DataProblem, RowsOfOneId, and as `Unfinished` does for a build that was stopped and cannot go on.
    """
    origin = origin_of(history.detector, history.reading, history.settings.secrets(), history.files)
    with Unfinished(out).locked() as kept, stages() as stage, ThreadPoolExecutor(_threads()) as threads:
        run = _Run(history, kept, origin, threads, min(ROWS_AT_ONCE, checkpoint_rows))
        with kept.ids(run.transactions) as file:
            run.write_parts(file, checkpoint_rows, stage)
            run.check(IdsSeen(file))
        run.finish(out)
    return run.transactions, run.pieces


class _Run:
    """A build from its beginning, or from where it was."""

    def __init__(
        self, history: HistoryFiles, kept: Unfinished, origin: dict[str, str], threads: ThreadPoolExecutor, at_once: int
    ) -> None:
        before = kept.newest(origin)
        self._kept, self._origin, self._reading = kept, origin, history.reading
        self._rows, self._now_us = history.rows(at_once), before.facts.now_us if before else time.time_ns() // 1_000
        self._known = (
            Survey(before.facts.meanings, before.facts.vocabulary)
            if before
            else survey(history.detector, history.reading, self._rows, history.fields, history.reader(self._now_us))
        )
        store = MemoryStore(history.detector.plan(self._known.vocabulary), threads)
        self.pieces = Pieces(history.reader(self._now_us), store, self._known.meanings)
        self.transactions, self._done, self._parts = 0, 0, 0
        if before is not None:
            self._go_on_from(before)

    def _go_on_from(self, before: Checkpoint) -> None:
        facts, pieces = before.facts, self.pieces
        pieces.store.restore(before.state)
        pieces.progress = Progress(before.told, facts.words)
        pieces.reader.skipped |= facts.skipped
        pieces.reader.examples |= {reason: Example(*one) for reason, one in facts.examples.items()}
        self.transactions, self._done, self._parts = facts.transactions, facts.rows, facts.parts

    def write_parts(self, ids: BinaryIO, checkpoint_rows: int, stage: Stage) -> None:
        """Write part after part, with a checkpoint behind each but the last."""
        schema, names = self.pieces.schema, list(self.pieces.store.plan.names)
        frames = self._frames(IdsSeen(ids), stage)
        while self._done < self._rows.count:
            before = self._done
            part = self._until(before + checkpoint_rows, frames)
            write_file(self._kept.part(self._parts), [schema.id, *names], part)
            if self._done == before:
                raise DataProblem(f"the input has fewer rows than the {self._rows.count:,} that it had; begin again")
            self._parts += 1
            if self._done < self._rows.count:
                sync(ids)
                self._kept.save(self._checkpoint())

    def _until(self, end: int, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The frames up to the one with which so many rows were read."""
        for frame in frames:
            yield frame
            if self._done >= end:
                return

    def _frames(self, seen: IdsSeen, stage: Stage) -> Iterator[pl.DataFrame]:
        """The features of every batch that is left."""
        schema = self.pieces.schema
        form = self._reading.time_form(schema)
        batches = self._counted(self._rows.in_order(schema.time, form, self._done), stage)
        for frame in features_of(batches, self.pieces):
            self.transactions += len(frame)
            seen.add(frame[schema.id])
            yield frame

    def _counted(self, batches: Iterator[pl.DataFrame], stage: Stage) -> Iterator[pl.DataFrame]:
        for batch in batches:
            self._done += len(batch)
            stage("features", self._done, self._rows.count)
            yield batch

    def _checkpoint(self) -> Checkpoint:
        reader, progress = self.pieces.reader, self.pieces.progress
        facts = Facts(
            origin=self._origin, rows=self._done, transactions=self.transactions, parts=self._parts,
            skipped=reader.skipped, examples={reason: (one.row, one.cell) for reason, one in reader.examples.items()},
            words=progress.words, meanings=self._known.meanings, vocabulary=self._known.vocabulary, now_us=self._now_us,
        )  # fmt: skip
        return Checkpoint(facts, self.pieces.store.snapshot(), progress.told)

    def check(self, seen: IdsSeen) -> None:
        """Raise DataProblem, or RowsOfOneId, for a history that cannot be used, and forget what was built of it."""
        problem = self._problem(seen)
        if problem is not None:
            self._kept.clear()
            raise problem

    def _problem(self, seen: IdsSeen) -> DataProblem | RowsOfOneId | None:
        reader = self.pieces.reader
        if seen.has_repeats() or self.pieces.progress.words.keys() != self._known.meanings.keys():
            return RowsOfOneId()
        if reader.skipped and self._reading.strict:
            found = said(reader.skipped, reader.examples)
            return DataProblem(f"rows that cannot be used ({found}); mend them, or leave out --strict")
        return None if self.transactions else DataProblem(f"no usable row: {said(reader.skipped, reader.examples)}")

    def finish(self, out: Path) -> None:
        """Put what was written in the place of the output; then nothing is left to go on from."""
        parts = [self._kept.part(n) for n in range(self._parts)]
        if len(parts) == 1:
            self._kept.put_in_place(parts[0])
        else:
            write_together(out, parts)
        self._kept.clear()


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
