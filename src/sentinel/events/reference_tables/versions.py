"""What tables say, and said: every row has versions, each in force from a moment on until the next one is."""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidInput, StorageProblem
from sentinel.events.card_numbers import quoted
from sentinel.events.reference_tables.declaration import LookupTable
from sentinel.events.reference_tables.ranges import RangeIndex
from sentinel.events.times import LATEST_US, SECOND_US, iso

KEPT_US = 90 * 86_400 * SECOND_US
"""A version that another one follows is kept for so long after that, and after both were told: for what comes late."""

LISTED_KEPT_US = 400 * 86_400 * SECOND_US
"""The same of a list of people's (`LIST`, `SNOOZE`): what was decided by it is computed again for as long."""

LIST, SNOOZE = "list", "snooze"
"""Kinds of tables that no schema declares: values on a list, and the keys for which a rule is asleep."""

MOST_VERSIONS = 10_000
"""Of one row."""

_MOST_SHARED = 256
_DROPPED_AT_ONCE = 64  # beside as many as rows come
_valid_from = itemgetter(0)

Versions: TypeAlias = list[tuple[int, bytes, int]]
"""Of one row, by `valid_from` in microseconds since 1970: its columns as JSON, empty where it is removed, and when that
was received."""


class Row(NamedTuple):
    """A row: since when it holds (microseconds since 1970), and its columns as JSON, or empty: it is removed then.

    `key` is the text that it is found by, or a range in its one spelling.
    """

    key: str
    valid_from_us: int
    values: bytes


class Told(NamedTuple):
    """A row as somebody tells it: who says no moment means now."""

    key: str
    valid_from_us: int | None
    values: bytes


class Draft(NamedTuple):
    """Rows that change something, what the versions of their keys are then, and how many, in bytes too, come along."""

    rows: list[Row]
    versions: dict[str, Versions]
    more: int
    more_bytes: int


class TableVersions:
    """All versions of the rows of one table. It may be read from any thread while one thread changes it."""

    def __init__(self, kind: str) -> None:
        self.changed_us = 0
        """When the newest row was received."""

        self._versions: dict[str, Versions] = {}
        self._ranges = None if kind in ("exact", LIST, SNOOZE) else RangeIndex(kind)
        self._kept_us = LISTED_KEPT_US if kind in (LIST, SNOOZE) else KEPT_US
        self._followed: list[tuple[int, str]] = []  # a heap: since when the oldest version of a key is followed
        self._noted: dict[str, int] = {}  # the same by key; what else is in the heap is out of date
        self._same: dict[bytes, bytes] = {}  # columns that many rows share, kept once
        self.n_versions = self.nbytes = 0

    def __len__(self) -> int:
        """How many rows there are, removed ones too while they are kept."""
        return len(self._versions)

    def values_at(self, text: str, time_us: int) -> bytes:
        """The columns of the row that is in force for this text at this moment, as JSON; empty where none is."""
        if self._ranges is None:
            versions = self._versions.get(text)
            return b"" if versions is None else _in_force(versions, time_us)
        for key in self._ranges.holding(text):
            values = _in_force(self._versions.get(key, []), time_us)
            if values:
                return values
        return b""

    def find(self, text: str, time_us: int) -> Row | None:
        """The row that is in force for this text at this moment."""
        keys = [text] if self._ranges is None else self._ranges.holding(text)
        for key in keys:
            versions = self._versions.get(key, [])
            at = bisect_right(versions, time_us, key=_valid_from)
            if at and versions[at - 1][1]:
                return Row(key, *versions[at - 1][:2])
        return None

    def in_force(self, time_us: int) -> Iterator[str]:
        """The keys of all rows that are in force at this moment."""
        return (key for key, versions in self._versions.items() if _in_force(versions, time_us))

    def row_at(self, key: str, time_us: int) -> bytes:
        """What the row with just this key says at this moment."""
        return _in_force(self._versions.get(key, []), time_us)

    def keys(self) -> list[str]:
        """The keys of all rows, removed ones too while they are kept, in the order in which they came."""
        return list(self._versions)

    def versions_of(self, key: str) -> Versions:
        """All versions of a row that are kept, the oldest first."""
        return self._versions.get(key, [])

    def draft(self, told: Iterable[Told], now_us: int) -> Draft:
        """What would change if these rows were told now, one after the other.

        What is told again changes nothing, and neither does what is in force now and told without a moment.
        """
        new: list[Row] = []
        drafts: dict[str, Versions] = {}
        more = more_bytes = 0
        for one in told:
            versions = drafts.get(one.key) or self._versions.get(one.key, [])
            if one.valid_from_us is None and _in_force(versions, now_us) == one.values:
                continue
            row = Row(one.key, now_us if one.valid_from_us is None else one.valid_from_us, one.values)
            if _says(versions, row) != row.values:
                grown = _growth(versions, row)
                more, more_bytes = more + grown[0], more_bytes + grown[1]
                drafts[row.key] = _with(versions, row, now_us)
                new.append(row)
        return Draft(new, drafts, more, more_bytes)

    def check(self, draft: Draft, name: str, table: LookupTable) -> None:
        """Raise InvalidInput where two ranges would overlap at some moment, or there would be more than is allowed."""
        n, nbytes = self.n_versions + draft.more, self.nbytes + draft.more_bytes
        if n > table.max_rows or nbytes > table.max_bytes:
            raise InvalidInput(
                f"The table {name} would have {n:,} versions of rows in {nbytes:,} bytes; {table.max_rows:,} in "
                f"{table.max_bytes:,} are possible: raise max_rows or max_bytes of the table in the detector"
            )
        for key, versions in draft.versions.items():
            if len(versions) > MOST_VERSIONS:
                raise InvalidInput(
                    f"The row {quoted(key, 100)} of the table {name} would have {len(versions):,} versions; "
                    f"{MOST_VERSIONS:,} are possible: tell it less often"
                )
        if self._ranges is not None:
            self._check_overlaps(draft, name, self._ranges)

    def _check_overlaps(self, draft: Draft, name: str, ranges: RangeIndex) -> None:
        fresh = RangeIndex(ranges.kind)
        for key in draft.versions:
            fresh.add(key)
        for key, versions in draft.versions.items():
            for other in dict.fromkeys((*ranges.touching(key), *fresh.touching(key))):
                if other == key:
                    continue
                moment_us = _together_at(versions, draft.versions.get(other) or self._versions[other])
                if moment_us is not None:
                    raise InvalidInput(
                        f"The ranges {quoted(key, 100)} and {quoted(other, 100)} of the table {name} overlap, and both "
                        f"would be in force at {iso(moment_us)}; remove one of them first"
                    )

    def put(self, rows: Sequence[Row], received_us: int) -> None:
        """Take rows; then let go of versions that are followed for long, and of rows that were removed for long."""
        for row in rows:
            versions = self._versions.get(row.key)
            if versions is None and self._ranges is not None:
                self._ranges.add(row.key)
            more, more_bytes = _growth(versions or [], row)
            self.n_versions, self.nbytes = self.n_versions + more, self.nbytes + more_bytes
            shared = row._replace(values=self._shared(row.values))
            self._versions[row.key] = after = _with(versions or [], shared, received_us)
            self._note(row.key, after)
        self.changed_us = received_us
        self._let_go(received_us - self._kept_us, len(rows) + _DROPPED_AT_ONCE)

    def _shared(self, values: bytes) -> bytes:
        """The same columns, as the object that other rows have: thousands are put on a list for one reason."""
        if len(self._same) > _MOST_SHARED:
            self._same.clear()
        return self._same.setdefault(values, values)

    def _note(self, key: str, versions: Versions) -> None:
        """Note since when the oldest version is followed, if it is."""
        since_us = _followed_us(versions, 0)
        if since_us is not None and since_us < self._noted.get(key, LATEST_US):
            self._noted[key] = since_us
            heapq.heappush(self._followed, (since_us, key))

    def _let_go(self, before_us: int, most: int) -> None:
        """Let go of what is followed since before this moment; of `most` rows at most."""
        while self._followed and self._followed[0][0] < before_us and most:
            (since_us, key), most = heapq.heappop(self._followed), most - 1
            if self._noted.get(key) == since_us:
                del self._noted[key]
                self._cut(key, before_us)

    def _cut(self, key: str, before_us: int) -> None:
        """Let go of the oldest versions of a row that are followed since before this moment."""
        versions = self._versions[key]
        n = next((n for n in range(len(versions)) if not _is_followed(versions, n, before_us)), len(versions))
        self.n_versions -= n
        self.nbytes -= _bytes_of(key, versions[:n])
        if n < len(versions):
            self._versions[key] = versions[n:]
            self._note(key, versions[n:])
            return
        if self._ranges is not None:
            self._ranges.remove(key)
        del self._versions[key]

    def state(self) -> "_State":
        """All of it, as plain data."""
        return self.changed_us, self._versions

    def restore(self, state: "_State") -> None:
        """Become what `state` gave; this has to be empty."""
        self.changed_us = state[0]
        for key, versions in state[1].items():
            if self._ranges is not None:
                self._ranges.add(key)
            self._versions[key] = versions = [
                (at_us, self._shared(values), received_us) for at_us, values, received_us in versions
            ]
            self.n_versions, self.nbytes = self.n_versions + len(versions), self.nbytes + _bytes_of(key, versions)
            self._note(key, versions)


def _in_force(versions: Versions, time_us: int) -> bytes:
    """What the newest version says that is not later than this; empty where there is none."""
    if versions and versions[-1][0] <= time_us:  # nearly always
        return versions[-1][1]
    at = bisect_right(versions, time_us, key=_valid_from)
    return versions[at - 1][1] if at else b""


def _says(versions: Versions, row: Row) -> bytes | None:
    """What is told already for just this moment; None where nothing is."""
    at = bisect_left(versions, row.valid_from_us, key=_valid_from)
    return versions[at][1] if at < len(versions) and versions[at][0] == row.valid_from_us else None


def _with(versions: Versions, row: Row, received_us: int) -> Versions:
    """The versions with this one; it takes the place of one of the same moment."""
    at = bisect_left(versions, row.valid_from_us, key=_valid_from)
    is_there = at < len(versions) and versions[at][0] == row.valid_from_us
    return [*versions[:at], (row.valid_from_us, row.values, received_us), *versions[at + is_there :]]


def _growth(versions: Versions, row: Row) -> tuple[int, int]:
    """By how many versions, and bytes of keys and values, these grow with this one."""
    said = _says(versions, row)
    return (1, len(row.key) + len(row.values)) if said is None else (0, len(row.values) - len(said))


def _followed_us(versions: Versions, n: int) -> int | None:
    """Since when version n is followed by the next one, and both are told; None while it is the newest.

    A row that is removed says nothing more: as the newest version it is followed since it holds and is told.
    """
    valid_from_us, values, received_us = versions[n]
    if n + 1 < len(versions):
        return max(versions[n + 1][0], received_us, versions[n + 1][2])
    return None if values else max(valid_from_us, received_us)


def _is_followed(versions: Versions, n: int, before_us: int) -> bool:
    since_us = _followed_us(versions, n)
    return since_us is not None and since_us < before_us


def _together_at(one: Versions, other: Versions) -> int | None:
    """The first moment at which both are in force, or None."""
    moments = sorted({version[0] for version in (*one, *other)})
    return next((moment for moment in moments if _in_force(one, moment) and _in_force(other, moment)), None)


def _bytes_of(key: str, versions: Versions) -> int:
    return sum(len(key) + len(values) for _, values, _ in versions)


_State: TypeAlias = tuple[int, dict[str, Versions]]
_PART = "tables"
_decode = msgspec.msgpack.Decoder(list[tuple[str, str, _State]]).decode


class Tables:
    """All tables of a log, by their names and how rows are found in them: whatever a schema declares now."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], TableVersions] = {}

    def of(self, name: str, kind: str) -> TableVersions:
        """The table of this name whose rows are found so; an empty one where nothing was told yet."""
        found = self._tables.get((name, kind))
        return self._tables.setdefault((name, kind), TableVersions(kind)) if found is None else found

    def names_of(self, kind: str) -> list[str]:
        """The names of the tables of a kind."""
        return [name for name, other in self._tables if other == kind]

    def snapshot(self) -> dict[str, NDArray[np.uint8]]:
        """All of it, as a MemoryStore gives what it remembers."""
        state = msgspec.msgpack.encode([[*which, table.state()] for which, table in self._tables.items()])
        return {_PART: np.frombuffer(state, np.uint8)}

    def restore(self, taken: Mapping[str, NDArray[Any]]) -> None:
        """Become what `snapshot` gave. Raises StorageProblem for what is none; then nothing is changed."""
        found = Tables()
        try:
            for name, kind, state in _decode(bytes(taken[_PART])):
                found.of(name, kind).restore(state)
        except (msgspec.MsgspecError, InvalidInput, KeyError) as error:
            raise StorageProblem(f"the snapshot holds no tables ({error}); it is damaged") from error
        self._tables = found._tables
