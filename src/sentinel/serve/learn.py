"""Outcomes: which of a batch are new, and the answers to all of them. Nothing is changed here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import Conflict
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import Outcome, hash_text, hash_texts
from sentinel.record.entries import NO_DECISION, OutcomeRow, Outcomes
from sentinel.record.journal import Journal
from sentinel.serve.batch import Answer, Arrivals, Noted

MOST_OF_ONE = 16
"""Outcomes of one transaction that are taken from one API key: who changes their mind more often is a fault."""


MOST_UNMATCHED = 1_000_000
"""Outcomes that match no decision and are kept of one API key: with far more, something is wrong."""


class Told(NamedTuple):
    """Outcomes that are to be recorded, with `hashes` of their transactions' ids (n,), and what they are `about`."""

    outcomes: Sequence[Outcome]
    hashes: NDArray[np.uint64]
    about: Sequence[int]

    def entry(self) -> Outcomes:
        """What the log keeps of them."""
        return Outcomes(
            ids=[one.transaction_id for one in self.outcomes],
            hashes=self.hashes.tobytes(),
            is_fraud=bytes(one.is_fraud for one in self.outcomes),
            times_us=np.array([one.time_us for one in self.outcomes], np.int64).tobytes(),
            about=np.array(self.about, np.int64).tobytes(),
            sources=[one.source for one in self.outcomes],
            told_by=[one.told_by for one in self.outcomes],
            reasons=[one.reason for one in self.outcomes],
        )

    def by_teller(self) -> Iterator["Told"]:
        """Those of each API key."""
        places: dict[str, list[int]] = {}
        for place, one in enumerate(self.outcomes):
            places.setdefault(one.told_by, []).append(place)
        for some in places.values():
            yield Told([self.outcomes[n] for n in some], self.hashes[some], [self.about[n] for n in some])


class NewOutcomes(NamedTuple):
    """The outcomes of some arrivals that are to be recorded: of decisions, and those that match none.

    `answers` are those to all arrivals; they rest on entries before the position `durable_from`.
    """

    answers: list[Answer]
    durable_from: int
    matched: Told
    unmatched: Told


def new_outcomes_in(arrivals: Arrivals, journal: Journal) -> NewOutcomes:
    """Ask the journal which of these outcomes are not known yet, and which are of transactions that it has decided."""
    events: Sequence[Any] = arrivals.events
    outcomes = [_by_stored_id(one, journal) if one.id_before else one for one in events]
    hashes = hash_texts([one.transaction_id for one in outcomes])
    answers: list[Answer] = []
    about: dict[int, int] = {}
    more: dict[str, int] = {}
    known: dict[str, list[Outcome | OutcomeRow]] = {}
    durable_from = 0
    for n, one in enumerate(outcomes):
        found = journal.position_of(one.transaction_id, hashes[n])
        position = NO_DECISION if found is None else found
        if one.transaction_id not in known:
            stored = journal.outcomes_of(one.transaction_id, hashes[n])
            before = [row for row in stored if row.revoked_at is None and row.about == position]
            known[one.transaction_id] = [*before]
            durable_from = max([durable_from, *(row.position + 1 for row in before)])
        told = known[one.transaction_id]
        of_caller = [row for row in told if row.told_by == one.told_by]
        is_known = position != NO_DECISION
        if _repeats(one, of_caller, told):
            answers.append(Noted(one.transaction_id, one.is_fraud, replayed=True, known=is_known))
        elif len(of_caller) >= MOST_OF_ONE:
            answers.append(_too_often(one))
        elif not is_known and journal.unmatched_of(one.told_by) + more.get(one.told_by, 0) >= MOST_UNMATCHED:
            answers.append(_too_many(one))
        else:
            answers.append(Noted(one.transaction_id, one.is_fraud, replayed=False, known=is_known))
            told.append(one)
            about[n] = position
            more[one.told_by] = more.get(one.told_by, 0) + (not is_known)
    matched, unmatched = (
        _told(outcomes, hashes, {n: at for n, at in about.items() if (at == NO_DECISION) is not is_of_decision})
        for is_of_decision in (True, False)
    )
    return NewOutcomes(answers, durable_from, matched, unmatched)


def _told(outcomes: Sequence[Outcome], hashes: NDArray[np.uint64], about: Mapping[int, int]) -> Told:
    places = list(about)
    return Told([outcomes[n] for n in places], hashes[places], list(about.values()))


def record(new: NewOutcomes, journal: Journal, now_us: int) -> int:
    """Append what is new of these outcomes, at least one; the position behind the last. Raises StorageProblem."""
    end = 0
    if new.matched.outcomes:
        end = journal.append_outcomes(new.matched.entry(), new.matched.hashes, now_us) + len(new.matched.outcomes)
    for told in new.unmatched.by_teller():
        end = journal.append_unmatched(told.entry(), told.hashes, now_us) + len(told.outcomes)
    return end


def not_told(outcomes: Sequence[Outcome], journal: Journal, *, is_dated: bool) -> list[Outcome]:
    """Those of an import that were not told before and still count: the same file twice adds nothing.

    Where the file has times (`is_dated`) that is the same word of the same source as of the same time; else it is the
    same word in the same import.
    """

    def known(one: Outcome) -> bool:
        stored = journal.outcomes_of(one.transaction_id, np.uint64(hash_text(one.transaction_id)))
        said = [row for row in stored if row.revoked_at is None and row.is_fraud == one.is_fraud]
        if is_dated:
            return any((row.source, row.time_us) == (one.source, one.time_us) for row in said)
        return any((row.source, row.told_by) == (one.source, one.told_by) for row in said)

    return [one for one in outcomes if not known(one)]


def _by_stored_id(one: Outcome, journal: Journal) -> Outcome:
    """The outcome, under the id that its transaction had before the hash key was changed, where that is stored."""
    assert one.id_before is not None  # noqa: S101 - asked before
    if journal.position_of(one.id_before, np.uint64(hash_text(one.id_before))) is None:
        return one
    return msgspec.structs.replace(one, transaction_id=one.id_before, id_before=None)


def _repeats(one: Outcome, of_caller: list[Outcome | OutcomeRow], told: list[Outcome | OutcomeRow]) -> bool:
    """Whether it says nothing new: its caller said so last, as of that source, and nobody has contradicted since.

    What another key said is no reason to leave it out: that may be taken back.
    """
    return (
        bool(of_caller)
        and (of_caller[-1].source, of_caller[-1].is_fraud) == (one.source, one.is_fraud)
        and told[-1].is_fraud == one.is_fraud
    )


def _too_many(one: Outcome) -> Conflict:
    return Conflict(
        f"{quoted(one.told_by, 80)} has told {MOST_UNMATCHED:,} outcomes of transactions that were not decided here; "
        "no more are kept. Bring those of older transactions in the history file of the next training"
    )


def _too_often(one: Outcome) -> Conflict:
    return Conflict(
        f"{quoted(one.told_by, 80)} has told {MOST_OF_ONE} outcomes of transaction "
        f"{quoted(one.transaction_id, 200)}, each unlike the one before; the last of them counts. "
        "Take them back with `sentinel outcomes revoke`, or use another key"
    )
