"""A view in a schema of a PostgreSQL database. Each month of decisions is a table, and goes as a whole."""

import contextlib
import importlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.record.views.amount_index import amount_entries
from sentinel.record.views.key_index import Driver, first_entry, key_entries
from sentinel.record.views.rows import Rows
from sentinel.record.views.sql_view import SqlView, T, again
from sentinel.record.views.tables import DEGRADED, NOT_APPROVED, decisions
from sentinel.retrying import retried

_CONNECT_S, _AGAIN_WITHIN_S = 5, 3.0
_OPTIONS = {"statement_timeout": 60_000, "lock_timeout": 10_000, "synchronous_commit": "off"}
"""Milliseconds; and what a crash of the database takes is projected again, as it takes the position with it."""

_DIALECT = "postgresql+psycopg"
_RECEIVED = decisions.c.keys().index("received_us")
_AWAY = ("08", "57P")
"""How the codes begin of a connection that fails, and of a server that starts or ends."""

_MONTHLY = re.compile(r"decisions_(\d{4})_(\d{2})")

_INDEXES = (
    "CREATE UNIQUE INDEX {name}_position ON {name} (position)",
    "CREATE INDEX {name}_id ON {name} (transaction_id)",
    f"CREATE INDEX {{name}}_not_approved ON {{name}} (decision, position) WHERE {NOT_APPROVED}",
    f"CREATE INDEX {{name}}_degraded ON {{name}} (position) WHERE {DEGRADED}",
)


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
        settings = " ".join(f"-c{name}={value}" for name, value in {"search_path": f'"{schema}"', **_OPTIONS}.items())
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

    def prepare(self) -> list[str]:
        """Bring the schema to the newest version, from none as well; the versions that were run now.

        Raises StorageProblem for the schema of a newer Sentinel.
        """
        return retried(self._prepare, ConnectionFailed, time.monotonic() + _AGAIN_WITHIN_S)

    def _prepare(self) -> list[str]:
        with self._preparing, self.naming_faults("opened"):
            if self._is_prepared:
                return []
            with self.engine.begin() as connection:
                done: list[str] = schema_versions().upgrade(connection, self.schema)
            self._is_prepared = True
            return done

    def exercise(self) -> tuple[str, float]:
        """Write a row of a temporary table, and read it back; the server's version, and the Unix time that it has."""
        with self.naming_faults("written"), self.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TEMP TABLE exercise (at double precision) ON COMMIT DROP")
            connection.exec_driver_sql("INSERT INTO exercise VALUES (extract(epoch FROM clock_timestamp()))")
            version = connection.exec_driver_sql("SHOW server_version").scalar_one()
            return version, connection.exec_driver_sql("SELECT at FROM exercise").scalar_one()

    @property
    def newest_version(self) -> str:
        """The version of the schema that this Sentinel writes."""
        return str(schema_versions().newest())

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
            cause = getattr(error, "orig", None) or error
            state = getattr(cause, "sqlstate", None)
            is_away = isinstance(cause, dbapi.OperationalError | dbapi.InterfaceError | OSError) and (
                state is None or state.startswith(_AWAY)
            )
            if not is_away:
                self._is_prepared = False  # another version of Sentinel may have changed the tables
            raise (ConnectionFailed if is_away else StorageProblem)(
                f"the view {self.name} cannot be {what}: {' '.join(str(cause).split())}; {_advice(state, str(cause))}"
            ) from error


class ConnectionFailed(StorageProblem):
    """There is no connection to the database, or it was lost: at once it may be there again."""


def _advice(state: str | None, said: str) -> str:
    """What to do about a fault, by PostgreSQL's code of it, or by its words where there was no answer."""
    if state in ("28P01", "28000") or "password" in said:
        return "look at the user and the password in SENTINEL_DATABASE_URL, and at pg_hba.conf"
    if state == "3D000" or ("does not exist" in said and "database" in said):
        return "make the database, or name another one in SENTINEL_DATABASE_URL"
    if state == "42501":
        return "give its user the right to make schemas: GRANT CREATE ON DATABASE"
    if "SSL" in said or "certificate" in said:
        return "look at sslmode and sslrootcert in SENTINEL_DATABASE_URL, and at the server's ssl setting"
    if state is None or state.startswith(_AWAY):
        return "see that the database runs and can be reached"
    return "look after the database, or rebuild the view with `sentinel views rebuild`"


class PostgresView(SqlView):
    """The tables in a schema, which is made when it is not there. Several projectors may write to it in turn."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.name)
        self._database = database
        database.prepare()

    def close(self) -> None:
        """Connections stay with the database."""

    def _tried(self, call: Callable[[], T]) -> T:
        return retried(call, ConnectionFailed, time.monotonic() + _AGAIN_WITHIN_S)

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
        for table in (key_entries, amount_entries):
            writer.execute(table.delete().where(table.c.entry < first_entry(end)))
        for name in _months_in(writer)[:-1]:
            if writer.exec_driver_sql(f"SELECT NOT EXISTS (SELECT 1 FROM {name})").scalar_one():  # noqa: S608
                writer.exec_driver_sql(f"DROP TABLE {name}")

    @again
    def repeated_ids(self, limit: int) -> dict[str, int]:
        """Transaction ids that were decided more than once, and how often: no index can refuse them over all months."""
        times = sa.func.count().label("times")
        query = sa.select(decisions.c.transaction_id, times).group_by(decisions.c.transaction_id).having(times > 1)
        with self._reading() as reader:
            return dict(reader.execute(query.order_by(decisions.c.transaction_id).limit(limit)).all())


def schema_versions() -> ModuleType:
    """The module that changes schemas; its library is loaded by who has a view in PostgreSQL alone."""
    try:
        return importlib.import_module("sentinel.record.views.schema_versions")
    except ModuleNotFoundError as error:
        raise InvalidDefinition(
            f"a view in PostgreSQL needs {error.name}: pip install 'sentinel-fraud[postgres]'"
        ) from None


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
