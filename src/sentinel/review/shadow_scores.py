"""What shadows would have decided: their scores and how far they are, in a file that no decision waits for."""

import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, Index, MetaData, String, Table
from sqlalchemy.exc import SQLAlchemyError

from sentinel.errors import StorageProblem

FILE = "shadow.db"
_PAGE = 5_000
_STEP = 1_000  # rows that are deleted at once, so that neither the shadow nor a reader waits for long
metadata = MetaData()

shadow_scores = Table(
    "shadow_scores",
    metadata,
    Column("model_version", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),  # of the decision in the log
    Column("transaction_id", String(128), nullable=False),
    Column("fraud_probability", Float),  # null: the model failed, or gave no probability
    Column("decision", String(16)),  # under the shadow's own thresholds
    Column("live_fraud_probability", Float, nullable=False),
    Column("live_decision", String(16), nullable=False),
    Column("live_version", String(64), nullable=False),
    Column("live_degraded", Boolean, nullable=False),  # no model decided
    Column("decided_at_us", BigInteger, nullable=False),
    Index("shadow_scores_by_transaction", "transaction_id"),
    sqlite_with_rowid=False,
)
"""One row a decision that a shadow has looked at, beside what was answered."""

shadows = Table(
    "shadows",
    metadata,
    Column("model_version", String(64), primary_key=True),
    Column("bundle_sha256", String(64), nullable=False),
    Column("begun", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("scored", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("lag", BigInteger, nullable=False),
    Column("heartbeat_us", BigInteger, nullable=False),
)
"""One row a shadow: `begun` as for a feature state, the next entry that it takes, and its counters.

`bundle_sha256` is the fingerprint of its bundle and of the log that it follows.
"""


class ShadowScore(NamedTuple):
    """One row of the table `shadow_scores`; the fields are its columns."""

    model_version: str
    seq: int
    transaction_id: str
    fraud_probability: float | None
    decision: str | None
    live_fraud_probability: float
    live_decision: str
    live_version: str
    live_degraded: bool
    decided_at_us: int


class ShadowProgress(NamedTuple):
    """One row of the table `shadows`. `lag` is in events, `heartbeat_us` the last sign of life by the wall clock."""

    model_version: str
    bundle_sha256: str
    begun: int
    seq: int
    scored: int = 0
    dropped: int = 0
    failed: int = 0
    lag: int = 0
    heartbeat_us: int = 0


class ShadowScores:
    """Reads the scores while a shadow writes them, from any thread.

    Every call raises StorageProblem when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise StorageProblem(f"there is no {path} yet; set up a shadow first")
        self.path = path
        self._engine = _engine(path, "busy_timeout=1000", "query_only=1")

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    def progress(self, version: str) -> ShadowProgress | None:
        """How far this shadow is, or None when it never ran."""
        rows = self._read(sa.select(shadows).where(shadows.c.model_version == version))
        return ShadowProgress._make(rows[0]) if rows else None

    def latest(self) -> ShadowProgress | None:
        """The shadow that was at work last."""
        rows = self._read(sa.select(shadows).order_by(shadows.c.heartbeat_us.desc()).limit(1))
        return ShadowProgress._make(rows[0]) if rows else None

    def scores_of(self, transaction_id: str) -> list[ShadowScore]:
        """What each shadow said to this transaction; empty when none has seen it."""
        return self._scores(shadow_scores.c.transaction_id == transaction_id)

    def page_before(self, version: str, seq: int | None, since_us: int = 0) -> list[ShadowScore]:
        """The scores of this shadow before event `seq` (None: the newest), newest first, some thousands at most.

        Only for transactions decided at `since_us` (microseconds since 1970) or later.
        """
        before = shadow_scores.c.seq < seq if seq is not None else sa.true()
        return self._scores(shadow_scores.c.model_version == version, before, shadow_scores.c.decided_at_us >= since_us)

    def _scores(self, *where: sa.ColumnElement[bool]) -> list[ShadowScore]:
        query = (
            sa.select(shadow_scores)
            .where(*where)
            .order_by(shadow_scores.c.seq.desc(), shadow_scores.c.model_version)
            .limit(_PAGE)
        )
        return [ShadowScore._make(row) for row in self._read(query)]

    def _read(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        try:
            with self._engine.connect() as reader:
                return reader.execute(query).all()
        except SQLAlchemyError as error:
            raise StorageProblem(f"{self.path} cannot be read: {_reason(error)}") from error


class ShadowRecord(ShadowScores):
    """Writes the scores: one process at a time, one thread.

    A power cut may take the last seconds of it, which are scored again. Every call raises StorageProblem when the
    file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StorageProblem(f"another shadow is at work in {path.parent}; stop that one first") from None
        self._engine = _engine(path, "journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=1000")
        try:
            metadata.create_all(self._engine)
            with self._engine.connect() as reader:
                self._held = reader.execute(sa.select(sa.func.count()).select_from(shadow_scores)).scalar_one()
        except SQLAlchemyError as error:
            self.close()
            raise StorageProblem(f"{path} cannot be opened: {_reason(error)}") from error

    def close(self) -> None:
        """Release the file."""
        super().close()
        self._lock.close()

    def begin(self, fresh: ShadowProgress, oldest: int = 0) -> ShadowProgress:
        """How far this shadow came before, or `fresh` when it is new.

        One of another log, with another bundle under the same version, ahead of the log (`fresh.seq` is its end) or
        behind what is kept of it (from `oldest` on) belongs to a past that is gone: its scores are deleted.
        """
        known = self.progress(fresh.model_version)
        if known and known.bundle_sha256 == fresh.bundle_sha256 and oldest <= known.seq <= fresh.seq:
            return known
        while self._forget_oldest(fresh.model_version, _STEP):
            pass  # until then the old progress stays, so that a start that is cut short deletes the rest
        past = shadows.delete().where(shadows.c.model_version == fresh.model_version)
        self._write(past, shadows.insert().values(fresh._asdict()))
        return fresh

    def store(self, scores: Sequence[ShadowScore], progress: ShadowProgress) -> None:
        """Scores, and how far the shadow is with them: both or neither."""
        changed = shadows.update().where(shadows.c.model_version == progress.model_version)
        self._write(changed.values(progress._asdict()), scores=scores)
        self._held += len(scores)

    def prune(self, keep: int) -> int:
        """Delete scores beyond the newest `keep` of all shadows, a step of them at most; how many these were.

        A step is taken from the shadow whose oldest score is the oldest of all. How far each shadow is does not
        change, so nothing is scored again, and SQLite writes new scores where the old ones were.
        """
        excess = self._held - keep
        if excess <= 0:
            return 0
        versions = [row.model_version for row in self._read(sa.select(shadows.c.model_version))]
        begun = {version: rows[0].decided_at_us for version in versions if (rows := self._oldest(version, 1))}
        return self._forget_oldest(min(begun, key=begun.__getitem__), min(excess, _STEP)) if begun else 0

    def _oldest(self, version: str, n: int) -> Sequence[sa.Row[Any]]:
        query = sa.select(shadow_scores.c.seq, shadow_scores.c.decided_at_us)
        query = query.where(shadow_scores.c.model_version == version).order_by(shadow_scores.c.seq).limit(n)
        return self._read(query)

    def _forget_oldest(self, version: str, n: int) -> int:
        rows = self._oldest(version, n)
        if rows:
            of_version = shadow_scores.c.model_version == version
            self._write(shadow_scores.delete().where(of_version, shadow_scores.c.seq <= rows[-1].seq))
            self._held -= len(rows)
        return len(rows)

    def _write(self, *statements: sa.Executable, scores: Sequence[ShadowScore] = ()) -> None:
        try:
            with self._engine.begin() as writer:
                for statement in statements:
                    writer.execute(statement)
                if scores:
                    writer.execute(shadow_scores.insert(), [score._asdict() for score in scores])
        except SQLAlchemyError as error:
            raise StorageProblem(f"{self.path} cannot be written: {_reason(error)}; free some space") from error


def _engine(path: Path, *pragmas: str) -> sa.Engine:
    def configure(connection: Any, _record: Any) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
    sa.event.listen(engine, "connect", configure)
    return engine


def _reason(error: SQLAlchemyError) -> str:
    """What the database itself said."""
    return str(getattr(error, "orig", None) or error)
