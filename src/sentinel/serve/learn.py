"""Outcomes: which of a batch are new, and the answers to all of them. Nothing is changed here."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import NotFound
from sentinel.events.columns import Outcome, hash_texts
from sentinel.record.entries import Outcomes
from sentinel.record.journal import Journal
from sentinel.serve.batch import Answer, Arrivals, Noted


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
        )


def new_outcomes_in(arrivals: Arrivals, journal: Journal) -> NewOutcomes:
    """Ask the journal which of these outcomes are of transactions that were decided here, and not known yet."""
    outcomes: Sequence[Any] = arrivals.events
    hashes = hash_texts([one.transaction_id for one in outcomes])
    answers: list[Answer] = []
    new: list[int] = []
    about: list[int] = []
    known: dict[str, bool | None] = {}
    durable_from = 0
    for n, one in enumerate(outcomes):
        position = journal.position_of(one.transaction_id, hashes[n])
        if position is None:
            answers.append(
                NotFound(
                    f"No transaction {one.transaction_id!r} was decided here, as far as is remembered; outcomes of "
                    "older transactions belong into the history file of the next training"
                )
            )
            continue
        if one.transaction_id not in known:
            before = journal.outcomes_of(one.transaction_id, hashes[n], most=1)
            known[one.transaction_id] = before[-1].is_fraud if before else None
            durable_from = max([durable_from, *(row.position + 1 for row in before)])
        is_known = known[one.transaction_id] == one.is_fraud
        answers.append(Noted(one.transaction_id, one.is_fraud, replayed=is_known))
        if not is_known:
            known[one.transaction_id] = one.is_fraud
            new.append(n)
            about.append(position)
    return NewOutcomes(answers, durable_from, [outcomes[n] for n in new], hashes[new], about)
