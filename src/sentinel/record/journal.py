"""The journal: every decision and outcome, durable before it is answered, in the order it was taken."""

import contextlib
import fcntl
import functools
import itertools
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import alembic.command
import alembic.config
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from sentinel.errors import JournalProblem
from sentinel.events.log import hash_texts
from sentinel.record.decision_batch import NO_DECISIONS, Column, DecisionBatch
from sentinel.record.id_index import IdIndex
from sentinel.record.journal_reader import (
    BUSY_TIMEOUT_MS,
    DECISION_COLUMNS,
    OUTCOME_COLUMNS,
    DecisionRow,
    JournalReader,
    OutcomeRow,
    decision_row,
    reason,
)
from sentinel.record.tables import activations, decisions, outcomes

LONGEST_LOG = 4_096
"""Frames of 4 KiB after which the log begins anew."""

_LOG_BYTES = (LONGEST_LOG + LONGEST_LOG // 2) * (4_096 + 24)

_LITTLE = 256
_FEW = 16
_MOST_IDS = 10_000
MOST_AT_ONCE = 512
"""Rows in one statement; SQLite takes 32,766 values."""

_QUICKER: dict[type, type] = {sa.LargeBinary: bytearray, sa.Boolean: int}
"""The driver looks at length for an adapter of everything but int, float, str and bytearray: a copy costs less."""


class Journal(JournalReader):
    """The tables in one SQLite file. One process at a time; `append` and `close` from one thread only.

    Commits are durable when they return: write-ahead log, `synchronous=FULL`. The log is written back by
    `checkpoint`, which a second thread may call, so that no commit has to wait for it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path.with_suffix(".lock"))
        try:
            super().__init__(path, create=True)
            with self._engine.begin() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver begins none for changes of tables
                _migrate(connection)
            self._writer = self._engine.connect()
            driver = self._writer.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - the URL above says so
            self._driver = driver  # batches go past SQLAlchemy, whose results cost 0.2 ms a batch
            self.last_seq = self.newest_seq()
            self._ids = IdIndex(driver, lambda: sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000))
            lengthen(path.with_name(f"{path.name}-wal"))
        except (SQLAlchemyError, sqlite3.Error) as error:
            self._engine.dispose()
            self._lock.close()
            raise JournalProblem(f"{path} cannot be opened: {reason(error)}") from error
        self._frames = self._behind = 0

    def close(self) -> None:
        """Write the log back and release the file."""
        self._ids.close()
        self._writer.close()
        self.checkpoint()
        self._engine.dispose()
        self._lock.close()

    def append(self, taken: DecisionBatch = NO_DECISIONS, learned: Sequence[OutcomeRow] = ()) -> None:
        """Make a batch durable, all of it or nothing. Raises JournalProblem (disk full, damaged file)."""
        writer = self._driver
        try:
            _insert(writer, decisions, taken.columns, taken.size)
            told: list[Column] = [(False, values) for values in zip(*learned, strict=True)]
            _insert(writer, outcomes, told, len(learned))
            moved = self._ids.move(writer, taken.size)
            writer.commit()
        except sqlite3.Error as error:
            writer.rollback()
            raise JournalProblem(
                f"{self.path} cannot be written: {error}; free some space or check the disk, then retry"
            ) from error
        except BaseException:  # half a batch must not be part of the next commit
            writer.rollback()
            raise
        seqs = taken.values("seq")
        self.last_seq = max([self.last_seq, *seqs[-1:], *(row.seq for row in learned[-1:])])
        self._ids.note(taken.hashes, seqs, moved)

    def find(self, transaction_ids: Sequence[str], hashes: NDArray[np.uint64] | None = None) -> dict[str, DecisionRow]:
        """The stored decisions among these ids, as the writer sees them; `hashes` are theirs, where they are known."""
        if len(transaction_ids) > _MOST_IDS:
            parts = (transaction_ids[i : i + _MOST_IDS] for i in range(0, len(transaction_ids), _MOST_IDS))
            return {name: row for part in parts for name, row in self.find(part).items()}
        rows = self._rows(self._driver, hash_texts(transaction_ids) if hashes is None else hashes)
        wanted = set(transaction_ids) if rows else ()
        return {row[1]: decision_row(row) for row in rows if row[1] in wanted}

    def find_one(self, transaction_id: str) -> tuple[DecisionRow | None, list[OutcomeRow]]:
        """One stored decision and the outcomes of its transaction, oldest first; from any thread."""
        with self._engine.connect() as reader:
            driver = reader.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - the URL above says so
            rows = [row for row in self._rows(driver, hash_texts([transaction_id])) if row[1] == transaction_id]
            told = reader.execute(
                sa.select(outcomes).where(outcomes.c.transaction_id == transaction_id).order_by(outcomes.c.seq)
            ).all()
        return (decision_row(rows[0]) if rows else None), [OutcomeRow(*one) for one in told]

    def _rows(self, reader: sqlite3.Connection, hashes: NDArray[np.uint64]) -> list[Any]:
        """The rows whose ids have these hashes."""
        seqs = self._ids.seqs_of(reader, hashes)
        if not seqs:
            return []
        marks = ",".join("?" * len(seqs))
        sql = f"SELECT {','.join(DECISION_COLUMNS)} FROM decisions WHERE seq IN ({marks})"  # noqa: S608
        return reader.execute(sql, seqs).fetchall()

    def newest_outcomes(self, transaction_ids: Sequence[str]) -> dict[str, OutcomeRow]:
        """The newest stored outcome of each of these transactions, as the writer sees them."""
        marks = ",".join("?" * len(transaction_ids))
        sql = f"SELECT {','.join(OUTCOME_COLUMNS)} FROM outcomes WHERE transaction_id IN ({marks}) ORDER BY seq"  # noqa: S608
        rows = self._driver.execute(sql, transaction_ids).fetchall()
        return {row[1]: OutcomeRow(row[0], row[1], bool(row[2]), row[3], row[4]) for row in rows}

    def activate(self, state_id: str, seq: int, now_us: int) -> None:
        """Note that this state has been kept since event `seq`."""
        with self._writer.begin():
            self._writer.execute(activations.insert().values(state_id=state_id, seq=seq, activated_at_us=now_us))

    def checkpoint(self) -> None:
        """Write the log back into the file without making a commit wait; from any thread."""
        with self._engine.connect() as connection:
            _, frames, done = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()
        self._frames, self._behind = frames, frames - done

    def cut_log(self) -> None:
        """Have the log begin anew in its own file when it is long; from the writer's thread, after a `checkpoint`.

        The file keeps its size: overwriting it makes a commit a third quicker than growing it. What the last
        checkpoint left over is little, and nobody waits for a reader: next time will do.
        """
        if self._frames > LONGEST_LOG and self._behind < _LITTLE:
            self._driver.execute("PRAGMA busy_timeout=0")
            self._driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            self._frames = 0


def _insert(writer: sqlite3.Connection, table: sa.Table, columns: Sequence[Column], rows: int) -> None:
    """Insert rows: up to 16 in one statement, of more as many as a power of two allows; one for each row costs twice.

    The value of a column that is the same in all rows is handed over once.
    """
    begin, kinds = 0, _kinds(table)
    while begin < rows:
        left = rows - begin
        size = left if left <= _FEW else min(1 << left.bit_length() - 1, MOST_AT_ONCE)
        sql = _insert_sql(table, tuple(same for same, _ in columns), size)
        end = begin + size
        given = (
            (value,) if same else map(kind, value[begin:end]) if kind else value[begin:end]
            for (same, value), kind in zip(columns, kinds, strict=True)
        )  # fmt: skip
        writer.execute(sql, list(itertools.chain.from_iterable(given)))
        begin = end


@functools.cache
def _kinds(table: sa.Table) -> tuple[type | None, ...]:
    """What the values of a column are handed over as, where that is not what they are."""
    return tuple(_QUICKER.get(type(column.type)) for column in table.columns)


@functools.lru_cache(maxsize=256)
def _insert_sql(table: sa.Table, shared: tuple[bool, ...], rows: int) -> str:
    """The values are numbered by column: one for a column that is shared, one for each row of any other."""
    first, numbers = 1, []
    for same in shared:
        numbers.append([first] * rows if same else range(first, first + rows))
        first += 1 if same else rows
    marks = (f"({','.join(f'?{number}' for number in row)})" for row in zip(*numbers, strict=True))
    return f"INSERT INTO {table.name} ({','.join(table.columns.keys())}) VALUES {','.join(marks)}"  # noqa: S608


def lengthen(log: Path) -> None:
    """Give the log its full size now: a commit that makes a file longer takes ten times as long as one that does not.

    SQLite ends a log at the first frame that is not of this log, so zeros after the last one mean nothing to it. Where
    there is no room for all of it the log stays as it was: others need the room there is.
    """
    with contextlib.suppress(OSError):
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            before = os.fstat(file).st_size
            lacking = max(_LOG_BYTES - before, 0)
            if lacking and _write(file, bytes(lacking)) < lacking:
                os.ftruncate(file, before)
            os.fdatasync(file)
        finally:
            os.close(file)


def _write(file: int, data: bytes) -> int:
    """How much of it found room."""
    try:
        return os.write(file, data)
    except OSError:
        return 0


def _migrate(connection: sa.Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def _lock(path: Path) -> IO[str]:
    handle = path.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise JournalProblem(
            f"{path.parent} is in use by another Sentinel; stop that one, or choose another folder with --home"
        ) from None
    return handle
