"""A history with what its tables say, which are files beside it."""

import dataclasses

from sentinel.errors import DataProblem
from sentinel.events.files import History
from sentinel.events.reading import Reading
from sentinel.events.reference_tables.file_content import TableFile
from sentinel.events.reference_tables.files import read_table, with_tables
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets


def with_tables_read(history: History, schema: Schema, reading: Reading, secrets: Secrets) -> History:
    """The history looked up in the files of its tables; rows that cannot be used are counted as its own are."""
    unknown = [name for name in reading.tables if name not in schema.tables]
    if unknown:
        raise DataProblem(
            f"--table {unknown[0]}: the detector has no such table; it has {', '.join(schema.tables) or 'none'}"
        )
    files: dict[str, TableFile | None] = {}
    skipped: dict[str, int] = {}
    for name, path in reading.tables.items():
        file = None if path is None else read_table(path, schema, name, reading.of_tables(), secrets=secrets)
        files[name] = file
        skipped |= {f"table {name}: {reason}": n for reason, n in (file.skipped if file else {}).items()}
    return with_tables(dataclasses.replace(history, skipped=history.skipped | skipped), schema, files)
