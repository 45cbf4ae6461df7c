"""A batch on its way through the engine: what is new of it, and what those are told who asked before."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import SentinelError
from sentinel.record.journal_reader import DecisionRow, OutcomeRow
from sentinel.serve.decisions import Answer, Answers, Arrivals, Decision, Event

T = TypeVar("T")
_NO_ANSWER = SentinelError("Something went wrong inside: this one got no answer; retry in a moment")


class New(NamedTuple):
    """What is new of a batch: ids, events, when they came in, canonical bytes (an outcome has none), hashes of ids."""

    ids: Sequence[str]
    events: Sequence[Event]
    received_ns: Sequence[int]
    contents: Sequence[bytes]
    hashes: NDArray[np.uint64]

    def some(self, where: Sequence[int]) -> "New":
        """Those in these places."""
        return New(
            at(where, self.ids), at(where, self.events), at(where, self.received_ns), at(where, self.contents),
            self.hashes[where],
        )  # fmt: skip


class Sifted:
    """A batch on its way: ids, hashes and answers by place, what is new, what repeats something new; rows by id.

    The rows are those that were stored before, and those of this batch where a repeat or an experiment needs them.

    `places` and `contents`, the canonical bytes, are of what is new; an outcome has none.
    """

    def __init__(self, ids: list[str], hashes: NDArray[np.uint64], rows: dict[str, DecisionRow]) -> None:
        self.ids = ids
        self.hashes = hashes
        self.rows = rows
        self.answers: list[Answer] = [_NO_ANSWER] * len(ids)
        self._whole: Answers | None = None
        self.first: set[str] = set()
        self.places: Sequence[int] = []
        self.contents: list[bytes] = []
        self.repeats: list[tuple[int, bytes]] = []
        self.learned: list[OutcomeRow] = []
        self.first_told: list[OutcomeRow] = []
        self.corrections: set[int] = set()

    def answer(self, places: Sequence[int], answers: Sequence[Decision]) -> None:
        """What those in these places are told."""
        if len(places) == len(self.answers):
            self._whole = answers
            return
        for i, answer in zip(places, answers, strict=True):
            self.answers[i] = answer

    def told(self) -> Answers:
        """What all of them are told."""
        return self.answers if self._whole is None else self._whole

    def new(self, batch: Arrivals) -> New:
        """What is new of the batch."""
        if len(self.places) == len(self.ids):
            return New(self.ids, batch.events, batch.received_ns, self.contents, self.hashes)
        where = self.places
        return New(
            at(where, self.ids), at(where, batch.events), at(where, batch.received_ns), self.contents,
            self.hashes[where],
        )  # fmt: skip

    def take_out(self, places: Sequence[int], batch: Arrivals) -> New:
        """These of what is new, which are new no longer."""
        new = self.new(batch)
        if len(places) == len(self.places):
            self.places, self.contents = [], []
            return new
        gone = set(places)
        left = [n for n, i in enumerate(self.places) if i not in gone]
        taken = new.some([n for n, i in enumerate(self.places) if i in gone])
        self.places, self.contents = at(left, self.places), at(left, self.contents)
        return taken


def at(places: Sequence[int], column: Sequence[T]) -> list[T]:
    """What is in these places."""
    return [column[n] for n in places]
