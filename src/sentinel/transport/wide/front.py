"""The front: what waits is one turn, from the profiles in Redis to the answers, and nothing of it is kept but these."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import msgspec
import numpy as np

from sentinel.errors import BadBody, Conflict, SentinelError, StorageProblem
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import EventColumns
from sentinel.events.times import clock_us
from sentinel.events.wire import Transaction
from sentinel.policy.breaker import Breaker, BreakerSettings
from sentinel.policy.thresholds import ACTIONS
from sentinel.record.online.fronts import AsOf, FrontStore
from sentinel.serve.batch import AS_OF, NO_PROFILES, GivenDecision, with_rules
from sentinel.serve.ledger import Ledger
from sentinel.serve.shares import Shares
from sentinel.transport.wide.handed import Handed, decode_handed, encode_handed
from sentinel.transport.wide.judging import AsOfJudge, Judged, Key
from sentinel.transport.wide.seal import Seal

MOST_ROWS = 256
"""Transactions of one turn: one round trip to Redis, one call of the kernel, one of the model."""

_MOST_TURNS = 4  # that read or claim at the same time
_MOST_KNOWN = 50_000  # answers that are repeated without asking Redis
_LEAST_NS = 5_000_000  # for a call to Redis, however little time is left
_LONGEST_PAUSE_S = 2.0  # between looks for a Redis that is away
_WORDS = tuple(map(str, ACTIONS))
HandOver = Callable[[Sequence[tuple[str, bytes]]], Awaitable[list[str | None]]]
_INSIDE = "Something went wrong inside; this one got no answer"
_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Answer = GivenDecision | SentinelError


class Asked(msgspec.Struct, gc=False):
    """A transaction that waits. `key` is its first key, `is_timeless` whether it came without a time."""

    id: str
    key: str
    event: Transaction
    content: bytes
    is_timeless: bool
    received_ns: int
    due_ns: int
    caller: str
    reply: Callable[[Answer], None]


class Settled(msgspec.Struct, gc=False):
    """An answer that holds, and the message that is handed over before it is given; None where nothing is."""

    asked: Asked
    answer: Answer
    message: bytes | None


class Front:
    """Answers transactions from the event loop's thread; calls to Redis go through `threads`.

    The answer to an id is whichever was claimed for it first, by this front or another. `hand_over` writes messages,
    each with its key, and says of each what went wrong; `seal` is that of the topic they go to.
    """

    def __init__(
        self, judge: AsOfJudge, store: FrontStore, hand_over: HandOver, seal: Seal, threads: Executor,
        most_waiting: int, ledger: Ledger,
    ) -> None:  # fmt: skip
        self._store, self._hand_over, self._seal, self._threads = store, hand_over, seal, threads
        self.judge, self.ledger = judge, ledger
        self.next: AsOfJudge | None = None
        """What is in force, and waits for its profiles."""

        self._profiles_of = ""  # the feature state that Redis had profiles of in the last turn
        self._shares = Shares(most_waiting, "transactions")
        self._waiting: list[Asked] = []
        self._known: dict[str, GivenDecision | list[Asked]] = {}  # by id: its answer, or who else waits for that
        self._contents: dict[str, bytes] = {}
        self._turns: set[asyncio.Task[None]] = set()
        self._reading = 0
        self._is_due = False
        self._told_of_others = False
        self._redis = Breaker(BreakerSettings(longest_open_s=_LONGEST_PAUSE_S, probes=1))
        self.problem: str | None = None
        """Why there are no profiles at the moment."""
        self.age_ms: float | None = None
        """How old the profiles of the last turn were."""

    @property
    def waiting(self) -> int:
        """Transactions without an answer yet."""
        return self._shares.taken

    def put(self, asked: Asked) -> None:
        """Have a transaction answered; `asked.reply` is called in the loop. Raises Overloaded."""
        known = self._known.get(asked.id)
        if known is None:
            self._shares.take(asked.caller, 1)
            self._known[asked.id], self._contents[asked.id] = [], asked.content
            self._waiting.append(asked)
            self._begin_soon()
        elif not self._is_same(self._contents[asked.id], asked):
            asked.reply(_conflict(asked.id))
        elif isinstance(known, list):
            self._shares.take(asked.caller, 1)
            known.append(asked)
        else:
            asked.reply(_repeated(known))

    def switch(self, judge: AsOfJudge) -> None:
        """Have this judge decide from the next turn on, or as soon as Redis has profiles of its features.

        It does not wait where Redis has not those of the present judge either. From the loop's thread.
        """
        self.next = judge
        self._switch_if_ready()

    def _switch_if_ready(self) -> None:
        judge = self.next
        if judge is None or self._profiles_of == self.judge.state_id != judge.state_id:
            return
        while self._waiting:  # they were read by the schema of the judge before
            self._begin()
        self.judge, self.next = judge, None

    async def settled(self) -> None:
        """Wait until everything that was put in is answered."""
        while self._turns or self._waiting:
            await asyncio.sleep(0.01)

    def _begin_soon(self) -> None:
        if not self._is_due and self._waiting and self._reading < _MOST_TURNS:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a turn with what waits; when it has its answers claimed the next one may begin."""
        self._is_due = False
        batch, self._waiting = self._waiting[:MOST_ROWS], self._waiting[MOST_ROWS:]
        self._reading += 1
        turn = asyncio.get_running_loop().create_task(self._turn(batch, self.judge))
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        self._begin_soon()

    async def _turn(self, batch: list[Asked], judge: AsOfJudge) -> None:
        """Look up, judge, claim, hand over, answer."""
        left = {one.id: one for one in batch}
        try:
            try:
                settled = await self._settle(batch, judge)
            finally:
                self._reading -= 1
                self._switch_if_ready()
                self._begin_soon()
            for one, answer in zip(settled, await self._handed_over(settled), strict=True):
                self._answer(left.pop(one.asked.id), answer)
        except Exception:  # noqa: BLE001 - whoever waits gets an answer
            _log.exception("a turn was not answered")
        for asked in left.values():
            self._answer(asked, SentinelError(_INSIDE))

    async def _settle(self, batch: list[Asked], judge: AsOfJudge) -> list[Settled]:
        """The answers that hold: those that were claimed before, and new ones once they are claimed."""
        now_us, until_s = clock_us(), _until_s(batch)
        columns = judge.columns([one.event for one in batch], now_us)
        seen = await self._from_redis(self._store.read, [one.id for one in batch], judge.keys_of(columns), until_s)
        if seen is None:
            return self._decide(judge, batch, columns, None, now_us)
        self._profiles_of = seen.state_id
        settled = [self._claimed(one, seen.claims[one.id]) for one in batch if one.id in seen.claims]
        places = [n for n, one in enumerate(batch) if one.id not in seen.claims]
        if not places:
            return settled
        decided = self._decide(judge, [batch[n] for n in places], columns.rows(np.array(places)), seen, now_us)
        messages = {one.asked.id: one.message for one in decided}
        first = await self._from_redis(self._store.claim, messages, until_s) or {}
        return settled + [
            self._claimed(one.asked, first[one.asked.id]) if one.asked.id in first else one for one in decided
        ]

    async def _from_redis(self, call: Callable[..., _T], *arguments: object) -> _T | None:
        """What Redis says; None while it is away, which `problem` tells."""
        if not self._redis.allows(time.monotonic()):
            return None
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        except StorageProblem as fault:
            self._redis.failed(time.monotonic())
            self._tell(str(fault))
            return None
        self._redis.succeeded()
        return found

    def _tell(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            _log.error("the rules answer, without profiles: %s", problem)
        self.problem = problem

    def _decide(
        self, judge: AsOfJudge, batch: Sequence[Asked], columns: EventColumns, seen: AsOf | None, now_us: int
    ) -> list[Settled]:  # fmt: skip
        """Judge by the profiles that were seen, if they are of the model's features, else by the fallback."""
        profiles = None if seen is None else self._profiles_in(seen, judge, now_us)
        overdue = np.array([one.due_ns for one in batch], np.int64) < time.monotonic_ns()
        events = [one.event for one in batch]
        try:
            judged = judge.judge(events, columns, profiles, overdue, now_us)
        except StorageProblem as fault:  # a profile of another plan, or damaged
            self._tell(str(fault))
            profiles, judged = None, judge.judge(events, columns, None, overdue, now_us)
        if profiles is None:
            self.age_ms = None
        settled = [one for part in judged for one in self._settled(judge, batch, part)]
        self._count(batch, judged)
        return settled

    def _count(self, batch: Sequence[Asked], judged: Sequence[Judged]) -> None:
        for part in judged:
            self.ledger.count_group(None, part.levels, part.decider.degraded, is_fixed=part.decider.is_fixed)
        now_ns, received_ns = time.monotonic_ns(), [one.received_ns for one in batch]
        latencies_us = np.maximum(now_ns - np.array(received_ns, np.int64), 0) // 1000
        self.ledger.decided([part.levels for part in judged], latencies_us.astype(np.uint32), now_ns, received_ns)

    def _profiles_in(self, seen: AsOf, judge: AsOfJudge, now_us: int) -> Mapping[Key, bytes] | None:
        """The profiles, where they are of this model's features."""
        if seen.state_id != judge.state_id:
            self._tell(
                f"{self._store.name} has no profiles of the features of {judge.contender.version}; see that what "
                "writes them runs, with this model"
            )
            return None
        if not seen.as_of_us:
            self._tell(f"nothing is written to {self._store.name} yet; see that what keeps the profiles runs")
            return None
        self._tell(None)
        self.age_ms = max(now_us - seen.as_of_us, 0) / 1000
        return seen.profiles

    def _settled(self, judge: AsOfJudge, batch: Sequence[Asked], judged: Judged) -> Iterator[Settled]:
        """The answers to what was judged alike, with what is handed over."""
        decider, thresholds, now_ns = judged.decider, judged.thresholds, time.monotonic_ns()
        ruled, revision = {one.place: one for one in judged.ruled}, judge.lineup.revision
        rows = zip(judged.where.tolist(), judged.features.tolist(), judged.scores.tolist(), judged.levels.tolist(),
                   strict=True)  # fmt: skip
        for place, features, score, level in rows:
            asked = batch[place]
            given = GivenDecision(
                transaction_id=asked.id, decision=_WORDS[level], fraud_probability=score, threshold=thresholds.alarm,
                thresholds=thresholds, model_version=decider.model_version, detector=judge.detector,
                features_state=NO_PROFILES if self.age_ms is None else AS_OF, batch_size=len(batch),
                latency_us=max((now_ns - asked.received_ns) // 1000, 0), replayed=False, degraded=decider.degraded,
                circuit_breaker_state=decider.circuit, variant=None, decided_by=decider.decided_by,
                profiles_age_ms=self.age_ms,
            )  # fmt: skip
            if place in ruled:
                given = with_rules(given, ruled[place])
            handed = Handed(given, features, msgspec.Raw(asked.content), revision)
            yield Settled(asked, given, self._seal.sealed(encode_handed(handed)))

    def _claimed(self, asked: Asked, message: bytes) -> Settled:
        """The answer for which the id was claimed before.

        It is handed over again: whoever claimed it may have died before that. What no front has sealed is no answer.
        """
        try:
            handed = decode_handed(self._seal.opened(message))
        except BadBody:
            fault = _not_ours(self._store.name)
            if not self._told_of_others:  # once: whoever writes there may do so for every transaction
                _log.error("%s", fault)
                self._told_of_others = True
            return Settled(asked, fault, None)
        if not self._is_same(bytes(handed.transaction), asked):
            return Settled(asked, _conflict(asked.id), None)
        return Settled(asked, _repeated(handed.given), message)

    async def _handed_over(self, settled: Sequence[Settled]) -> list[Answer]:
        """The answers, once the topic has acknowledged them; a fault in the place of one that it has not."""
        sent = [(one.asked.key, one.message) for one in settled if one.message is not None]
        faults = iter(await self._hand_over(sent))
        return [one.answer if one.message is None else _unless(next(faults), one.answer) for one in settled]

    def _answer(self, asked: Asked, answer: Answer) -> None:
        """Answer a transaction, and whoever asked for the same meanwhile; only a decision is remembered."""
        others = self._known.pop(asked.id)
        if isinstance(answer, GivenDecision):
            self._known[asked.id] = answer
            self._forget_oldest()
        else:
            del self._contents[asked.id]
        self._shares.give_back(asked.caller, 1)
        asked.reply(answer)
        for one in others if isinstance(others, list) else ():
            self._shares.give_back(one.caller, 1)
            one.reply(_repeated(answer) if isinstance(answer, GivenDecision) else answer)

    def _forget_oldest(self) -> None:
        while len(self._known) > _MOST_KNOWN + self._shares.taken:
            oldest = next(name for name, known in self._known.items() if not isinstance(known, list))
            del self._known[oldest], self._contents[oldest]

    def _is_same(self, content: bytes, asked: Asked) -> bool:
        schema = self.judge.schema
        return schema.is_same(content, asked.content, schema.time if asked.is_timeless else None)


def _until_s(batch: Sequence[Asked]) -> float:
    """Until when Redis may be asked for this batch, on the monotonic clock in seconds."""
    return max(min(one.due_ns for one in batch), time.monotonic_ns() + _LEAST_NS) / 1e9


def _unless(fault: str | None, answer: Answer) -> Answer:
    """The answer, unless its message was not acknowledged."""
    if fault is None:
        return answer
    return StorageProblem(f"The transaction could not be handed over ({fault}), so it has no answer; send it again")


def _repeated(given: GivenDecision) -> GivenDecision:
    return msgspec.structs.replace(given, replayed=True)


def _not_ours(redis: str) -> StorageProblem:
    return StorageProblem(
        f"{redis} has an answer to this transaction that no front with our key has sealed, so nothing was answered; "
        "see that all fronts have the same SENTINEL_FRONTS_KEY_FILE, and who else may write there"
    )


def _conflict(name: str) -> Conflict:
    return Conflict(
        f"Transaction {quoted(name, 200)} was decided before with other content; send the same content again, or a "
        "new id"
    )
