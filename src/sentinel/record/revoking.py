"""Revoking: outcomes of an API key are taken back, with one entry of the log for each transaction that they were about.

What was decided before keeps its features; from the entry on, features and figures are as if corrected.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from sentinel.events.columns import OPERATOR, hash_text, hash_texts
from sentinel.record.entries import NO_DECISION, OutcomeRow, Revocation, Revoked, Standing, outcome_rows, outcomes_in
from sentinel.record.journal import Journal
from sentinel.record.log import Follower, Kind, LogReader, Record

MOST_AT_ONCE = 32
"""Transactions in one record: each is looked up, and all are taken within a turn of the event loop."""

_MOST_IN_STEP = 2_048  # outcomes that are looked at, or a page more
_PAGES = 64  # of the log in one step
_PAUSE_S = 0.002  # after some transactions, and after a page: others have their turn


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of a revocation has taken back, or would take back (`dry_run`).

    So many `outcomes` about so many `transactions`, of which `changed` are fraud no longer, or are now. The log was
    read up to `position`; the next step goes on there while there is `more`, which is until `before`.
    """

    dry_run: bool
    outcomes: int
    transactions: int
    changed: int
    position: int
    before: int
    more: bool


class TakenBack(NamedTuple):
    """What is taken back at once: the entry, None where there is nothing, and how much it says; see `Step`.

    `record` is where it is in the log, once it is written.
    """

    entry: Revoked | None
    outcomes: int = 0
    transactions: int = 0
    changed: int = 0
    record: Record | None = None


TakeBack = Callable[[Sequence[OutcomeRow]], TakenBack]
"""Takes back what is left to take back of these outcomes: see `taken_back`."""


def revoke_step(log: LogReader, revocation: Revocation, position: int, take_back: TakeBack, *, dry_run: bool) -> Step:
    """Take back what the log has from `position` on, as much as a step may; not from the thread that decides.

    Raises StorageProblem when the log cannot be read or written; what was written before stays taken back, and the
    whole may be done again.
    """
    rows, position = _candidates(log, revocation, position)
    done = []
    for some in _batches(_by_decision(rows)):
        done.append(take_back(some))
        time.sleep(_PAUSE_S)
    return Step(
        dry_run=dry_run,
        outcomes=sum(one.outcomes for one in done),
        transactions=sum(one.transactions for one in done),
        changed=sum(one.changed for one in done),
        position=position,
        before=revocation.before,
        more=position < revocation.before,
    )


def taken_back(journal: Journal, revocation: Revocation, candidates: Sequence[OutcomeRow]) -> TakenBack:
    """What is left to take back of these outcomes; nothing is written.

    A transaction comes with the newest of its outcomes that is covered, so that it comes once.
    """
    found = [(rows, _told(journal, rows)) for rows in _by_decision(candidates)]
    newest = [(_covered(revocation, told)[-1:], rows, told) for rows, told in found]
    some = [(last[0], told) for last, rows, told in newest if last and last[0] in rows]
    if not some:
        return TakenBack(None)
    left = [[one for one in told if not revocation.covers(one)] for _, told in some]
    entry = Revoked(
        revocation=revocation,
        ids=[row.transaction_id for row, _ in some],
        hashes=hash_texts([row.transaction_id for row, _ in some]).tobytes(),
        about=np.array([row.about for row, _ in some], np.int64).tobytes(),
        sources=[_sources(journal, revocation, row, told) for row, told in some],
        standing=list(map(_standing, left)),
    )
    changed = sum(_truth(told) != _truth(after) for (_, told), after in zip(some, left, strict=True))
    return TakenBack(entry, sum(len(_covered(revocation, told)) for _, told in some), len(some), changed)


def _by_decision(rows: Sequence[OutcomeRow]) -> list[list[OutcomeRow]]:
    """The outcomes of each decision, in their order; of a transaction that was not decided here, those of its id."""
    groups: dict[tuple[int, str], list[OutcomeRow]] = {}
    for row in rows:
        groups.setdefault((row.about, row.transaction_id if row.about == NO_DECISION else ""), []).append(row)
    return list(groups.values())


def _batches(groups: Sequence[Sequence[OutcomeRow]]) -> Iterator[list[OutcomeRow]]:
    """All outcomes of as many decisions as are taken back at once."""
    for begin in range(0, len(groups), MOST_AT_ONCE):
        yield [row for rows in groups[begin : begin + MOST_AT_ONCE] for row in rows]


def _told(journal: Journal, candidates: Sequence[OutcomeRow]) -> list[OutcomeRow]:
    """The outcomes of their decision that count, oldest first: those that are remembered, and these."""
    name, about = candidates[0].transaction_id, candidates[0].about
    key = np.uint64(hash_text(name))
    about_it = [one for one in journal.outcomes_of(name, key) if one.about == about]
    told, remembered = [one for one in about_it if one.revoked_at is None], {one.position for one in about_it}
    forgotten = [one for one in candidates if one.position not in remembered]
    if forgotten:  # the view has them, and so has the log
        gone = journal.revocations_of(name, key, about)
        told += [one for one in forgotten if not any(revocation.covers(one) for revocation in gone)]
    return sorted(told, key=lambda one: one.position)


def _sources(journal: Journal, revocation: Revocation, row: OutcomeRow, told: Sequence[OutcomeRow]) -> tuple[str, ...]:
    """Whose outcomes count no longer for features, which know a transaction by its id: none if it was decided again.

    Nor did they hear of what was told of a transaction that was not decided here.
    """
    if row.about == NO_DECISION:
        return ()
    newest = journal.position_of(row.transaction_id, np.uint64(hash_text(row.transaction_id)))
    if newest is not None and newest != row.about:
        return ()
    return tuple(sorted({one.source for one in _covered(revocation, told)}))


def _covered(revocation: Revocation, told: Sequence[OutcomeRow]) -> list[OutcomeRow]:
    return [one for one in told if revocation.covers(one)]


def _standing(left: Sequence[OutcomeRow]) -> tuple[Standing, ...]:
    newest = {one.source: one for one in left}
    in_order = sorted(newest.values(), key=lambda one: one.position)
    return tuple(Standing(one.source, one.is_fraud, one.time_us) for one in in_order)


def _truth(told: Sequence[OutcomeRow]) -> bool:
    return bool(told) and told[-1].is_fraud


def _candidates(log: LogReader, revocation: Revocation, position: int) -> tuple[list[OutcomeRow], int]:
    """Outcomes that are covered, from `position` on, and where to go on: `before` at the end."""
    follower = Follower(log, max(position, log.first_after(revocation.from_us - 1)))
    rows: list[OutcomeRow] = []
    for _ in range(_PAGES):
        records = follower.next()
        for record in records:
            is_told = record.kind in (Kind.OUTCOMES, Kind.UNMATCHED)
            if is_told and revocation.told_by in (outcomes_in(record).told_by or (OPERATOR,)):
                rows += [row for row in outcome_rows(record) if revocation.covers(row)]
        is_last = not records or records[-1].received_us >= revocation.to_us
        if is_last or follower.position >= revocation.before:
            return rows, revocation.before
        if len(rows) >= _MOST_IN_STEP:
            break
        time.sleep(_PAUSE_S)
    return rows, follower.position
