"""A database of what people write: a file in the home folder, or a schema of the views' PostgreSQL database."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.record.private import FILE_MODE, FOLDER_MODE
from sentinel.record.views.place import schema_named

_PRAGMAS = ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON")
_TIMEOUTS = "-c statement_timeout=30000 -c lock_timeout=10000"


class Contents(NamedTuple):
    """What a database holds, and where it is.

    `holds` is what people are told that it has. `file` is its name in a home folder, `schema` what its schema in
    PostgreSQL is called instead of `sentinel`. `facts` is a table of one row with the `version` of the tables of
    `metadata`; whoever writes holds it.
    """

    holds: str
    file: str
    schema: str
    metadata: sa.MetaData
    facts: sa.Table
    version: int


class Database:
    """Connections to the tables, which are made when they are not there. For any thread, and any number of processes.

    Unlike a view this cannot be made again from the log: every commit is durable. Raises InvalidDefinition for an
    address that is none, StorageProblem when the database is away, damaged, or of another version.
    """

    def __init__(self, contents: Contents, home: Path, url: str | None = None) -> None:
        self.contents = contents
        if url is None:
            self.name = str(home / contents.file)
            self._engine = _of_file(home / contents.file, contents.holds)
        else:
            schema = schema_named(home).replace("sentinel", contents.schema, 1)
            self._engine = _of_postgres(url, schema, contents.holds)
            self.name = f"{schema} in {self._engine.url.render_as_string(hide_password=True)}"
        with self._naming_faults(), self._engine.begin() as connection:
            if url is None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7265646563)")  # two may start at once
                connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            self._prepare(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with."""
        with self._naming_faults(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, all of it or nothing; no other one writes meanwhile."""
        with self._naming_faults(), self._engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"LOCK TABLE {self.contents.facts.name} IN SHARE ROW EXCLUSIVE MODE")
            yield connection

    def scrub(self) -> None:
        """Have what was deleted gone from the files as well. In PostgreSQL its vacuum does that in time.

        Raises StorageProblem where somebody reads them for so long that it cannot be done now.
        """
        with self._naming_faults(), self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                is_busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
                if is_busy:
                    raise StorageProblem(
                        f"{self.name} is being read, so what was deleted is still in its files; erase again in a minute"
                    )

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    def _prepare(self, connection: sa.Connection) -> None:
        facts, version = self.contents.facts, self.contents.version
        self.contents.metadata.create_all(connection)
        found = connection.scalar(sa.select(facts.c.version))
        if found is None:
            connection.execute(facts.insert().values(version=version))
        elif found != version:
            raise StorageProblem(
                f"{self.name} is of another version of Sentinel ({found}, this one writes {version}); run that one"
            )

    @contextlib.contextmanager
    def _naming_faults(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StorageProblem(
                f"{self.name}, where {self.contents.holds} are kept, cannot be used: {cause}; see that the database "
                "runs and that its disk has room. It cannot be made again: restore it from a backup if it is damaged"
            ) from error


def _of_file(path: Path, holds: str) -> sa.Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    try:
        path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
    except OSError as error:
        raise StorageProblem(f"{path}, where {holds} are kept, cannot be made: {error.strerror or error}") from error
    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool, pool_size=4, max_overflow=16)


def _of_postgres(url: str, schema: str, holds: str) -> sa.Engine:
    connect: dict[str, Any] = {"options": f'-csearch_path="{schema}" {_TIMEOUTS}', "connect_timeout": 5}
    try:
        address = sa.make_url(url).set(drivername="postgresql+psycopg")
        return sa.create_engine(address, pool_size=4, max_overflow=8, pool_pre_ping=True, connect_args=connect)
    except SQLAlchemyError:
        raise InvalidDefinition("SENTINEL_DATABASE_URL: write postgresql://user:password@host:5432/database") from None
    except ModuleNotFoundError:
        raise InvalidDefinition(
            f"{holds} in PostgreSQL need the driver: pip install 'sentinel-fraud[postgres]'"
        ) from None
