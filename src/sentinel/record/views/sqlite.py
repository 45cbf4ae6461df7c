"""A view in one SQLite file."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from sentinel.errors import StorageProblem
from sentinel.record.views.amount_index import amount_entries
from sentinel.record.views.day_sums import day_sums, field_values, schema_spans
from sentinel.record.views.key_index import Driver, first_entry, key_entries
from sentinel.record.views.rows import Rows
from sentinel.record.views.sql_view import SqlView
from sentinel.record.views.tables import decisions, metadata, progress, reasons, results, rule_hits

FILE = "views.db"
VERSION = 2
_ROWS = 64  # in one statement

_TRANSACTIONS = """
CREATE VIEW transactions AS SELECT transaction_id, (SELECT value FROM json_each(keys) LIMIT 1) AS user_id, amount,
fraud_probability AS risk_score, strftime('%Y-%m-%dT%H:%M:%fZ', received_us / 1e6, 'unixepoch') AS created_at
FROM decisions"""

_PRAGMAS = ("busy_timeout=1000", "synchronous=NORMAL", "cache_size=-16384", "wal_autocheckpoint=4000")


class SqliteView(SqlView):
    """The tables in one file, which is made when it is not there. WAL, `synchronous=NORMAL`.

    A power cut may take the newest rows, and then takes the position with them. Every read opens the file, and
    so sees one that was rebuilt.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
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

    def _driver(self, connection: sa.Connection) -> Driver:
        return _driver(connection)

    def _insert(self, writer: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
        _insert(writer, table, rows)

    def _make_room(self, writer: sa.Connection, rows: Rows) -> None:
        """There is room for everything."""

    def _drop_before(self, writer: sa.Connection, end: int) -> None:
        writer.execute(decisions.delete().where(decisions.c.position < end))
        for table in (key_entries, amount_entries):
            writer.execute(table.delete().where(table.c.entry < first_entry(end)))

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
        # a view that was made before there were any has none
        for later in (reasons, rule_hits, results, day_sums, field_values, schema_spans, amount_entries):
            later.create(connection, checkfirst=True)
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


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    """What is done often goes past SQLAlchemy: that costs half."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - it comes from `_connect`
    return driver
