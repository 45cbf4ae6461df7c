"""`sentinel lists` and `sentinel rules snooze`: who is on which list, told to the server or into the log."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from sentinel.commands.audited import note_in_log
from sentinel.commands.owner import ask_owner
from sentinel.commands.progress import Stage
from sentinel.commands.tables import schema_of, tables_in
from sentinel.config import Settings
from sentinel.errors import DataProblem, DeploymentRefused, InvalidDefinition
from sentinel.events.card_numbers import masked_ends, quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.reference_tables.versions import LIST, SNOOZE
from sentinel.events.times import clock_us, instant_us
from sentinel.policy.deployment import RulesInForce
from sentinel.record.applied import HomeDeployment, by_this_user, log_folder
from sentinel.record.entries import TableRows
from sentinel.record.home_log import HomeLog
from sentinel.record.list_files import Entry, entries_in
from sentinel.record.listed import Listing, OnList, declared, on_list, rows_of
from sentinel.record.snapshots import Snapshots
from sentinel.record.table_state import TableState, append_rows

_AT_ONCE = 500  # entries of a request: the server takes them in one turn between its decisions


class ListSize(msgspec.Struct, frozen=True, kw_only=True):
    """A list of the book in force, and how much is on it."""

    name: str
    kind: str
    by: str
    values: int
    versions: int


def tell_list(settings: Settings, name: str, entries: Sequence[Entry], stage: Stage) -> int:
    """Put values on a list of the book in force, or take them off; how many came. Durable when this returns.

    Raises NotFound for a list that there is not, InvalidInput, DeploymentRefused. When it was cut short it may
    be done again: what is told again changes nothing.
    """
    by = declared(_rules(settings), name).by
    for begin in range(0, len(entries), _AT_ONCE):
        some = [msgspec.to_builtins(one) for one in entries[begin : begin + _AT_ONCE]]
        if ask_owner(settings, f"/v1/lists/{name}", some) is None:
            _write(settings, (name, LIST), entries[begin:], by, stage)
            break
        stage("entries", min(begin + _AT_ONCE, len(entries)), len(entries))
    return len(entries)


def draft_entries(settings: Settings, name: str, entries: Sequence[Entry], note: str) -> int:
    """Write entries down as a draft with the book in force, which somebody applies; its number.

    Raises NotFound for a list that there is not, DeploymentRefused, also while no server runs.
    """
    rules = _rules(settings)
    declared(rules, name)
    assert rules is not None  # noqa: S101 - it has the list
    listed = {name: [msgspec.to_builtins(one) for one in entries]}
    answer = ask_owner(
        settings, "/v1/rules/drafts", {"book": msgspec.to_builtins(rules.book), "note": note, "listed": listed}
    )
    if answer is None:
        raise DeploymentRefused("entries are drafted while a server runs; start `sentinel serve`")
    return int(answer["draft"])


def snooze_rule(settings: Settings, rule: str, by: str, entry: Entry) -> None:
    """Let a rule sleep for one value of a key, or wake it.

    Raises InvalidDefinition, InvalidInput, DeploymentRefused.
    """
    rules, schema = _rules(settings), schema_of(settings, None)
    if rules is None or rule not in {one.name for one in rules.book.all_rules}:
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
    if len(entries) > 1 and settings.rules_need_two:
        raise DeploymentRefused(
            "several entries at once need two people (SENTINEL_RULES_NEED_TWO): draft them with --draft while a "
            "server runs"
        )
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
    """The entries of a CSV file, as `record.list_files` reads it. Raises DataProblem, which names the lines."""
    try:
        return entries_in(path.read_text(encoding="utf-8-sig"), str(path), reason)
    except (OSError, UnicodeDecodeError) as error:
        raise DataProblem(f"{path} cannot be read as CSV: {error}") from None


def sizes_of(settings: Settings) -> list[ListSize]:
    """The lists of the book in force, and how much is on each."""
    tables, rules = tables_in(settings), _rules(settings)
    return [
        ListSize(name=one.name, kind=one.kind, by=one.by, values=len(found), versions=found.n_versions)
        for one in (rules.book.lists if rules else ())
        for found in (tables.of(one.name, LIST),)
    ]


def value_on_list(settings: Settings, name: str, value: str, as_of: str | None) -> OnList:
    """Whether a value is on a list, now or at a moment, and when it was. Raises NotFound, InvalidInput."""
    by, time_us = declared(_rules(settings), name).by, clock_us() if as_of is None else instant_us(as_of)
    keys = TransactionReader(schema_of(settings, None), settings.secrets()).texts(by, value)
    return on_list(tables_in(settings).of(name, LIST), name, keys, keys[0], time_us)


def _moment(given: str | None) -> int | None:
    return None if given is None else instant_us(given)


def _rules(settings: Settings) -> RulesInForce | None:
    return HomeDeployment(settings.home).read().rules
