"""The queue: which requests come next, which are overdue, and how large a batch may be. Time is an argument.

Callers have their turns, however much one of them sends. Of requests whose caller wants them sooner than is usual,
what is too late because of what else that caller sent is refused, and a batch that is too long for its deadline is
decided late: nobody is judged without the model by asking for haste.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from sentinel.record.log import Taken
from sentinel.serve.batch import Answers, Arrivals, Event, Given
from sentinel.serve.shares import Shares

MAX_ROWS, LEAST_ROWS = 256, 32
"""Transactions in one batch. More would have the first wait for the last; when turns are long it is fewer."""

MOST_OUTCOMES = 64
"""Outcomes in one batch, or one request more: each may have to be looked up in a record of its own."""

MOST_EVENTS = 128
"""Context events in one batch, or one request more: transactions of the same turn wait for them."""

MOST_SHED = 1_024
"""Transactions that are decided by the rules in one turn, or one request more."""

LONG_TURN_NS = 12_000_000
"""A turn of the event loop that leaves little of a deadline of 60 ms to others."""

_FIRST_PACE_NS = 15_000.0
_LEARNING = 0.2  # weight of the last batch in the pace
_ROUND_WAY = 4  # times the pace: a transaction is read, decided, recorded and answered
_OVERDUE_NS = 0  # a deadline that has passed: the engine decides by the rules
_TAKEN_NS = 2**62  # never: once it was taken in time, its own size does not make it late
_due = operator.attrgetter("due_ns")


class Request(msgspec.Struct, gc=False):
    """What came in together, is taken together, and answered together: transactions, outcomes, or context events.

    It came in at `received_ns` and can wait for a model until `due_ns`, both of the monotonic clock. `behind` counts
    the transactions of its caller that waited when it was put into the queue. What was read from Kafka has the moment
    at which the newest of it was appended there, in microseconds since 1970; where the log notes how far inputs were
    read, `taken` says that, given the answers. `given` has by place what fronts have answered; None is nothing.
    """

    events: Sequence[Event]
    received_ns: int
    due_ns: int
    reply: Callable[[Answers], None]
    caller: str = ""
    behind: int = 0
    appended_us: int = 0
    taken: Callable[[Answers], Taken] | None = None
    given: Mapping[int, Given] | None = None


class Next(NamedTuple):
    """What to do now: decide those that have no time left, by the rules; then a batch that has; and refuse the others.

    `refused` are those in haste that have no time left because of what else their own caller sent.
    """

    overdue: list[Request]
    batch: list[Request]
    refused: list[Request]


class Queue:
    """Requests with transactions, callers in turns, of each the earliest due first; outcomes and events in order."""

    def __init__(self, most_waiting: int, usual_ns: int = 0) -> None:
        """A request that is to be decided sooner than `usual_ns` after it came in is in haste."""
        self._usual_ns = usual_ns
        self._shares = Shares(most_waiting, "transactions")
        self._requests: list[Request] = []
        self._overdue: list[Request] = []  # more than were shed in the last turn
        self._outcomes: list[Request] = []
        self._events: list[Request] = []
        self._most_rows = MAX_ROWS
        self._pace_ns = _FIRST_PACE_NS
        self._served: dict[str, int] = {}  # transactions by caller, since more wait than one batch takes

    @property
    def waiting(self) -> int:
        """Transactions, outcomes and context events that were put in and not taken out."""
        return self._shares.taken

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._requests or self._overdue or self._outcomes or self._events)

    def put(self, request: Request) -> None:
        """Have transactions wait. Raises Overloaded when there is no room."""
        request.behind = self._shares.take(request.caller, len(request.events))
        self._requests.append(request)

    def put_outcomes(self, request: Request) -> None:
        """Have outcomes wait. Raises Overloaded when there is no room."""
        self._shares.take(request.caller, len(request.events))
        self._outcomes.append(request)

    def put_events(self, request: Request) -> None:
        """Have context events wait. Raises Overloaded when there is no room."""
        self._shares.take(request.caller, len(request.events))
        self._events.append(request)

    def take(self, now_ns: int) -> Next:
        """Take the next requests. The transactions of a request stay together.

        A request that is overdue, or would be by the time its turn comes, is taken out now: deciding it by the rules,
        or refusing it, is cheap and leaves time for the others.
        """
        overdue, refused = self._overdue, list[Request]()
        late = [one for one in self._requests if one.due_ns < now_ns]
        if late:
            self._requests = [one for one in self._requests if one.due_ns >= now_ns]
            for one in late:
                more = self._shares.of(one.caller) - len(one.events)
                if self._is_own_doing(one, now_ns - one.due_ns, more):
                    refused.append(one)
                elif self._takes_too_long(one):
                    self._requests.append(one)
                else:
                    overdue.append(one)
        batch = self._take_batch()
        if self._requests:
            for one, is_own in self._late_behind(batch, now_ns):
                (refused if is_own else overdue).append(one)
        for one in batch:
            one.due_ns = _TAKEN_NS
        overdue, self._overdue = _first_of(overdue, MOST_SHED)
        self._give_back(overdue, batch, refused)
        return Next(overdue, batch, refused)

    def take_outcomes(self) -> list[Request]:
        """Take out the outcomes that are next."""
        taken, self._outcomes = _first_of(self._outcomes, MOST_OUTCOMES)
        self._give_back(taken)
        return taken

    def take_events(self) -> list[Request]:
        """Take out the context events that are next."""
        taken, self._events = _first_of(self._events, MOST_EVENTS)
        self._give_back(taken)
        return taken

    def take_all(self) -> list[Request]:
        """Take out all requests."""
        taken = self._requests + self._overdue + self._outcomes + self._events
        self._requests, self._overdue, self._outcomes, self._events = [], [], [], []
        self._shares.clear()
        return taken

    def _give_back(self, *taken: list[Request]) -> None:
        if not self:
            self._shares.clear()
            return
        for requests in taken:
            for one in requests:
                self._shares.give_back(one.caller, len(one.events))

    def _is_own_doing(self, one: Request, late_ns: float, more: int) -> bool:
        """Whether it is in haste, and not so late but for what else its caller sent: before it, and `more` after it."""
        return self._is_in_haste(one) and late_ns <= (one.behind + more) * _ROUND_WAY * self._pace_ns

    def _takes_too_long(self, one: Request) -> bool:
        """Whether a batch in haste takes longer by itself than it may wait: then it is late by its caller's choice."""
        takes_ns = (len(one.events) - 1) * _ROUND_WAY * self._pace_ns
        return self._is_in_haste(one) and takes_ns > one.due_ns - one.received_ns

    def _is_in_haste(self, one: Request) -> bool:
        return one.due_ns - one.received_ns < self._usual_ns

    def _take_batch(self) -> list[Request]:
        requests, self._requests = self._requests, []
        if rows_of(requests) <= self._most_rows:
            self._served.clear()
            return requests
        requests.sort(key=_due)
        requests = self._by_turns(requests)
        end, rows = 1, len(requests[0].events)
        callers = {requests[0].caller}
        for one in requests[1:]:
            callers.add(one.caller)
            if rows >= self._most_rows or (len(callers) > 1 and rows + len(one.events) > self._most_rows):
                break  # nobody waits for much of another's
            rows += len(one.events)
            end += 1
        for one in requests[:end]:
            self._served[one.caller] += len(one.events)
        self._requests = requests[end:]
        return requests[:end]

    def _by_turns(self, requests: list[Request]) -> list[Request]:
        """The same, so that all callers get equally far; a newcomer begins where the one served least is."""
        callers = {one.caller for one in requests}
        if len(callers) == 1:
            self._served = dict.fromkeys(callers, 0)
            return requests
        begin = min((self._served[one] for one in callers if one in self._served), default=0)
        self._served |= {one: max(begin, self._served.get(one, begin)) for one in callers}
        ahead = {one: self._served[one] for one in callers}
        keyed = []
        for n, one in enumerate(requests):
            keyed.append((ahead[one.caller], len(one.events), n))
            ahead[one.caller] += len(one.events)
        return [requests[n] for _, _, n in sorted(keyed)]

    def _late_behind(self, batch: list[Request], now_ns: int) -> list[tuple[Request, bool]]:
        """Take the requests that would miss their deadline behind this batch at the current pace.

        And whether each would be in time if its caller had sent nothing else.
        """
        kept: list[Request] = []
        late: list[tuple[Request, bool]] = []
        ahead = rows_of(batch)
        others = {one.caller: ahead for one in self._requests}  # ahead of the caller's first
        for one in batch:
            if one.caller in others:
                others[one.caller] -= len(one.events)
        seen = {one.caller for one in batch}
        for one in self._requests:
            if one.caller not in seen:
                seen.add(one.caller)
                others[one.caller] = ahead
            rows = len(one.events)
            if now_ns + (ahead + rows) * self._pace_ns <= one.due_ns:
                ahead += rows
                kept.append(one)
                continue
            late_ns = now_ns + (others[one.caller] + rows) * self._pace_ns - one.due_ns
            is_own = self._is_own_doing(one, late_ns, 0)
            if not is_own and self._takes_too_long(one):
                ahead += rows
                kept.append(one)
                continue
            late.append((one, is_own))
            one.due_ns = _OVERDUE_NS
        self._requests = kept
        return late

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
    """How many transactions, outcomes or context events these are together."""
    return sum(len(one.events) for one in requests)


def appended_us(requests: Sequence[Request]) -> int:
    """When the newest of them was appended in Kafka; 0 where one of them came another way, which has come now."""
    return max((one.appended_us for one in requests), default=0) if all(one.appended_us for one in requests) else 0


def answers_of(requests: Sequence[Request], answers: Answers) -> Iterator[tuple[Request, Answers]]:
    """Each of them with its own answers, of the answers to all of them together."""
    begin = 0
    for one in requests:
        end = begin + len(one.events)
        yield one, answers[begin:end]
        begin = end


def arrivals_of(requests: Sequence[Request]) -> Arrivals:
    """All of them in one batch."""
    return Arrivals(
        [event for one in requests for event in one.events],
        [one.received_ns for one in requests for _ in one.events],
        [one.due_ns for one in requests for _ in one.events],
        _given_in(requests),
    )


def _given_in(requests: Sequence[Request]) -> Mapping[int, Given]:
    """What fronts have answered, by the places among the transactions of all of these."""
    found: dict[int, Given] = {}
    begin = 0
    for one in requests:
        if one.given is not None:
            found |= {begin + place: given for place, given in one.given.items()}
        begin += len(one.events)
    return found
