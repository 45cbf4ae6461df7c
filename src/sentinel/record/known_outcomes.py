"""What a log says about the truth of its decisions: every outcome that counts, what took it back, and what holds."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.record.entries import NO_DECISION, OutcomeRow, Revoked, outcome_rows, revoked_in
from sentinel.record.log import Kind, Record

_NO_WORD = -1


class Truth(NamedTuple):
    """What is known of a transaction: the label (1 fraud, 0 legitimate), as of when, and who said it."""

    is_fraud: int
    time_us: int
    source: str


class Told(NamedTuple):
    """An outcome as features were told it: the position and moment of its entry, and the label."""

    position: int
    received_us: int
    is_fraud: int


class KnownOutcomes:
    """The outcomes of trusted sources, by the position of the decision that each is about.

    Some 40 bytes for each of them. Take the records of a log in their order, then ask.
    """

    def __init__(self, is_trusted: Callable[[str], bool]) -> None:
        self._is_trusted = is_trusted
        self._sources: dict[str, int] = {}
        self._about, self._positions, self._received, self._times = (array("q") for _ in range(4))
        self._labels, self._features, self._source = array("b"), array("b"), array("i")
        self._order: NDArray[np.int64] | None = None
        self._by_about = np.empty(0, np.int64)
        self.unmatched: dict[str, list[OutcomeRow]] = {}
        """By the id of the transaction, those of transactions that were not decided here; what counts of them."""

    def __len__(self) -> int:
        """How many outcomes and corrections of them there are."""
        return len(self._about)

    def take(self, record: Record) -> None:
        """The outcomes of a record, and what it takes back; nothing of other kinds."""
        if record.kind == Kind.OUTCOMES:
            for row in outcome_rows(record):
                if self._is_trusted(row.source):
                    self._add(row.about, (row.position, row.received_us, row.time_us), row.is_fraud, row.source)
        elif record.kind == Kind.UNMATCHED:
            for row in outcome_rows(record):
                if self._is_trusted(row.source):
                    self.unmatched.setdefault(row.transaction_id, []).append(row)
        elif record.kind == Kind.REVOKED:
            self._take_back(record, revoked_in(record))

    def truth(self, position: int) -> Truth | None:
        """What holds of the decision at this position; None where nobody has said anything that still counts."""
        last = self._rows_of(position)[-1:]
        if not len(last) or self._labels[last[0]] == _NO_WORD:
            return None
        return Truth(self._labels[last[0]], self._times[last[0]], list(self._sources)[self._source[last[0]]])

    def truth_of_id(self, transaction_id: str) -> Truth | None:
        """What holds of a transaction that was not decided here, by what was told under its id."""
        last = self.unmatched.get(transaction_id, [])[-1:]
        return Truth(int(last[0].is_fraud), last[0].time_us, last[0].source) if last else None

    def told(self, position: int) -> list[Told]:
        """What features were told of the decision at this position, oldest first."""
        return [
            Told(self._positions[n], self._received[n], max(self._labels[n], 0))
            for n in self._rows_of(position)
            if self._features[n]
        ]

    def frauds(self) -> Iterator[tuple[int, int]]:
        """The decisions that are known as fraud by now: position, and when that was said first of what holds."""
        order = self._sorted()
        about = np.frombuffer(self._about, np.int64)[order] if len(self) else np.empty(0, np.int64)
        for begin, end in _runs(about):
            labels = [self._labels[n] for n in order[begin:end]]
            if labels[-1] == 1:
                first = end - 1
                while first > begin and labels[first - 1 - begin] == 1:
                    first -= 1
                yield int(about[begin]), self._times[order[first]]

    @property
    def newest_us(self) -> int:
        """The latest time that an outcome bears; 0 without any."""
        return int(np.frombuffer(self._times, np.int64).max()) if len(self) else 0

    def _add(
        self, about: int, when: tuple[int, int, int], label: int, source: str, *, for_features: bool = True
    ) -> None:
        position, received_us, time_us = when
        self._about.append(about)
        self._positions.append(position)
        self._received.append(received_us)
        self._times.append(time_us)
        self._labels.append(label)
        self._features.append(for_features)
        self._source.append(self._sources.setdefault(source, len(self._sources)))
        self._order = None

    def _take_back(self, record: Record, revoked: Revoked) -> None:
        """What still stands of each transaction comes in the place of what was said; features hear of it as live."""
        abouts = np.frombuffer(revoked.about, "<i8").tolist()
        for n, (about, sources, standing) in enumerate(zip(abouts, revoked.sources, revoked.standing, strict=True)):
            if about == NO_DECISION:
                self._take_back_unmatched(revoked, revoked.ids[n])
                continue
            trusted = [one for one in standing if self._is_trusted(one.source)]
            label, time_us, source = (
                (int(trusted[-1].is_fraud), trusted[-1].time_us, trusted[-1].source) if trusted else (_NO_WORD, 0, "")
            )
            when = record.position + n, record.received_us, time_us
            self._add(about, when, label, source, for_features=any(map(self._is_trusted, sources)))

    def _take_back_unmatched(self, revoked: Revoked, transaction_id: str) -> None:
        left = [row for row in self.unmatched.get(transaction_id, []) if not revoked.revocation.covers(row)]
        if left:
            self.unmatched[transaction_id] = left
        else:
            self.unmatched.pop(transaction_id, None)

    def _rows_of(self, position: int) -> NDArray[np.int64]:
        order = self._sorted()
        if not len(order):
            return order
        begin, end = np.searchsorted(self._by_about, [position, position + 1])
        return order[begin:end]

    def _sorted(self) -> NDArray[np.int64]:
        """The outcomes by decision, each one's in the order of the log."""
        if self._order is None:
            about = np.frombuffer(self._about, np.int64) if len(self) else np.empty(0, np.int64)
            self._order = np.argsort(about, kind="stable").astype(np.int64)
            self._by_about = about[self._order]
        return self._order


def _runs(values: Sequence[int] | NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of equal values."""
    begin = 0
    for n in range(1, len(values) + 1):
        if n == len(values) or values[n] != values[begin]:
            yield begin, n
            begin = n
