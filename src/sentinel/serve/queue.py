"""The queue: which requests come next, which are overdue, and how large a batch may be. Time is an argument."""

import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from sentinel.errors import Overloaded
from sentinel.serve.batch import Answers, Arrivals, Event

MAX_ROWS, LEAST_ROWS = 256, 32
"""Transactions in one batch. More would have the first wait for the last; when turns are long it is fewer."""

MOST_OUTCOMES = 64
"""Outcomes in one batch, or one request more: each may have to be looked up in a record of its own."""

MOST_SHED = 1_024
"""Transactions that are decided by the rules in one turn, or one request more."""

LONG_TURN_NS = 12_000_000
"""A turn of the event loop that leaves little of a deadline of 60 ms to others."""

_FIRST_PACE_NS = 15_000.0
_LEARNING = 0.2  # weight of the last batch in the pace
_OVERDUE_NS = 0  # a deadline that has passed: the engine decides by the rules
_due = operator.attrgetter("due_ns")


class Request(msgspec.Struct, gc=False):
    """What came in together, is decided together, and answered together: transactions, or outcomes.

    It came in at `received_ns` and can wait for a model until `due_ns`, both of the monotonic clock.
    """

    events: Sequence[Event]
    received_ns: int
    due_ns: int
    reply: Callable[[Answers], None]


class Next(NamedTuple):
    """What to decide now: first those that have no time left, by the rules; then a batch that has."""

    overdue: list[Request]
    batch: list[Request]


class Queue:
    """Requests with transactions, the earliest due first, and requests with outcomes, in their order."""

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._requests: list[Request] = []
        self._outcomes: list[Request] = []
        self._most_rows = MAX_ROWS
        self._pace_ns = _FIRST_PACE_NS
        self.waiting = 0
        """Transactions and outcomes that were put in and not taken out."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._requests or self._outcomes)

    def put(self, request: Request) -> None:
        """Have transactions wait. Raises Overloaded when there is no room."""
        self._admit(request)
        self._requests.append(request)

    def put_outcomes(self, request: Request) -> None:
        """Have outcomes wait. Raises Overloaded when there is no room."""
        self._admit(request)
        self._outcomes.append(request)

    def _admit(self, request: Request) -> None:
        if self.waiting + len(request.events) > self._most_waiting:
            raise Overloaded(f"{self.waiting} transactions are waiting already; retry in a second")
        self.waiting += len(request.events)

    def take(self, now_ns: int) -> Next:
        """Take the next requests. The transactions of a request stay together.

        A request that is overdue, or would be by the time its turn comes, is shed now: deciding it by the rules is
        cheap and leaves time for the others.
        """
        overdue = [one for one in self._requests if one.due_ns < now_ns]
        if overdue:
            self._requests = [one for one in self._requests if one.due_ns >= now_ns]
        batch = self._take_batch()
        overdue += self._shed_now(now_ns, rows_of(batch))
        overdue, later = _first_of(overdue, MOST_SHED)
        self._requests += later
        self.waiting -= rows_of(overdue) + rows_of(batch)
        return Next(overdue, batch)

    def take_outcomes(self) -> list[Request]:
        """Take out the outcomes that are next."""
        taken, self._outcomes = _first_of(self._outcomes, MOST_OUTCOMES)
        self.waiting -= rows_of(taken)
        return taken

    def take_all(self) -> list[Request]:
        """Take out all requests."""
        taken, self._requests, self._outcomes, self.waiting = self._requests + self._outcomes, [], [], 0
        return taken

    def _take_batch(self) -> list[Request]:
        requests, self._requests = self._requests, []
        if rows_of(requests) <= self._most_rows:
            return requests
        requests.sort(key=_due)
        taken, self._requests = _first_of(requests, self._most_rows)
        return taken

    def _shed_now(self, now_ns: int, ahead: int) -> list[Request]:
        """Take the requests that would miss their deadline behind `ahead` transactions at the current pace."""
        kept: list[Request] = []
        shed: list[Request] = []
        for one in self._requests:
            if now_ns + (ahead + len(one.events)) * self._pace_ns <= one.due_ns:
                ahead += len(one.events)
                kept.append(one)
            else:
                one.due_ns = _OVERDUE_NS
                shed.append(one)
        self._requests = kept
        return shed

    def learn(self, turn_ns: int, batch_ns: int, rows: int, *, shed: bool) -> None:
        """Learn from a turn how large batches may be and how long a transaction takes in them.

        What else was done in the turn counts as much again as deciding at most, or the more were shed, the slower
        deciding would seem; and a batch that stalled says little about the next.
        """
        if turn_ns > LONG_TURN_NS and shed:
            self._most_rows = max(self._most_rows // 2, LEAST_ROWS)
        else:
            self._most_rows = min(self._most_rows * 2, MAX_ROWS)
        if rows >= MAX_ROWS // 2:
            pace_ns = min(turn_ns, 2 * batch_ns) / rows
            self._pace_ns += _LEARNING * (min(pace_ns, 2 * self._pace_ns) - self._pace_ns)


def _first_of(requests: list[Request], most: int) -> tuple[list[Request], list[Request]]:
    """The first requests with so many transactions, or some more, and the others."""
    rows = end = 0
    while end < len(requests) and rows < most:
        rows += len(requests[end].events)
        end += 1
    return requests[:end], requests[end:]


def rows_of(requests: Sequence[Request]) -> int:
    """How many transactions or outcomes these are together."""
    return sum(len(one.events) for one in requests)


def arrivals_of(requests: Sequence[Request]) -> Arrivals:
    """All of them in one batch."""
    return Arrivals(
        [event for one in requests for event in one.events],
        [one.received_ns for one in requests for _ in one.events],
        [one.due_ns for one in requests for _ in one.events],
    )
