"""Books of rules in the log: drafts, each an entry that names the one before it, and what was in force when."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from sentinel.errors import NotFound, StorageProblem
from sentinel.policy.deployment import Deployment, RulesInForce
from sentinel.policy.rules.book import Book
from sentinel.policy.thresholds import Thresholds
from sentinel.record.applied import deployment_in
from sentinel.record.listed import Listing
from sentinel.record.log import Kind, Log, LogReader, Record

_NAME = "rules draft"


class OfVersion(msgspec.Struct, frozen=True):
    """Thresholds for a version, while it is the champion."""

    version: str
    thresholds: Thresholds


class ToldOfList(msgspec.Struct, frozen=True):
    """What is told of a list with a draft; values as they are kept."""

    list: str
    entries: tuple[Listing, ...]


class Draft(msgspec.Struct, frozen=True):
    """A book that somebody wrote: its number, by whom, why and when (ISO 8601). `bands` are those of its backtest.

    `after` is the draft that it is an edition of; None where it is none of any. `thresholds` come in force with it;
    without any those that are in force stay. `listed` is told of lists when it comes in force.
    """

    number: int
    book: Book
    author: str
    note: str
    drafted_at: str
    bands: dict[str, tuple[float, float]] = {}
    after: int | None = None
    thresholds: OfVersion | None = None
    listed: tuple[ToldOfList, ...] = ()


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    earlier: int  # position of the draft before it, 0 where there is none
    draft: Draft


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode
_applied = msgspec.json.Decoder(Deployment).decode


def next_number(log: LogReader) -> int:
    """The number of the next draft."""
    record = log.standing().get(_NAME)
    return 1 if record is None else _entry_in(record).draft.number + 1


def append_draft(log: Log, draft: Draft, now_us: int) -> int:
    """Append a draft, from the thread of the log's writer; its position. Raises StorageProblem."""
    record = log.standing().get(_NAME)
    body = _encode(_Entry(0 if record is None else record.position, draft))
    return log.write(Kind.RULES_DRAFT, 1, now_us, body, standing=_NAME)


def drafts(log: LogReader) -> Iterator[Draft]:
    """All drafts, the newest first, as far back as the log is kept. Raises StorageProblem."""
    record = log.standing().get(_NAME)
    while record is not None:
        entry = _entry_in(record)
        yield entry.draft
        record = _kept(log, entry.earlier, Kind.RULES_DRAFT)


def draft_of(log: LogReader, number: int) -> Draft:
    """The draft of this number. Raises NotFound, StorageProblem."""
    found = next((one for one in drafts(log) if one.number <= number), None)
    if found is None or found.number != number:
        raise NotFound(f"There is no draft {number} of rules, or the log no longer has it")
    return found


def rules_applied(log: LogReader) -> Iterator[RulesInForce]:
    """All that were in force, the newest first, as far back as the log is kept. Raises StorageProblem."""
    rules = deployment_in(log).rules
    while rules is not None:
        yield rules
        record = _kept(log, rules.earlier, Kind.APPLIED)
        rules = None if record is None else _applied(record.body).rules


def deployment_before(log: LogReader, rules: RulesInForce) -> Deployment | None:
    """What was in force before this draft came in force; None where the log no longer has it. Raises StorageProblem."""
    earlier = rules.earlier
    while (record := _kept(log, earlier, Kind.APPLIED)) is not None:
        found = _applied(record.body)
        if found.rules is None or found.rules.draft != rules.draft:
            return found
        earlier = found.rules.earlier
    return None


class Unknown(NamedTuple):
    """The rules of a revision that the log no longer has."""

    revision: int


class RulesByRevision:
    """Which rules were in force in which revision of the deployment."""

    def __init__(self, log: LogReader) -> None:
        self._rules = list(rules_applied(log))[::-1]
        self._since = [one.since_revision for one in self._rules]
        oldest = self._rules[0] if self._rules else None
        self._knows_all = oldest is None or oldest.earlier == 0 or deployment_before(log, oldest) is not None

    def at(self, revision: int) -> RulesInForce | Unknown | None:
        """Those in force then; None where there were none."""
        place = bisect_right(self._since, revision)
        if place:
            return self._rules[place - 1]
        return None if self._knows_all else Unknown(revision)


def _kept(log: LogReader, position: int, kind: Kind) -> Record | None:
    """The record that is there; None where there is none, or the log no longer has it."""
    if position == 0 or position < log.first:
        return None
    record = log.at(position)
    return record if record.kind == kind else None


def _entry_in(record: Record) -> _Entry:
    try:
        return _decode(record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(
            f"the draft of rules at position {record.position} is of another version of Sentinel ({error}); run it"
        ) from error
