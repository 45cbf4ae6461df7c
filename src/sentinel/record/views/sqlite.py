"""A view in one SQLite file."""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from sentinel.errors import StorageProblem
from sentinel.policy.thresholds import ACTIONS
from sentinel.record.entries import OutcomeRow, RevokedRow
from sentinel.record.views import MOST_ROWS, Counts, DecisionQuery, Page, ViewPosition, key_index, search
from sentinel.record.views.rows import Rows
from sentinel.record.views.tables import decisions, metadata, models, outcomes, progress, totals

FILE = "views.db"
VERSION = 2
_AT_ONCE = 10_000  # values in one statement
_DECISION = decisions.c.keys().index("decision")
_ROWS = 64  # in one statement
_PRUNED = 16_384  # positions in one transaction
_GAP = 10_000  # positions without a model after which a new span of it begins

_TRANSACTIONS = """
CREATE VIEW transactions AS SELECT transaction_id, (SELECT value FROM json_each(keys) LIMIT 1) AS user_id, amount,
fraud_probability AS risk_score, strftime('%Y-%m-%dT%H:%M:%fZ', received_us / 1e6, 'unixepoch') AS created_at
FROM decisions"""

_PRAGMAS = ("busy_timeout=1000", "synchronous=NORMAL", "cache_size=-16384", "wal_autocheckpoint=4000")


class SqliteView:
    """The tables in one file, which is made when it is not there. WAL, `synchronous=NORMAL`.

    A power cut may take the newest rows, and then takes the position with them. Every read opens the file, and
    so sees one that was rebuilt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine("sqlite://", creator=self._connect, poolclass=sa.NullPool)
        with self._naming_faults("opened"), self._engine.begin() as connection:
            _prepare(connection)
        self._writer: sa.Connection | None = None
        self._file = path.stat().st_ino

    def close(self) -> None:
        """Release the file."""
        if self._writer is not None:
            self._writer.close()

    @property
    def position(self) -> ViewPosition:
        """How far the view is."""
        with self._reading() as reader:
            return ViewPosition._make(reader.execute(sa.select(progress)).one())

    def project(self, rows: Rows, log_id: str, since: int, now_us: int) -> None:
        """Store the rows of all records from position `since` on, and move on behind them: both, or neither."""
        with self._writing() as writer:
            at = sa.and_(progress.c.position == since, progress.c.log_id.in_(("", log_id)))
            moved = progress.update().where(at).values(ViewPosition(log_id, rows.end, rows.chain, now_us)._asdict())
            if not writer.execute(moved).rowcount:
                other = writer.scalar(sa.select(progress.c.log_id)) not in ("", log_id)
                raise StorageProblem(
                    f"the view {self.path} belongs to another log; `sentinel views rebuild` rebuilds it"
                    if other
                    else f"another projector has written to {self.path}; run one at a time"
                )
            _insert(writer, decisions, rows.decisions)
            _insert(writer, outcomes, rows.outcomes)
            _take_back(writer, rows.revoked)
            _insert(writer, key_index.key_entries, [(entry,) for entry in key_index.entries_of(rows).tolist()])
            for version, span in rows.models.items():
                _extend(writer, version, *span)
            actions = Counter(map(itemgetter(_DECISION), rows.decisions))
            _count(writer, actions | {"outcomes": len(rows.outcomes), "without_keys": rows.without_keys})

    def search(self, query: DecisionQuery) -> Page:
        """The newest decisions that fit. New rows do not change the pages that a cursor leads to."""
        with self._reading() as reader:
            position = reader.scalars(sa.select(progress.c.position)).one()
            find = _find_by_keys if query.keys else _find
            found = (row for span in search.spans(reader, query) for row in find(reader, query, span))
            return search.page_of(found, query, position)

    def counts(self) -> Counts:
        """How many rows there are."""
        with self._reading() as reader:
            found: Counter[str] = Counter(dict(reader.execute(sa.select(totals)).all()))
        by_action = {str(action): found[action] for action in ACTIONS}
        return Counts(sum(by_action.values()), found["outcomes"], by_action, found["without_keys"])

    def outcomes_about(self, positions: Sequence[int]) -> dict[int, bool]:
        """Decision position -> whether it was fraud, by its newest outcome that counts, for those that have one."""
        counting = outcomes.c.revoked_at.is_(None)
        query = sa.select(outcomes.c.about, outcomes.c.is_fraud).where(counting).order_by(outcomes.c.position)
        with self._reading() as reader:
            found: dict[int, bool] = {}
            for n in range(0, len(positions), _AT_ONCE):
                among = outcomes.c.about.in_(positions[n : n + _AT_ONCE])
                found |= dict(reader.execute(query.where(among)).all())
            return found

    def outcomes(self, after: int, limit: int) -> list[OutcomeRow]:
        """The next outcomes, by position, after this one."""
        query = sa.select(outcomes).where(outcomes.c.position > after).order_by(outcomes.c.position).limit(limit)
        with self._reading() as reader:
            return [OutcomeRow._make(row) for row in reader.execute(query)]

    def prune(self, before: int) -> bool:
        """Delete what is older than this position, some thousands of rows of it; whether more is left to delete."""
        with self._writing() as writer:
            oldest = [writer.scalar(sa.select(sa.func.min(table.c.position))) for table in (decisions, outcomes)]
            end = min(before, min((one for one in oldest if one is not None), default=before) + _PRUNED)
            if any(one is not None and one < end for one in oldest):
                _forget(writer, end)
        return end < before

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._naming_faults("read"), self._engine.connect() as reader:
            yield reader

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """One transaction, all of it or nothing."""
        with self._naming_faults("written"):
            if self.path.stat().st_ino != self._file:
                raise StorageProblem(f"{self.path} was rebuilt; open it again")
            if self._writer is None:
                self._writer = self._engine.connect()
            with self._writer.begin():
                self._writer.exec_driver_sql("BEGIN IMMEDIATE")
                yield self._writer

    @contextlib.contextmanager
    def _naming_faults(self, what: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise StorageProblem(
                f"{self.path} cannot be {what}: {getattr(error, 'orig', None) or error}; free some space and check the "
                f"disk, or rebuild it with `sentinel views rebuild`"
            ) from error


def rebuild(path: Path) -> None:
    """Delete the view and begin anew, while it is in use too: the projector then reads the whole log again."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    SqliteView(path).close()


def _prepare(connection: sa.Connection) -> None:
    """Make the tables in a new file. Raises StorageProblem for one of another version."""
    if _version(connection) == VERSION:
        return
    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    if _version(connection) == 0 and not sa.inspect(connection).get_table_names():
        metadata.create_all(connection)
        connection.exec_driver_sql(_TRANSACTIONS)
        _insert(connection, progress, [("", 0, b"", 0)])
        connection.exec_driver_sql(f"PRAGMA user_version={VERSION}")
    if _version(connection) != VERSION:
        raise StorageProblem("the view is of another version of Sentinel; `sentinel views rebuild` rebuilds it")


def _version(connection: sa.Connection) -> int:
    found: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return found


def _insert(writer: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
    driver = _driver(writer)
    marks = f"({','.join('?' * len(table.columns))})"
    for n in range(0, len(rows), _ROWS):
        some = rows[n : n + _ROWS]
        values = list(chain.from_iterable(some))
        driver.execute(f"INSERT INTO {table.name} VALUES {','.join([marks] * len(some))}", values)  # noqa: S608


def _take_back(writer: sa.Connection, rows: Sequence[RevokedRow]) -> None:
    mark = (
        "UPDATE outcomes SET revoked_at = ? WHERE about = ? AND told_by = ? AND received_us >= ? AND received_us < ? "
        "AND position < ? AND revoked_at IS NULL"
    )
    which = [(one.position, one.about, one.revocation) for one in rows]
    values = [(at, about, of.told_by, of.from_us, of.to_us, of.before) for at, about, of in which]
    _driver(writer).executemany(mark, values)


def _count(writer: sa.Connection, more: dict[str, int]) -> None:
    add = "INSERT INTO totals VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET n = n + excluded.n"
    _driver(writer).executemany(add, more.items())


def _extend(writer: sa.Connection, version: str, first: int, last: int) -> None:
    """A model decided from `first` to `last`, too."""
    near = sa.and_(models.c.model_version == version, models.c.last >= first - _GAP)
    if not writer.execute(models.update().where(near).values(last=last)).rowcount:
        writer.execute(models.insert().values(model_version=version, begin=first, last=last))


def _forget(writer: sa.Connection, end: int) -> None:
    """Delete what is before this position."""
    old = decisions.c.position < end
    by_action = sa.select(decisions.c.decision, sa.func.count()).where(old).group_by(decisions.c.decision)
    gone: dict[str, int] = dict(writer.execute(by_action).all())
    nameless = sa.select(sa.func.count()).where(old, decisions.c.amount.is_(None))
    gone["without_keys"] = writer.scalars(nameless).one()
    gone["outcomes"] = writer.execute(outcomes.delete().where(outcomes.c.position < end)).rowcount
    _count(writer, {what: -n for what, n in gone.items()})
    writer.execute(decisions.delete().where(old))
    writer.execute(models.delete().where(models.c.last < end))
    key_index.forget(_driver(writer), end)


def _find(reader: sa.Connection, query: DecisionQuery, span: search.Span) -> Iterator[Any]:
    return iter(reader.execute(search.fitting(query, search.within(span)).limit(query.limit + 1)))


def _find_by_keys(reader: sa.Connection, query: DecisionQuery, span: search.Span) -> Iterator[Any]:
    rare = search.rare(query)
    for positions in key_index.positions_with(_driver(reader), query.keys, span):
        if positions and rare:
            within = search.within((positions[-1], positions[0] + 1))
            few = set(reader.scalars(sa.select(decisions.c.position).where(within, *rare)))
            positions = [position for position in positions if position in few]
        for n in range(0, len(positions), MOST_ROWS):
            among = decisions.c.position.in_(positions[n : n + MOST_ROWS])
            yield from reader.execute(search.fitting(query, among))


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    """What is done often goes past SQLAlchemy: that costs half."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - it comes from `_connect`
    return driver
