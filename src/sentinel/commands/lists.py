"""`sentinel lists` and `sentinel rules snooze`: who is on which list, told to the server or into the log."""

import csv
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from sentinel.commands.audited import note_in_log
from sentinel.commands.owner import ask_owner
from sentinel.commands.progress import Stage
from sentinel.commands.tables import schema_of, tables_in
from sentinel.config import Settings
from sentinel.errors import DataProblem, InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import masked_ends, quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.reference_tables.versions import LIST, SNOOZE
from sentinel.events.times import clock_us, instant_us
from sentinel.events.wire import MAX_TEXT
from sentinel.policy.rules.book import Book, BookList
from sentinel.record.applied import HomeDeployment, by_this_user, log_folder
from sentinel.record.entries import TableRows
from sentinel.record.home_log import HomeLog
from sentinel.record.listed import Listing, OnList, on_list, rows_of
from sentinel.record.snapshots import Snapshots
from sentinel.record.table_state import TableState, append_rows

_AT_ONCE = 500  # entries of a request: the server takes them in one turn between its decisions
_COLUMNS = ("value", "reason", "from", "until")


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"since": "from"}):
    """A value that is put on a list, or with `remove` taken off; as the server takes it."""

    value: str
    reason: str = ""
    since: str | None = None
    until: str | None = None
    remove: bool = False


class ListSize(msgspec.Struct, frozen=True, kw_only=True):
    """A list of the book in force, and how much is on it."""

    name: str
    kind: str
    by: str
    values: int
    versions: int


def tell_list(settings: Settings, name: str, entries: Sequence[Entry], stage: Stage) -> int:
    """Put values on a list of the book in force, or take them off; how many came. Durable when this returns.

    Raises InvalidDefinition for a list that there is not, InvalidInput, DeploymentRefused. When it was cut short it may
    be done again: what is told again changes nothing.
    """
    declared = _list(settings, name)
    for begin in range(0, len(entries), _AT_ONCE):
        some = [msgspec.to_builtins(one) for one in entries[begin : begin + _AT_ONCE]]
        if ask_owner(settings, f"/v1/lists/{name}", some) is None:
            _write(settings, (name, LIST), entries[begin:], declared.by, stage)
            break
        stage("entries", min(begin + _AT_ONCE, len(entries)), len(entries))
    return len(entries)


def snooze_rule(settings: Settings, rule: str, by: str, entry: Entry) -> None:
    """Let a rule sleep for one value of a key, or wake it.

    Raises InvalidDefinition, InvalidInput, DeploymentRefused.
    """
    book, schema = _book(settings), schema_of(settings, None)
    if rule not in {one.name for one in book.all_rules}:
        raise InvalidDefinition(f"there is no rule {quoted(rule, 80)} in force")
    if by not in schema.keys:
        raise InvalidDefinition(f"{quoted(by, 80)} is no key of transactions; {', '.join(schema.keys)} are")
    if entry.until is None and not entry.remove:
        raise InvalidDefinition("say when the rule wakes again, with --until")
    asked = {"rule": rule, "by": by} | {
        name: value for name, value in msgspec.to_builtins(entry).items() if name != "from"
    }
    if ask_owner(settings, "/v1/rules/snooze", asked) is None:
        _write(settings, (rule, SNOOZE), [entry], by, lambda *_: None, prefix=f"{by}=")


def _write(
    settings: Settings, which: tuple[str, str], entries: Sequence[Entry], by: str, stage: Stage, prefix: str = ""
) -> None:
    """The same into the log, while no server owns it."""
    reader, user = TransactionReader(schema_of(settings, None), settings.secrets()), by_this_user("lists")
    with closing(HomeLog.open(log_folder(settings.home), clock_us())) as log:
        tables = TableState.of(log, Snapshots(settings.snapshots))
        told_of = {"list": which[0], "entries": len(entries), "removed": sum(one.remove for one in entries)}
        note_in_log(log, "lists", which[0], {}, told_of)
        for begin in range(0, len(entries), _AT_ONCE):
            told = [
                Listing(
                    prefix + key, masked_ends(one.reason, 500), user.who, _moment(one.since),
                    _moment(one.until), one.remove,
                )
                for one in entries[begin : begin + _AT_ONCE]
                for key in reader.texts(by, one.value)  # also as it was before the hash key was changed
            ]  # fmt: skip
            now_us = log.clock(clock_us())
            rows = rows_of(tables.tables.of(*which), told, now_us)
            if rows:
                entry = TableRows.of(*which, rows, user.who)
                append_rows(log, entry, now_us)
                tables.take(entry, now_us)
            stage("entries", min(begin + _AT_ONCE, len(entries)), len(entries))


def read_entries(path: Path, reason: str) -> list[Entry]:
    """The entries of a CSV file with a column `value`, and `reason`, `from` and `until` if there are such.

    Raises DataProblem, which names the line, for what cannot be used.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            unknown = [name for name in names if name not in _COLUMNS]
            if "value" not in names or unknown:
                raise DataProblem(
                    f"{path} needs a column value, and may have {', '.join(_COLUMNS[1:])}; it has {names}"
                )
            return [_entry(row, reason, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataProblem(f"{path} cannot be read as CSV: {error}") from None


def _entry(row: dict[str, Any], reason: str, where: str) -> Entry:
    value = (row.get("value") or "").strip()
    if not 1 <= len(value) <= MAX_TEXT or None in row:
        raise DataProblem(f"{where}: expected a value of 1 to {MAX_TEXT} characters, and no more columns than the head")
    try:
        for name in ("from", "until"):
            _moment(row.get(name) or None)
    except InvalidInput as error:
        raise DataProblem(f"{where}: {error}") from None
    return Entry(
        value=value, reason=row.get("reason") or reason, since=row.get("from") or None, until=row.get("until") or None
    )


def sizes_of(settings: Settings) -> list[ListSize]:
    """The lists of the book in force, and how much is on each."""
    tables = tables_in(settings)
    return [
        ListSize(name=one.name, kind=one.kind, by=one.by, values=len(found), versions=found.n_versions)
        for one in _book(settings).lists
        for found in (tables.of(one.name, LIST),)
    ]


def value_on_list(settings: Settings, name: str, value: str, as_of: str | None) -> OnList:
    """Whether a value is on a list, now or at a moment, and when it was. Raises InvalidDefinition, InvalidInput."""
    declared, time_us = _list(settings, name), clock_us() if as_of is None else instant_us(as_of)
    keys = TransactionReader(schema_of(settings, None), settings.secrets()).texts(declared.by, value)
    return on_list(tables_in(settings).of(name, LIST), name, keys, keys[0], time_us)


def _moment(given: str | None) -> int | None:
    return None if given is None else instant_us(given)


def _book(settings: Settings) -> Book:
    rules = HomeDeployment(settings.home).read().rules
    return Book() if rules is None else rules.book


def _list(settings: Settings, name: str) -> BookList:
    book = _book(settings)
    found = book.list_of(name)
    if found is None:
        known = ", ".join(one.name for one in book.lists) or "none"
        raise InvalidDefinition(f"the book in force has no list {quoted(name, 80)}; it has {known}")
    return found
