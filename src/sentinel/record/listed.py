"""Lists of people in the log: who is on which from when until when, and the keys for which a rule is asleep.

They are rows of tables of their own kinds. A row never holds for a moment that has passed when it is recorded, so that
what a list says of a moment is what was known then: a decision finds the same whenever it is computed again.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec

from sentinel.errors import InvalidInput, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import OPERATOR
from sentinel.events.reference_tables.versions import Row, TableVersions
from sentinel.events.times import iso
from sentinel.policy.deployment import RulesInForce
from sentinel.policy.rules.book import Book, BookList

MOST_ENTRIES = 5_000_000
"""Versions of entries of one list."""

MOST_OF_ONE, MOST_AT_ONCE = 1_000, 20_000
"""Moments to come at which one value changes, and those recorded in one step: no decision is made meanwhile."""


class Listing(NamedTuple):
    """What is to be said of a value: it is on a list from a moment on (now) until before another (for good).

    `key` is the value as it is kept. Where `is_off` it is off the list from now on, whatever was said before.
    """

    key: str
    reason: str
    author: str
    from_us: int | None = None
    until_us: int | None = None
    is_off: bool = False


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the log keeps of an entry."""

    reason: str = ""
    author: str = OPERATOR


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """From when until before when a value is on a list, why, and who said so; `until` is None for good."""

    since: str
    until: str | None
    reason: str
    author: str


class OnList(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a value is on a list at a moment, and every period in which it is, was or will be; the oldest first."""

    name: str
    value: str
    as_of: str
    is_on: bool
    periods: list[Period]


_encode = msgspec.json.Encoder().encode
_said = msgspec.json.Decoder(Said).decode


def rows_of(versions: TableVersions, told: Iterable[Listing], received_us: int) -> list[Row]:
    """The rows that say this, recorded at that moment; none for what is said already.

    They hold from the next microsecond on, for a decision of the same one may stand before them. Raises InvalidInput
    for what begins or ends in the past, and for more than there may be; to take a value off is always possible.
    """
    now_us, rows = received_us + 1, []
    for one in told:
        begin_us = now_us if one.from_us is None else one.from_us
        _check(one, begin_us, received_us)
        values = b"" if one.is_off else _encode(Said(one.reason, one.author))
        wanted = _periods_after(versions, one.key, begin_us, values, one.until_us)
        rows += [Row(one.key, at_us, what) for at_us, what in wanted]
        if not one.is_off and len(wanted) > MOST_OF_ONE:
            raise InvalidInput(f"A value would change more than {MOST_OF_ONE:,} times from then on; tell fewer periods")
        if len(rows) > MOST_AT_ONCE:
            raise InvalidInput(f"These would be more than {MOST_AT_ONCE:,} changes in one step; tell fewer at once")
    if versions.n_versions + len(rows) > MOST_ENTRIES:
        raise InvalidInput(f"The list would have more than {MOST_ENTRIES:,} entries; take some off first")
    return rows


def _check(one: Listing, begin_us: int, received_us: int) -> None:
    if begin_us <= received_us:
        raise InvalidInput(
            f"Expected a moment to come, for what was decided stays; leave it out for now, {iso(received_us)}", "$.from"
        )
    if one.until_us is not None and one.until_us <= begin_us:
        raise InvalidInput(f"Expected a moment after the entry begins, {iso(begin_us)}", "$.until")


def _periods_after(
    versions: TableVersions, key: str, begin_us: int, values: bytes, until_us: int | None
) -> list[tuple[int, bytes]]:
    """The moments at which a key changes, so that it is as wanted from then on whatever was said of later moments."""
    known = versions.versions_of(key)
    later = [at_us for at_us, _, _ in known if at_us > begin_us]
    before = versions.row_at(key, begin_us)
    wanted = {begin_us: values}
    if until_us is not None:
        wanted[until_us] = b""
    for at_us in later:
        wanted.setdefault(at_us, values if until_us is None or at_us < until_us else b"")
    if before == values and not later and until_us is None:
        return []
    return sorted(wanted.items())


def on_list(versions: TableVersions, name: str, keys: Sequence[str], value: str, time_us: int) -> OnList:
    """What a list says of a value, which is kept as one of these keys."""
    periods = sorted(dict.fromkeys(one for key in keys for one in _periods(versions, key)), key=itemgetter(0))
    is_on = any(versions.values_at(key, time_us) for key in keys)
    return OnList(name=name, value=value, as_of=iso(time_us), is_on=is_on, periods=[one for _, one in periods])


def _periods(versions: TableVersions, key: str) -> list[tuple[int, Period]]:
    """Versions that say the same one after the other are one period."""
    found: list[tuple[int, Period]] = []
    last = b""
    for at_us, values, _ in versions.versions_of(key):
        if values == last:
            continue
        if last:
            begin_us, open_one = found[-1]
            found[-1] = begin_us, msgspec.structs.replace(open_one, until=iso(at_us))
        if values:
            said = _said(values)
            found.append((at_us, Period(since=iso(at_us), until=None, reason=said.reason, author=said.author)))
        last = values
    return found


def declared(rules: RulesInForce | None, name: str) -> BookList:
    """The list of this name in the book in force. Raises NotFound, with those that there are."""
    book = Book() if rules is None else rules.book
    found = book.list_of(name)
    if found is None:
        known = ", ".join(one.name for one in book.lists) or "none"
        raise NotFound(f"The book in force has no list {quoted(name, 80)}; it has {known}")
    return found


def entries_in(
    versions: TableVersions, time_us: int, cursor: int, limit: int
) -> tuple[list[dict[str, str | None]], int | None]:
    """Values that are on a list at a moment, from the cursor on, and the cursor behind them; None at the end."""
    found: list[dict[str, str | None]] = []
    keys = versions.keys()
    for place in range(cursor, len(keys)):
        if len(found) == limit:
            return found, place
        row = versions.find(keys[place], time_us)
        if row is not None:
            said = _said(row.values)
            found.append(
                {"value": row.key, "since": iso(row.valid_from_us), "reason": said.reason, "author": said.author}
            )
    return found, None
