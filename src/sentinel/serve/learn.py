"""Outcomes: which of a batch are new, and the answers to all of them. Nothing is changed here."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import Conflict, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import Outcome, hash_text, hash_texts
from sentinel.record.entries import OutcomeRow, Outcomes
from sentinel.record.journal import Journal
from sentinel.serve.batch import Answer, Arrivals, Noted

MOST_OF_ONE = 16
"""Outcomes of one transaction that are taken from one API key: who changes their mind more often is a fault."""


class NewOutcomes(NamedTuple):
    """The outcomes of some arrivals that are to be recorded, with `hashes` of their transactions' ids (n,).

    `answers` are those to all arrivals; they rest on entries before the position `durable_from`.
    """

    answers: list[Answer]
    durable_from: int
    outcomes: list[Outcome]
    hashes: NDArray[np.uint64]
    about: list[int]

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


def new_outcomes_in(arrivals: Arrivals, journal: Journal) -> NewOutcomes:
    """Ask the journal which of these outcomes are of transactions that were decided here, and not known yet."""
    events: Sequence[Any] = arrivals.events
    outcomes = [_by_stored_id(one, journal) if one.id_before else one for one in events]
    hashes = hash_texts([one.transaction_id for one in outcomes])
    answers: list[Answer] = []
    new: list[int] = []
    about: list[int] = []
    known: dict[str, list[Outcome | OutcomeRow]] = {}
    durable_from = 0
    for n, one in enumerate(outcomes):
        position = journal.position_of(one.transaction_id, hashes[n])
        if position is None:
            answers.append(
                NotFound(
                    f"No transaction {quoted(one.transaction_id, 200)} was decided here, as far as is "
                    "remembered; outcomes of older transactions belong into the history file of the next training"
                )
            )
            continue
        if one.transaction_id not in known:
            stored = journal.outcomes_of(one.transaction_id, hashes[n])
            before = [row for row in stored if row.revoked_at is None and row.about == position]
            known[one.transaction_id] = [*before]
            durable_from = max([durable_from, *(row.position + 1 for row in before)])
        told = known[one.transaction_id]
        of_caller = [row for row in told if row.told_by == one.told_by]
        if _repeats(one, of_caller, told):
            answers.append(Noted(one.transaction_id, one.is_fraud, replayed=True))
        elif len(of_caller) >= MOST_OF_ONE:
            answers.append(_too_often(one))
        else:
            answers.append(Noted(one.transaction_id, one.is_fraud, replayed=False))
            told.append(one)
            new.append(n)
            about.append(position)
    return NewOutcomes(answers, durable_from, [outcomes[n] for n in new], hashes[new], about)


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


def _too_often(one: Outcome) -> Conflict:
    return Conflict(
        f"{quoted(one.told_by, 80)} has told {MOST_OF_ONE} outcomes of transaction "
        f"{quoted(one.transaction_id, 200)}, each unlike the one before; the last of them counts. "
        "Take them back with `sentinel outcomes revoke`, or use another key"
    )
