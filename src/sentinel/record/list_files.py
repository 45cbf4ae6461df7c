"""Files of lists: CSV with a column `value`, and `reason`, `from` and `until` where one likes."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import msgspec

from sentinel.errors import DataProblem, InvalidInput
from sentinel.events.times import instant_us
from sentinel.events.wire import MAX_TEXT

MOST_FAULTS = 20
_COLUMNS = ("value", "reason", "from", "until")


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"since": "from"}):
    """A value that is put on a list, or with `remove` taken off; as the server takes it."""

    value: str
    reason: str = ""
    since: str | None = None
    until: str | None = None
    remove: bool = False


def entries_in(text: str, where: str, reason: str) -> list[Entry]:
    """The entries of such a text; `reason` for lines without one.

    Raises DataProblem, which has a sentence for each of the first 20 lines that cannot be used.
    """
    found, faults = [], []
    for line, one in _entries(text, where, reason):
        if isinstance(one, Entry):
            found.append(one)
        else:
            faults.append(f"{where}, line {line}: {one}")
            if len(faults) == MOST_FAULTS:
                faults.append("and what comes after these was not looked at")
                break
    if faults:
        raise DataProblem("\n".join(faults))
    return found


def _entries(text: str, where: str, reason: str) -> Iterator[tuple[int, Entry | str]]:
    """By line, its entry, or what is wrong with it."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        if "value" not in names or not set(names) <= set(_COLUMNS):
            raise DataProblem(f"{where} needs a column value, and may have {', '.join(_COLUMNS[1:])}; it has {names}")
        for row in reader:
            yield reader.line_num, _entry(row, reason)
    except csv.Error as error:
        raise DataProblem(f"{where} cannot be read as CSV: line {reader.line_num}: {error}") from None


def _entry(row: dict[str, Any], reason: str) -> Entry | str:
    value = (row.get("value") or "").strip()
    if not 1 <= len(value) <= MAX_TEXT or None in row:
        return f"expected a value of 1 to {MAX_TEXT} characters, and no more columns than the head"
    try:
        for name in ("from", "until"):
            if row.get(name):
                instant_us(row[name])
    except InvalidInput as error:
        return str(error).removesuffix(" - at `$`")
    return Entry(
        value=value, reason=row.get("reason") or reason, since=row.get("from") or None, until=row.get("until") or None
    )
