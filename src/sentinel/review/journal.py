"""The journal: every decision and outcome, durable before it is answered, in the order it was taken."""

import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import alembic.command
import alembic.config
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from sentinel.errors import JournalProblem
from sentinel.review.tables import activations, decisions, outcomes

_DECISION_COLUMNS = tuple(column.name for column in decisions.columns)
_OUTCOME_COLUMNS = tuple(column.name for column in outcomes.columns)
_PAGE = 5_000
_CHECKPOINT_ABOVE = 64 * 2**20


class DecisionRow(NamedTuple):
    """One row of the table `decisions`; the fields are its columns."""

    seq: int
    transaction_id: str
    content: bytes
    features: bytes
    fraud_probability: float
    decision: str
    review_threshold: float
    block_threshold: float
    model_version: str
    detector: str
    late: bool
    degraded: str | None
    batch_size: int
    latency_us: int
    decided_at_us: int


class OutcomeRow(NamedTuple):
    """One row of the table `outcomes`."""

    seq: int
    transaction_id: str
    is_fraud: bool
    time_us: int
    received_at_us: int


class Journal:
    """The tables in one SQLite file. One process at a time; `append` and `close` from one thread only.

    Commits are durable when they return: write-ahead log, `synchronous=FULL`. The log is written back by
    `checkpoint`, which a second thread may call, so that no commit has to wait for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path.with_suffix(".lock"))
        try:
            self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
            sa.event.listen(self._engine, "connect", _configure)
            with self._engine.begin() as connection:
                _migrate(connection)
            self._writer = self._engine.connect()
            self.last_seq = self._newest_seq()
        except SQLAlchemyError as error:
            self._lock.close()
            raise JournalProblem(f"{path} cannot be opened: {_reason(error)}") from error
        self._insert_decision = _insert(decisions.name, _DECISION_COLUMNS)
        self._insert_outcome = _insert(outcomes.name, _OUTCOME_COLUMNS)

    def close(self) -> None:
        """Write the log back and release the file."""
        self._writer.close()
        self.checkpoint()
        self._engine.dispose()
        self._lock.close()

    def append(self, taken: Sequence[DecisionRow], learned: Sequence[OutcomeRow]) -> None:
        """Make a batch durable, all of it or nothing. Raises JournalProblem (disk full, damaged file)."""
        writer = self._writer
        try:
            with writer.begin():
                if taken:
                    writer.exec_driver_sql(self._insert_decision, taken)
                if learned:
                    writer.exec_driver_sql(self._insert_outcome, learned)
        except SQLAlchemyError as error:
            raise JournalProblem(
                f"{self.path} cannot be written: {_reason(error)}; free some space or check the disk, then retry"
            ) from error
        self.last_seq = max([self.last_seq, *(row[0] for row in taken[-1:]), *(row[0] for row in learned[-1:])])

    def find(self, transaction_ids: Sequence[str]) -> dict[str, DecisionRow]:
        """The stored decisions among these ids, as the writer sees them."""
        marks = ",".join("?" * len(transaction_ids))
        sql = f"SELECT {','.join(_DECISION_COLUMNS)} FROM decisions WHERE transaction_id IN ({marks})"  # noqa: S608
        rows = self._writer.exec_driver_sql(sql, tuple(transaction_ids)).fetchall()
        self._writer.rollback()  # ends the read, which would hold back checkpoints
        return {row[1]: _decision(row) for row in rows}

    def find_one(self, transaction_id: str) -> tuple[DecisionRow | None, list[OutcomeRow]]:
        """One stored decision and the outcomes of its transaction, oldest first; from any thread."""
        with self._engine.connect() as reader:
            row = reader.execute(sa.select(decisions).where(decisions.c.transaction_id == transaction_id)).first()
            told = reader.execute(
                sa.select(outcomes).where(outcomes.c.transaction_id == transaction_id).order_by(outcomes.c.seq)
            ).all()
        return (_decision(row) if row else None), [OutcomeRow(*one) for one in told]

    def newest_outcomes(self, transaction_ids: Sequence[str]) -> dict[str, OutcomeRow]:
        """The newest stored outcome of each of these transactions, as the writer sees them."""
        marks = ",".join("?" * len(transaction_ids))
        sql = f"SELECT {','.join(_OUTCOME_COLUMNS)} FROM outcomes WHERE transaction_id IN ({marks}) ORDER BY seq"  # noqa: S608
        rows = self._writer.exec_driver_sql(sql, tuple(transaction_ids)).fetchall()
        self._writer.rollback()
        return {row[1]: OutcomeRow(*row) for row in rows}

    def events_after(self, seq: int) -> Iterator[list[DecisionRow | OutcomeRow]]:
        """Everything after `seq` in the order it was taken, in pages; from any thread."""
        with self._engine.connect() as reader:
            while True:
                taken = reader.execute(_page(decisions, seq)).all()
                learned = reader.execute(_page(outcomes, seq)).all()
                page: list[DecisionRow | OutcomeRow] = [_decision(row) for row in taken]
                page += [OutcomeRow(*row) for row in learned]
                page = sorted(page, key=lambda row: row.seq)[:_PAGE]
                if not page:
                    return
                seq = page[-1].seq
                yield page

    def counts(self) -> dict[str, int]:
        """How many rows each table has; from any thread."""
        with self._engine.connect() as reader:
            return {
                table.name: reader.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in (decisions, outcomes)
            }

    def activation(self, model_version: str) -> int | None:
        """The last event before this model took charge, or None when it never did."""
        with self._engine.connect() as reader:
            query = sa.select(sa.func.max(activations.c.seq)).where(activations.c.model_version == model_version)
            found: int | None = reader.execute(query).scalar()
        return found

    def activate(self, model_version: str, now_us: int) -> int:
        """Note that this model takes charge after the newest event, which is returned."""
        with self._writer.begin():
            self._writer.execute(activations.delete().where(activations.c.seq == self.last_seq))
            self._writer.execute(
                activations.insert().values(seq=self.last_seq, model_version=model_version, activated_at_us=now_us)
            )
        return self.last_seq

    def checkpoint(self) -> None:
        """Write the log back into the file without making a commit wait; from any thread."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def cut_log(self) -> None:
        """Begin the log file anew when it has grown large; from the writer's thread, after a `checkpoint`."""
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size > _CHECKPOINT_ABOVE:
            self._writer.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.rollback()

    def _newest_seq(self) -> int:
        newest = [self._writer.execute(sa.select(sa.func.max(table.c.seq))).scalar() for table in (decisions, outcomes)]
        self._writer.rollback()
        return max(one or 0 for one in newest)


def _decision(row: Sequence[Any]) -> DecisionRow:
    return DecisionRow(*row)._replace(late=bool(row[_DECISION_COLUMNS.index("late")]))


def _page(table: sa.Table, seq: int) -> sa.Select[Any]:
    return sa.select(table).where(table.c.seq > seq).order_by(table.c.seq).limit(_PAGE)


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})"  # noqa: S608


def _configure(connection: Any, _record: Any) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=0",
        "cache_size=-65536",
        "busy_timeout=10000",
    ):
        connection.execute(f"PRAGMA {pragma}")


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


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error)
