"""Stateless scoring: a feature vector in, a probability out. Whatever arrives in one turn of the loop is one batch."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
import numpy as np

from sentinel.errors import NotReady, Overloaded, SentinelError
from sentinel.policy.model_call import FALLBACK_ONLY, OVERLOADED, Limits, ModelAnswer, ModelCaller
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds
from sentinel.serve.ledger import SETTLE_ROWS
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.vectors.counting import AnsweredVectors, Observe, VectorCounts
from sentinel.serve.vectors.repeats import Repeat, Repeats
from sentinel.serve.vectors.score_cache import ScoreCache
from sentinel.telemetry.counters import Counters, Slot, Stage

ROWS_AT_ONCE = 512
SETTLE_S = 0.05
"""After so many seconds what was answered is counted, and observed, however little it is."""

_SHOWN = tuple("allow" if action is Action.APPROVE else str(action) for action in ACTIONS)
"""How an answer names the action of each level."""

LIKELY = 0.5
_SHOWN_VARIANT = {"a": "A", "b": "B"}
_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """The answer to a vector. `predicted_class` is 1 from a probability of 0.5 on, whatever the thresholds are.

    `batch_size` is 0 when the score was in the cache.
    """

    fraud_probability: float
    predicted_class: int
    decision: str
    threshold_used: float
    latency_us: int
    batch_size: int
    cache_hit: bool
    model_version: str
    variant: str
    degraded: str | None
    circuit_breaker_state: str


Respond: TypeAlias = Callable[[bytes | SentinelError], None]
"""Called with the answer, a `Prediction` in JSON, or with the error."""


class _Waiting(msgspec.Struct, gc=False):
    body: bytes
    received_ns: int
    due_ns: int
    respond: Respond
    waits: bool = True
    key: str | None = None


class Predictor:
    """Scores vectors in the event loop, and remembers scores for a moment. Use it from the loop's thread only.

    A single vector is not held back for a batch: it is scored at the end of the turn of the loop in which it came. The
    cache is emptied with every change of the lineup, and not used while an experiment runs. A challenger that takes
    other features than the champion answers no vectors, only transactions.
    """

    def __init__(
        self, limits: Limits, cache: ScoreCache, max_waiting: int, counters: Counters, observe: Observe | None = None
    ) -> None:
        """`observe` is given vectors float32 (n, features) that the champion scored, and the scores (n,)."""
        self.lineup: Lineup | None = None
        self._answering: Lineup | None = None
        self.reason, self.code = "still loading", "loading"
        self.models = ModelCaller(limits)
        self._cache = cache
        self._max_waiting = max_waiting
        self._counters = counters
        self.counts = VectorCounts(counters, self.models, observe)
        self.repeats = Repeats()
        self._waiting: list[_Waiting] = []
        self._settling: asyncio.TimerHandle | None = None

    def switch(self, lineup: Lineup) -> None:
        """From the next vector on this lineup answers; those that wait are answered by the one they came to."""
        if self._waiting:
            self._answer()
        self.settle()
        self.lineup, self._answering = lineup, _for_vectors(lineup)
        self._cache.begin(len(lineup.champion.names))
        self.repeats.clear()
        experiment = self._answering.experiment
        self.counts.begin(experiment.id if experiment else None)

    def stop(self) -> None:
        """End the model's thread."""
        self.models.stop()

    @property
    def waiting(self) -> int:
        """Vectors that have no answer yet."""
        return len(self._waiting)

    def remembered(self, body: bytes) -> bytes | None:
        """The answer, as JSON, to a body that was answered from the cache before, while its score is remembered."""
        known = self.repeats.get(body)
        if known is None or known.circuit is not self.models.circuit:
            return None
        received_ns = time.monotonic_ns()
        if received_ns > known.until_ns:
            return None
        self.repeats.used_ns = received_ns
        self._note_hit(known.level)
        return known.answer % (known.score, (time.monotonic_ns() - received_ns) // 1000, 0)

    def ask(self, body: bytes, received_ns: int, due_ns: int, respond: Respond) -> None:
        """Have the vector in this body scored; `respond` is called with the answer within this turn of the loop.

        Raises NotReady, Overloaded.
        """
        if self._answering is None:
            raise NotReady(f"No model can answer: {self.reason}")
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"{len(self._waiting)} vectors are waiting already; retry in a second")
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._waiting.append(_Waiting(body, received_ns, due_ns, respond))

    def _note_hit(self, level: int) -> None:
        self._settle_soon()
        self.counts.hits.append(level)

    def settle(self) -> None:
        """Count what has been answered, and have it observed.

        Call it from the loop's thread before you read the counters.
        """
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self.repeats.forget_idle(self._cache.ttl_ns)
        self.counts.settle(len(self._cache))

    def _settle_soon(self) -> None:
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_S, self.settle)

    def count_errors(self, n: int) -> None:
        """Count transactions and vectors that got no decision."""
        self._counters.add(Slot.ERRORS, n)

    def _answer(self) -> None:
        """Score what waits: the earliest due first, in batches small enough to keep waits short."""
        waiting, self._waiting = self._waiting, []
        lineup = self._answering
        assert lineup is not None  # noqa: S101 - a lineup is never taken away
        if len(waiting) > ROWS_AT_ONCE:
            waiting.sort(key=lambda one: one.due_ns)
        for begin in range(0, len(waiting), ROWS_AT_ONCE):
            batch = waiting[begin : begin + ROWS_AT_ONCE]
            try:
                self._answer_batch(batch, lineup)
            except Exception:  # noqa: BLE001 - a fault of ours must not leave clients without an answer
                _log.exception("a batch of %d vectors was not answered as it should", len(batch))
                for one in batch:
                    if one.waits:
                        self._refuse(one, SentinelError("Something went wrong inside; retry in a moment"))

    def _refuse(self, one: _Waiting, error: SentinelError) -> None:
        one.waits = False
        self.count_errors(1)
        one.respond(error)

    def _answer_batch(self, batch: list[_Waiting], lineup: Lineup) -> None:
        rows, unusual = lineup.champion.reader.rows([one.body for one in batch])
        if unusual:
            self._read(batch, rows, unusual, lineup.champion)
            batch, rows = _some(batch, rows, [n for n, one in enumerate(batch) if one.waits])
        if lineup.experiment is None:
            batch, rows = self._recall(batch, rows, lineup.champion)
            if batch:
                self._score(batch, rows, lineup, "a")
            return
        variants = [
            lineup.variant(row.tobytes() if one.key is None else one.key) for one, row in zip(batch, rows, strict=True)
        ]
        for variant in sorted(set(variants)):
            where = [n for n, found in enumerate(variants) if found == variant]
            self._score(*_some(batch, rows, where), lineup, variant)

    def _read(self, batch: list[_Waiting], rows: Any, unusual: list[int], champion: Contender) -> None:
        """Read what is not plain, and refuse what is no vector."""
        for n in unusual:
            try:
                vector = champion.reader.one(batch[n].body)
            except SentinelError as error:
                self._refuse(batch[n], error)
            else:
                rows[n] = np.frombuffer(vector.bits, np.float32)
                batch[n].key = vector.key

    def _recall(self, batch: list[_Waiting], rows: Any, champion: Contender) -> tuple[list[_Waiting], Any]:
        """Answer those whose score is remembered; the others."""
        now_ns = time.monotonic_ns()
        scores, until_ns, known = self._cache.find(rows, now_ns)
        if not known:
            return batch, rows
        from_cache = ModelAnswer(None, None, self.models.circuit)
        answers = _answers(champion, champion.thresholds, "a", from_cache, cache_hit=True)
        for n in np.flatnonzero(until_ns).tolist():
            one, score = batch[n], float(scores[n])
            level = champion.thresholds.level(score)
            answer, text = answers[2 * level + (score >= LIKELY)], _encode(score)
            self._note_hit(level)
            repeat = Repeat(int(until_ns[n]), level, self.models.circuit, answer, text)
            self.repeats.keep(one.body, repeat, now_ns)
            one.waits = False
            one.respond(answer % (text, (now_ns - one.received_ns) // 1000, 0))
        return _some(batch, rows, np.flatnonzero(until_ns == 0).tolist())

    def _score(self, batch: list[_Waiting], rows: Any, lineup: Lineup, variant: str) -> None:
        contender = lineup.contender(variant)
        begun_ns = time.monotonic_ns()
        overdue = [n for n, one in enumerate(batch) if one.due_ns < begun_ns]
        if overdue:
            answer = ModelAnswer(None, OVERLOADED, self.models.circuit)
            self._respond(*_some(batch, rows, overdue), lineup, variant, answer)
            batch, rows = _some(batch, rows, [n for n, one in enumerate(batch) if one.waits])
            if not batch:
                return
        if lineup.fallback_only:
            answer = ModelAnswer(None, FALLBACK_ONLY, self.models.circuit)
        else:
            answer = self.models.ask(contender.scorer, rows)
        if answer.scores is not None and lineup.experiment is None:
            self._cache.put(rows, answer.scores, begun_ns)
        self._counters.observe(Stage.MODEL, (time.monotonic_ns() - begun_ns) // 1000)
        self._respond(batch, rows, lineup, variant, answer)

    def _respond(self, batch: list[_Waiting], rows: Any, lineup: Lineup, variant: str, answer: ModelAnswer) -> None:
        contender = lineup.contender(variant)
        thresholds, found, is_fixed = contender.scores(answer, rows)
        scores = found.tolist()
        levels = list(map(thresholds.level, scores))
        texts = _encode(scores)[1:-1].split(b",")
        answers, size, now_ns = _answers(contender, thresholds, variant, answer), len(batch), time.monotonic_ns()
        latencies_us = [(now_ns - one.received_ns) // 1000 for one in batch]
        for one, score, level, text, latency_us in zip(batch, scores, levels, texts, latencies_us, strict=True):
            one.waits = False
            one.respond(answers[2 * level + (score >= LIKELY)] % (text, latency_us, size))
        is_observed = answer.scores is not None and contender is lineup.champion
        self._settle_soon()
        self.counts.note(
            AnsweredVectors(latencies_us, levels, variant, answer, is_fixed, rows if is_observed else None)
        )
        if self.counts.rows >= SETTLE_ROWS:
            self.settle()


def _for_vectors(lineup: Lineup) -> Lineup:
    """The lineup, without a challenger that takes other features: the vectors are those of the champion."""
    if lineup.challenger is None or lineup.challenger.names == lineup.champion.names:
        return lineup
    return lineup._replace(challenger=None, experiment=None)


def _some(batch: list[_Waiting], rows: Any, where: list[int]) -> tuple[list[_Waiting], Any]:
    """Those in these places, with their rows."""
    return [batch[n] for n in where], rows[where]


def _answers(
    contender: Contender, thresholds: Thresholds, variant: str, answer: ModelAnswer, *, cache_hit: bool = False
) -> tuple[bytes, ...]:
    """Answer templates, indexed by 2 x level + predicted class.

    They are filled in with score, microseconds and batch size, all that differs.
    """
    return _forms(
        thresholds, cache_hit, contender.version, _SHOWN_VARIANT[variant], answer.degraded, answer.circuit
    )  # fmt: skip


@lru_cache(maxsize=64)
def _forms(
    thresholds: Thresholds, cache_hit: bool, version: str, variant: str, degraded: str | None, circuit: str
) -> tuple[bytes, ...]:
    block = thresholds.review if thresholds.block is None else thresholds.block
    used = {Action.REVIEW: thresholds.review, Action.BLOCK: block}
    return tuple(
        _form(
            predicted_class, level, used.get(action, thresholds.alarm), cache_hit, version, variant, degraded, circuit
        )
        for level, action in enumerate(ACTIONS)
        for predicted_class in (0, 1)
    )


def _form(
    predicted_class: int, level: int, threshold: float, cache_hit: bool, version: str, variant: str,
    degraded: str | None, circuit: str,
) -> bytes:  # fmt: skip
    whole = _encode(
        Prediction(0.0, predicted_class, _SHOWN[level], threshold, 0, 0, cache_hit, version, variant, degraded, circuit)
    )
    open_form = whole.replace(b"%", b"%%")
    for name, zero, mark in (
        (b"fraud_probability", b"0.0", b"%b"),
        (b"latency_us", b"0", b"%d"),
        (b"batch_size", b"0", b"%d"),
    ):
        open_form = open_form.replace(b'"%b":%b' % (name, zero), b'"%b":%b' % (name, mark), 1)
    return open_form
