"""Reading the journal: from any thread, and from other processes while one writes it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from sentinel.errors import JournalProblem
from sentinel.record.tables import activations, decisions, outcomes

DECISION_COLUMNS = tuple(column.name for column in decisions.columns)
OUTCOME_COLUMNS = tuple(column.name for column in outcomes.columns)
BUSY_TIMEOUT_MS = 10_000
_PAGE = 5_000
_CACHE_KIB = 8_192  # the upper levels of the tables; more would be new memory for pages that no one asks for again


class DecisionRow(NamedTuple):
    """One row of the table `decisions`; the fields are its columns."""

    seq: int
    transaction_id: str
    content: bytes
    features: bytes
    fraud_probability: float
    decision: str
    review_threshold: float
    block_threshold: float | None
    model_version: str
    detector: str
    late: bool
    variant: str | None
    experiment: str | None
    circuit: str
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


class JournalReader:
    """The stored decisions and outcomes. A read ends before its page is handed on, so it holds back no writer."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if not create and not path.exists():
            raise JournalProblem(f"there is no journal {path} yet; serve and decide something first")
        self.path = path
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
        sa.event.listen(self._engine, "connect", _configure)

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    def events_after(self, seq: int) -> Iterator[list[DecisionRow | OutcomeRow]]:
        """Everything after `seq` in the order it was taken, in pages; from any thread."""
        while page := self.page_after(seq):
            seq = page[-1].seq
            yield page

    def page_after(self, seq: int, limit: int | None = None) -> list[DecisionRow | OutcomeRow]:
        """The next events after `seq`, at most `limit` (None: some thousands); empty when there are none yet."""
        limit = limit or _PAGE
        with self._engine.connect() as reader:
            reader.exec_driver_sql("BEGIN")  # both tables as of the same moment
            taken = reader.execute(_page(decisions, seq, limit)).all()
            learned = reader.execute(_page(outcomes, seq, limit)).all()
        page: list[DecisionRow | OutcomeRow] = [decision_row(row) for row in taken]
        page += [OutcomeRow(*row) for row in learned]
        return sorted(page, key=lambda row: row.seq)[:limit]

    def of_experiment(self, experiment: str) -> Iterator[tuple[list[DecisionRow], list[OutcomeRow]]]:
        """The decisions of an experiment and the first outcome of each that has one, in pages; from any thread."""
        seq = 0
        query = sa.select(decisions).where(decisions.c.experiment == experiment).order_by(decisions.c.seq).limit(_PAGE)
        while True:
            with self._engine.connect() as reader:
                rows = [decision_row(row) for row in reader.execute(query.where(decisions.c.seq > seq)).all()]
                if not rows:
                    return
                told = reader.execute(
                    sa.select(outcomes)
                    .join(decisions, decisions.c.transaction_id == outcomes.c.transaction_id)
                    .where(decisions.c.seq.between(rows[0].seq, rows[-1].seq), decisions.c.experiment == experiment)
                    .order_by(outcomes.c.seq.desc())
                ).all()
            seq = rows[-1].seq
            yield rows, list({row.transaction_id: OutcomeRow(*row) for row in told}.values())

    def truth_of(self, transaction_ids: Sequence[str]) -> dict[str, bool]:
        """Whether each of these transactions was fraud, by its newest outcome, for those that have one; any thread."""
        marks = ",".join("?" * len(transaction_ids))
        sql = f"SELECT transaction_id, is_fraud FROM outcomes WHERE transaction_id IN ({marks}) ORDER BY seq"  # noqa: S608
        with self._engine.connect() as reader:
            told = reader.exec_driver_sql(sql, tuple(transaction_ids)).all()
        return {transaction_id: bool(is_fraud) for transaction_id, is_fraud in told}

    def newest_seq(self) -> int:
        """Number of the newest event, 0 when there is none."""
        with self._engine.connect() as reader:
            newest = [reader.execute(sa.select(sa.func.max(table.c.seq))).scalar() for table in (decisions, outcomes)]
        return max(one or 0 for one in newest)

    def counts(self) -> dict[str, int]:
        """How many rows each table has; from any thread."""
        with self._engine.connect() as reader:
            return {
                table.name: reader.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in (decisions, outcomes)
            }

    def activation(self, state_id: str) -> int | None:
        """The last event before this state has been kept, or None when it never was."""
        with self._engine.connect() as reader:
            query = sa.select(activations.c.seq).where(activations.c.state_id == state_id)
            found: int | None = reader.execute(query).scalar()
        return found


def decision_row(row: Sequence[Any]) -> DecisionRow:
    """A row of the table as it came from the database."""
    return DecisionRow(*row)._replace(late=bool(row[DECISION_COLUMNS.index("late")]))


def _page(table: sa.Table, seq: int, limit: int) -> sa.Select[Any]:
    return sa.select(table).where(table.c.seq > seq).order_by(table.c.seq).limit(limit)


def _configure(connection: Any, _record: Any) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=0",
        f"cache_size=-{_CACHE_KIB}",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def reason(error: Exception) -> str:
    """What the database itself said."""
    return str(getattr(error, "orig", None) or error)
