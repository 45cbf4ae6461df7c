"""Stateless scoring: a feature vector in, a probability out. Whatever arrives in one turn of the loop is one batch."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np

from sentinel.errors import NotReady, Overloaded, SentinelError
from sentinel.policy.breaker import Circuit
from sentinel.policy.experiment import Tally
from sentinel.policy.model_call import FALLBACK_ONLY, MODEL_FAULTS, OVERLOADED, Limits, ModelAnswer, ModelCaller
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds
from sentinel.serve.ledger import SETTLE_ROWS, Ledger
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.vectors.score_cache import ScoreCache
from sentinel.telemetry.counters import Counters, Slot, Stage

ROWS_AT_ONCE = 512
SETTLE_S = 0.05
"""After so many seconds what was answered is counted, and observed, however little it is."""

MOST_REPEATS, LONGEST_REPEAT = 4096, 16_384
"""Bodies that came twice, of so many bytes at most: they are not read again."""
_SHOWN = ("allow", "review", "block")
_LIKELY = 0.5
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

Observe: TypeAlias = Callable[[Any, Any], None]


class _Waiting(msgspec.Struct, gc=False):
    body: bytes
    received_ns: int
    due_ns: int
    respond: Respond
    waits: bool = True
    key: str | None = None


class Repeat(msgspec.Struct, gc=False):
    """A body that came before: until when its score is good, what was decided in which state, and the answer to it."""

    until_ns: int
    action: Action
    circuit: Circuit
    answer: bytes
    score: bytes


class _Answered(NamedTuple):
    """A batch that is not counted yet; `rows` where the champion scored them."""

    latencies_us: list[int]
    levels: list[int]
    variant: str
    answer: ModelAnswer
    rows: Any = None


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
        self.reason = "still loading"
        self._observer = observe
        self.experiment = {"a": Tally(), "b": Tally()}
        self._experiment_id: str | None = None
        self.models = ModelCaller(limits)
        self._cache = cache
        self._max_waiting = max_waiting
        self._counters = counters
        self._ledger = Ledger(counters)
        self.repeats: dict[bytes, Repeat] = {}
        """Bodies that came twice; all are forgotten when none has come again for as long as a score is remembered."""

        self._waiting: list[_Waiting] = []
        self._unsettled: list[_Answered] = []
        self._unsettled_rows = 0
        self._hits: list[Action] = []
        self._settling: asyncio.TimerHandle | None = None
        self._repeat_ns = 0

    def switch(self, lineup: Lineup) -> None:
        """From the next vector on this lineup answers; those that wait are answered by the one they came to."""
        if self._waiting:
            self._answer()
        self.settle()
        self.lineup, self._answering = lineup, _for_vectors(lineup)
        self._cache.begin(len(lineup.champion.names))
        self.repeats.clear()
        found = self._answering.experiment.id if self._answering.experiment else None
        if found != self._experiment_id:
            self._experiment_id, self.experiment = found, {"a": Tally(), "b": Tally()}
            self._count_experiment()

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
        self._repeat_ns = received_ns
        self._note_hit(known.action)
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

    def _note_hit(self, action: Action) -> None:
        self._settle_soon()
        self._hits.append(action)

    def settle(self) -> None:
        """Count what has been answered, and have it observed.

        Call it from the loop's thread before you read the counters.
        """
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        if self.repeats and time.monotonic_ns() - self._repeat_ns > self._cache.ttl_ns:
            self.repeats.clear()
        hits, self._hits = self._hits, []
        if hits:
            self._counters.add(Slot.CACHE_HITS, len(hits))
            by_level = [hits.count(action) for action in ACTIONS]
            self._ledger.count_levels(by_level)
            self._ledger.count_variant(None, len(hits), by_level[-1])
        answered, self._unsettled, self._unsettled_rows = self._unsettled, [], 0
        if answered:
            self._count(answered)
            self._observe([one for one in answered if one.rows is not None])

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
        answers = _answers(champion, "a", ModelAnswer(None, None, self.models.circuit), cache_hit=True)
        for n in np.flatnonzero(until_ns).tolist():
            one, score = batch[n], float(scores[n])
            level = champion.thresholds.level(score)
            answer, text = answers[2 * level + (score >= _LIKELY)], _encode(score)
            self._note_hit(ACTIONS[level])
            repeat = Repeat(int(until_ns[n]), ACTIONS[level], self.models.circuit, answer, text)
            self._remember(one.body, repeat, now_ns)
            one.waits = False
            one.respond(answer % (text, (now_ns - one.received_ns) // 1000, 0))
        return _some(batch, rows, np.flatnonzero(until_ns == 0).tolist())

    def _remember(self, body: bytes, repeat: Repeat, now_ns: int) -> None:
        """Keep what belongs to a body that came twice, unless it is long; when there are too many, all make room."""
        if len(body) > LONGEST_REPEAT:
            return
        if len(self.repeats) >= MOST_REPEATS:
            self.repeats.clear()
        self.repeats[body] = repeat
        self._repeat_ns = now_ns

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
        if answer.scores is None:
            thresholds = contender.fallback.thresholds
            scores = contender.fallback.score(rows).tolist()
        else:
            thresholds, scores = contender.thresholds, answer.scores.tolist()
        levels = list(map(thresholds.level, scores))
        texts = _encode(scores)[1:-1].split(b",")
        answers, size, now_ns = _answers(contender, variant, answer), len(batch), time.monotonic_ns()
        latencies_us = [(now_ns - one.received_ns) // 1000 for one in batch]
        for one, score, level, text, latency_us in zip(batch, scores, levels, texts, latencies_us, strict=True):
            one.waits = False
            one.respond(answers[2 * level + (score >= _LIKELY)] % (text, latency_us, size))
        is_observed = answer.scores is not None and contender is lineup.champion
        self._settle_soon()
        self._unsettled.append(_Answered(latencies_us, levels, variant, answer, rows if is_observed else None))
        self._unsettled_rows += size
        if self._unsettled_rows >= SETTLE_ROWS:
            self.settle()

    def _observe(self, answered: list[_Answered]) -> None:
        if not answered or self._observer is None:
            return
        try:
            self._observer(
                np.concatenate([one.rows for one in answered]), np.concatenate([one.answer.scores for one in answered])
            )
        except Exception:  # noqa: BLE001 - they are answered, and counted
            _log.exception("vectors could not be observed")

    def _count(self, answered: list[_Answered]) -> None:
        ledger, counters = self._ledger, self._counters
        levels = [np.array(one.levels, np.uint8) for one in answered]
        ledger.count_levels(np.bincount(np.concatenate(levels), minlength=len(ACTIONS)).tolist())
        for one, of_one in zip(answered, levels, strict=True):
            counters.observe_batch(len(of_one))
            ledger.count_group(one.variant, of_one, one.answer.degraded)
        counters.observe_many(Stage.TOTAL, np.array([us for one in answered for us in one.latencies_us]))
        counters.add(Slot.CACHE_MISSES, sum(map(len, levels)))
        counters.set(Slot.CACHE_SIZE, len(self._cache))
        ledger.show_circuit(self.models)
        if self._experiment_id is not None:
            self._count_for_experiment(answered)

    def _count_for_experiment(self, answered: list[_Answered]) -> None:
        deadline_us = round(self.models.limits.deadline_s * 1e6)
        for one in answered:
            failed = one.answer.degraded in MODEL_FAULTS
            for latency_us, level in zip(one.latencies_us, one.levels, strict=True):
                self.experiment[one.variant].note_decision(ACTIONS[level], latency_us, deadline_us, failed)
        self._count_experiment()

    def _count_experiment(self) -> None:
        for name, tally in (("A", self.experiment["a"]), ("B", self.experiment["b"])):
            self._counters.set(Slot[f"EXPERIMENT_{name}_DECISIONS"], tally.decisions)
            self._counters.set(Slot[f"EXPERIMENT_{name}_REVIEWS"], tally.reviewed)
            self._counters.set(Slot[f"EXPERIMENT_{name}_BLOCKS"], tally.blocked)
            self._counters.set(Slot[f"EXPERIMENT_{name}_ERRORS"], tally.errors)
            self._counters.set(Slot[f"EXPERIMENT_{name}_LATE"], tally.late)


def _for_vectors(lineup: Lineup) -> Lineup:
    """The lineup, without a challenger that takes other features: the vectors are those of the champion."""
    if lineup.challenger is None or lineup.challenger.names == lineup.champion.names:
        return lineup
    return lineup._replace(challenger=None, experiment=None)


def _some(batch: list[_Waiting], rows: Any, where: list[int]) -> tuple[list[_Waiting], Any]:
    """Those in these places, with their rows."""
    return [batch[n] for n in where], rows[where]


def _answers(contender: Contender, variant: str, answer: ModelAnswer, *, cache_hit: bool = False) -> tuple[bytes, ...]:
    """Answer templates, indexed by 2 x level + predicted class.

    They are filled in with score, microseconds and batch size, all that differs.
    """
    thresholds = contender.fallback.thresholds if answer.degraded else contender.thresholds
    return _forms(
        thresholds, cache_hit, contender.version, _SHOWN_VARIANT[variant], answer.degraded, answer.circuit
    )  # fmt: skip


@lru_cache(maxsize=64)
def _forms(
    thresholds: Thresholds, cache_hit: bool, version: str, variant: str, degraded: str | None, circuit: str
) -> tuple[bytes, ...]:
    block = thresholds.review if thresholds.block is None else thresholds.block
    return tuple(
        _form(predicted_class, level, used, cache_hit, version, variant, degraded, circuit)
        for level, used in enumerate((thresholds.review, thresholds.review, block))
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
