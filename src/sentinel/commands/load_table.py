"""`sentinel tables load`: rows go to the server that owns the log, or into the log while nobody owns it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from sentinel.commands.audited import note_in_log
from sentinel.commands.owner import ask_owner
from sentinel.commands.tables import schema_of, tables_in
from sentinel.config import Settings
from sentinel.errors import DataProblem
from sentinel.events.columns import OPERATOR
from sentinel.events.reading import Reading
from sentinel.events.reference_tables.file_content import TableFile
from sentinel.events.reference_tables.files import read_table
from sentinel.events.reference_tables.rows import told_row
from sentinel.events.reference_tables.versions import Row, TableVersions, Told
from sentinel.events.schema import Schema
from sentinel.events.times import EARLIEST_US, clock_us, instant_us, iso
from sentinel.record.applied import log_folder
from sentinel.record.entries import TableRows
from sentinel.record.file_log import FileLog
from sentinel.record.home_log import HomeLog
from sentinel.record.table_state import append_rows

_AT_ONCE = 1_000  # rows of a record
_A_REQUEST, _BYTES_A_REQUEST = 250, 512 << 10  # rows, few: the server takes them in one turn between its decisions
_PATIENCE_S = 60.0


class Loaded(msgspec.Struct, frozen=True):
    """What a file did to a table: `rows` usable ones, `changed` of them something, and `removed` rows it lacks.

    `repeated` rows had the key and moment of a later one. `skipped` counts what cannot be used, by reason.
    """

    table: str
    valid_from: str
    rows: int
    changed: int
    removed: int
    repeated: int
    skipped: dict[str, int]
    examples: dict[str, str]


def load_table(
    settings: Settings, name: str, path: Path, reading: Reading, *, valid_from: str | None, replaces: bool
) -> Loaded:
    """Have the rows of a file in a table of the champion's detector; durable when this returns.

    Rows without a moment of their own hold from `valid_from` on; without one from the beginning of time where the table
    is empty, else from now on. Of such a file only what differs from what is in force then is told. With `replaces` it
    is the whole table: rows that it lacks are removed. Raises SentinelError; when it was cut short it may be done
    again.
    """
    schema = schema_of(settings, name)
    kind = schema.tables[name].kind
    versions = tables_in(settings).of(name, kind)
    now_us = clock_us()
    moment_us = (now_us if len(versions) else EARLIEST_US) if valid_from is None else instant_us(valid_from)
    file = read_table(path, schema, name, reading, secrets=settings.secrets(), valid_from_us=moment_us)
    if file.is_dated and (replaces or valid_from is not None):
        raise DataProblem(f"{path} has the column valid_from; leave out --valid-from and --replace")
    told = [Told(*row) for row in file.rows]
    gone: list[Told] = []
    if not file.is_dated:
        told = [one for one in told if versions.row_at(one.key, moment_us) != one.values]
        stays = {row.key for row in file.rows}
        gone = [Told(key, moment_us, b"") for key in versions.in_force(moment_us) if replaces and key not in stays]
    changed = list(_changes(versions, schema, name, gone + told, now_us))
    _tell(settings, schema, name, changed)
    return Loaded(
        table=name, valid_from="" if file.is_dated else iso(moment_us), rows=len(file.rows),
        changed=sum(map(len, changed)) - len(gone), removed=len(gone), repeated=file.repeated, skipped=file.skipped,
        examples=file.examples,
    )  # fmt: skip


def put_tables(home: Path, schema: Schema, files: Mapping[str, TableFile]) -> None:
    """Put the rows of files into the log of a home folder that no server owns. Raises StorageProblem."""
    if not files:
        return
    with closing(HomeLog.open(log_folder(home), clock_us())) as log:
        for name, file in files.items():
            rows = [file.rows[begin : begin + _AT_ONCE] for begin in range(0, len(file.rows), _AT_ONCE)]
            _append(log, schema, name, rows)


def _changes(
    versions: TableVersions, schema: Schema, name: str, told: Sequence[Told], now_us: int
) -> Iterator[list[Row]]:
    """What of these changes something, a few at a time. Raises InvalidInput for what the server would refuse."""
    for begin in range(0, len(told), _AT_ONCE):
        draft = versions.draft(told[begin : begin + _AT_ONCE], now_us)
        versions.check(draft, name, schema.tables[name])
        versions.put(draft.rows, now_us)
        if draft.rows:
            yield draft.rows


def _tell(settings: Settings, schema: Schema, name: str, changed: Sequence[Sequence[Row]]) -> None:
    """Have the rows recorded by whoever owns the log."""
    for body in _bodies(schema, name, changed):
        if ask_owner(settings, f"/v1/tables/{name}", body, _PATIENCE_S) is None:
            with closing(HomeLog.open(log_folder(settings.home), clock_us())) as log:
                rows = sum(map(len, changed))
                asked = msgspec.json.encode({"table": name, "rows": rows}).decode()
                note_in_log(log, "tables load", asked, {}, {"table": name, "changed": rows})
                _append(log, schema, name, changed)
            return


def _bodies(schema: Schema, name: str, changed: Sequence[Sequence[Row]]) -> Iterator[list[dict[str, Any]]]:
    """The rows as requests."""
    for rows in changed:
        body: list[dict[str, Any]] = []
        nbytes = 0
        for row in rows:
            size = len(row.key) + len(row.values) + 100
            if body and (nbytes + size > _BYTES_A_REQUEST or len(body) == _A_REQUEST):
                yield body
                body, nbytes = [], 0
            body.append(told_row(schema, name, row))
            nbytes += size
        yield body


def _append(log: FileLog, schema: Schema, name: str, changed: Sequence[Sequence[Row]]) -> None:
    for rows in changed:
        append_rows(log, TableRows.of(name, schema.tables[name].kind, rows, OPERATOR), log.clock(clock_us()))
