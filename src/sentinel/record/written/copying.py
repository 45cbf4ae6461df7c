"""A database of what people write as a file, and back: a backup has the same file whichever database it was."""

import contextlib
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from sentinel.errors import StorageProblem
from sentinel.record.written.database import Database

_AT_ONCE = 1_000


def copy_rows(database: Database, target: Path) -> None:
    """All rows of a database in PostgreSQL, as of one moment, as a SQLite file of the same tables.

    Raises StorageProblem.
    """
    metadata = database.contents.metadata
    engine = sa.create_engine(f"sqlite:///{target}")
    with contextlib.closing(sqlite3.connect(target)):  # makes the file under the umask of this process
        pass
    try:
        with database.reading() as connection, engine.begin() as writer:
            reader = connection.execution_options(isolation_level="REPEATABLE READ")
            metadata.create_all(writer)
            for table in metadata.sorted_tables:
                _copy(reader, writer, table)
    finally:
        engine.dispose()


def fill(database: Database, source: Path) -> None:
    """Put the rows of such a file into a database that has none, all of them or nothing. Raises StorageProblem."""
    contents = database.contents
    engine = sa.create_engine(f"sqlite:///{source}")
    try:
        with engine.connect() as reader, database.writing() as writer:
            there = set(sa.inspect(reader).get_table_names())
            version = reader.scalar(sa.select(contents.facts.c.version))
            if version != contents.version:
                raise StorageProblem(
                    f"{source.name} is of another version of Sentinel ({version}, this one writes {contents.version}); "
                    "run that one"
                )
            tables = [one for one in contents.metadata.sorted_tables if one.name in there and one is not contents.facts]
            for table in tables:
                if writer.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
                    raise StorageProblem(
                        f"{database.name} has {contents.holds} already; name another database, or drop that schema"
                    )
            for table in tables:
                _copy(reader, writer, table)
                _go_on_counting(writer, table)
    finally:
        engine.dispose()


def _copy(reader: sa.Connection, writer: sa.Connection, table: sa.Table) -> None:
    for rows in reader.execute(sa.select(table)).mappings().partitions(_AT_ONCE):
        writer.execute(table.insert(), [dict(row) for row in rows])


def _go_on_counting(writer: sa.Connection, table: sa.Table) -> None:
    """Have PostgreSQL number further rows behind those that were put in with their numbers."""
    column = table.autoincrement_column
    if column is None or writer.dialect.name != "postgresql":
        return
    newest = writer.scalar(sa.select(sa.func.max(column)))
    if newest is not None:
        sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
        writer.execute(sa.select(sa.func.setval(sequence, newest)))
