"""A view in a schema of a PostgreSQL database. Each month of decisions is a table, and goes as a whole."""

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.record.views.key_index import Driver, first_entry, key_entries
from sentinel.record.views.rows import Rows
from sentinel.record.views.sql_view import SqlView
from sentinel.record.views.tables import DEGRADED, NOT_APPROVED, decisions, metadata, progress, reasons

VERSION = 1
_CONNECT_S, _STATEMENT_MS, _LOCK_MS = 5, 60_000, 10_000
_DIALECT = "postgresql+psycopg"
_RECEIVED = decisions.c.keys().index("received_us")
_MONTHLY = re.compile(r"decisions_(\d{4})_(\d{2})")

_DECISIONS = """
CREATE TABLE decisions (
  position bigint NOT NULL, transaction_id text NOT NULL, received_us bigint NOT NULL, amount double precision,
  decision text NOT NULL, fraud_probability double precision NOT NULL, model_version text NOT NULL, degraded text,
  late boolean NOT NULL, variant text, experiment text, latency_us bigint NOT NULL, keys text NOT NULL,
  content text NOT NULL
) PARTITION BY RANGE (received_us)"""

_INDEXES = (
    "CREATE UNIQUE INDEX {name}_position ON {name} (position)",
    "CREATE INDEX {name}_id ON {name} (transaction_id)",
    f"CREATE INDEX {{name}}_not_approved ON {{name}} (decision, position) WHERE {NOT_APPROVED}",
    f"CREATE INDEX {{name}}_degraded ON {{name}} (position) WHERE {DEGRADED}",
)

_TRANSACTIONS = """
CREATE VIEW transactions AS SELECT transaction_id, (SELECT value FROM json_each_text(keys::json) LIMIT 1) AS user_id,
amount, fraud_probability AS risk_score, to_timestamp(received_us / 1e6) AS created_at FROM decisions"""


class Database:
    """A schema of a PostgreSQL database, as `postgresql://user:password@host:5432/database` says where it is.

    Connections are kept and used again. Raises InvalidDefinition for an address that is none, or without the driver.
    """

    def __init__(self, url: str, schema: str) -> None:
        try:
            address = sa.make_url(url)
        except SQLAlchemyError:
            raise InvalidDefinition(
                "SENTINEL_DATABASE_URL: write postgresql://user:password@host:5432/database"
            ) from None
        if address.get_backend_name() != "postgresql":
            raise InvalidDefinition(
                f"SENTINEL_DATABASE_URL: {address.get_backend_name()} is no database that a view can be in; "
                "write postgresql://user:password@host:5432/database"
            )
        self.schema = schema
        self.name = f"{schema} in {address.render_as_string(hide_password=True)}"
        settings = f'-csearch_path="{schema}" -cstatement_timeout={_STATEMENT_MS} -clock_timeout={_LOCK_MS}'
        try:
            self.engine = sa.create_engine(
                address.set(drivername=_DIALECT), pool_size=4, max_overflow=16, pool_pre_ping=True,
                connect_args={"options": settings, "connect_timeout": _CONNECT_S},
            )  # fmt: skip
        except ModuleNotFoundError:
            raise InvalidDefinition(
                "a view in PostgreSQL needs the driver: pip install 'sentinel-fraud[postgres]'"
            ) from None
        self._preparing, self._is_prepared = threading.Lock(), False

    def prepare(self) -> None:
        """Make the schema and its tables where they are not there yet. Raises StorageProblem for another version."""
        with self._preparing, self.naming_faults("opened"):
            if not self._is_prepared:
                with self.engine.begin() as connection:
                    _prepare(connection, self.schema)
                self._is_prepared = True

    def drop(self) -> None:
        """Delete the schema with all that is in it."""
        with self._preparing, self.naming_faults("deleted"), self.engine.begin() as connection:
            connection.exec_driver_sql(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE')
            self._is_prepared = False

    @contextlib.contextmanager
    def naming_faults(self, what: str) -> Iterator[None]:
        """Whatever the database or the way there does becomes a StorageProblem that names it."""
        dbapi: Any = self.engine.dialect.dbapi
        try:
            yield
        except (SQLAlchemyError, dbapi.Error, OSError) as error:
            said = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StorageProblem(
                f"the view {self.name} cannot be {what}: {said}; look after the database, or rebuild the view with "
                "`sentinel views rebuild`"
            ) from error


class PostgresView(SqlView):
    """The tables in a schema, which is made when it is not there. Several projectors may write to it in turn."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.name)
        self._database = database
        database.prepare()

    def close(self) -> None:
        """Connections stay with the database."""

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._database.naming_faults("read"), self._database.engine.connect() as reader:
            yield reader

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._database.naming_faults("written"), self._database.engine.begin() as writer:
            yield writer

    def _driver(self, connection: sa.Connection) -> Driver:
        return _Driver(connection.connection.driver_connection)

    def _insert(self, writer: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        driver: Any = writer.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} FROM STDIN") as copy:
            for row in rows:
                copy.write_row([_storable(value) for value in row])

    def _make_room(self, writer: sa.Connection, rows: Rows) -> None:
        """A table for each month of these decisions."""
        for month in sorted({_month_of(us) for us in {row[_RECEIVED] for row in rows.decisions}}):
            _make_month(writer, *month)

    def _drop_before(self, writer: sa.Connection, end: int) -> None:
        writer.execute(decisions.delete().where(decisions.c.position < end))
        writer.execute(key_entries.delete().where(key_entries.c.entry < first_entry(end)))
        for name in _months_in(writer)[:-1]:
            if writer.exec_driver_sql(f"SELECT NOT EXISTS (SELECT 1 FROM {name})").scalar_one():  # noqa: S608
                writer.exec_driver_sql(f"DROP TABLE {name}")

    def repeated_ids(self, limit: int) -> dict[str, int]:
        """Transaction ids that were decided more than once, and how often: no index can refuse them over all months."""
        times = sa.func.count().label("times")
        query = sa.select(decisions.c.transaction_id, times).group_by(decisions.c.transaction_id).having(times > 1)
        with self._reading() as reader:
            return dict(reader.execute(query.order_by(decisions.c.transaction_id).limit(limit)).all())


class _Driver:
    """A connection of psycopg that takes `?` for values, as SQLite's does."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Any:
        """A cursor with the rows."""
        return self._connection.execute(statement.replace("?", "%s"), values)

    def executemany(self, statement: str, values: Iterable[Any], /) -> Any:
        """The same for many values."""
        cursor = self._connection.cursor()
        cursor.executemany(statement.replace("?", "%s"), list(values))
        return cursor


def _prepare(connection: sa.Connection, schema: str) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(schema))))
    connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    inspector = sa.inspect(connection)
    if not inspector.get_table_names(schema):
        connection.exec_driver_sql(_DECISIONS)
        metadata.create_all(connection, [table for table in metadata.sorted_tables if table is not decisions])
        connection.exec_driver_sql(_TRANSACTIONS)
        connection.execute(progress.insert().values(log_id="", position=0, chain=b"", projected_at_us=0))
        connection.exec_driver_sql("CREATE TABLE version (version integer NOT NULL)")
        connection.exec_driver_sql("INSERT INTO version VALUES (%s)", (VERSION,))
    elif connection.exec_driver_sql("SELECT version FROM version").scalar_one() != VERSION:
        raise StorageProblem(
            f"the view {schema} is of another version of Sentinel; `sentinel views rebuild` rebuilds it"
        )
    else:
        reasons.create(connection, checkfirst=True)  # a log that was read before there were any has none


def _storable(value: Any) -> Any:
    """The value; a character that PostgreSQL's texts cannot have is replaced."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) and "\x00" in value else value


def _month_of(us: int) -> tuple[int, int]:
    at = datetime.fromtimestamp(us // 1_000_000, UTC)
    return at.year, at.month


def _next(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)


def _make_month(writer: sa.Connection, year: int, month: int) -> None:
    name = f"decisions_{year:04}_{month:02}"
    if writer.exec_driver_sql("SELECT to_regclass(%s) IS NOT NULL", (name,)).scalar_one():
        return
    begin, end = (
        int(datetime(*one, 1, tzinfo=UTC).timestamp()) * 1_000_000 for one in ((year, month), _next(year, month))
    )
    writer.exec_driver_sql(f"CREATE TABLE {name} PARTITION OF decisions FOR VALUES FROM ({begin}) TO ({end})")
    for index in _INDEXES:
        writer.exec_driver_sql(index.format(name=name))


def _months_in(writer: sa.Connection) -> list[str]:
    """The tables of months, the oldest first."""
    found = writer.exec_driver_sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'decisions'::regclass"
    )
    return sorted(name for (name,) in found if _MONTHLY.fullmatch(name))
