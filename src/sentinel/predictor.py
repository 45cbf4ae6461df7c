"""Stateless scoring: a feature vector in, a probability out. Whatever arrives in one turn of the loop is one batch."""

import asyncio
import logging
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import numpy as np

from sentinel.counting import SHED, STATE_NUMBER, count_decisions
from sentinel.errors import BadBody, NotReady, Overloaded, SentinelError
from sentinel.lineup import Contender, Lineup
from sentinel.policy.breaker import Circuit
from sentinel.policy.experiment import Tally
from sentinel.policy.judge import FALLBACK_ONLY, MODEL_FAULTS, OVERLOADED, Judge, Limits, Verdict
from sentinel.policy.thresholds import Action
from sentinel.telemetry.counters import Counters, Slot, Stage

ROWS_AT_ONCE = 512
MOST_REPEATS, LONGEST_REPEAT = 4096, 16_384
"""Bodies that came twice, of so many bytes at most: they are not read again."""
_SHOWN = {Action.APPROVE: "allow", Action.REVIEW: "review", Action.BLOCK: "block"}
_SHOWN_VARIANT = {"a": "A", "b": "B"}
_MISSING = float("nan")
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


class Question(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body: values in the order of the model's features, or by name; null is missing.

    `key` (a card, say) keeps to one variant during an experiment; without it the vector itself does.
    """

    features: list[float | None] | dict[str, float | None]
    key: str | None = None


Tell: TypeAlias = Callable[[Prediction | SentinelError], None]
"""Who is told the answer, or that there is none."""


class _Waiting(msgspec.Struct, gc=False):
    bits: bytes
    key: str | None
    received_ns: int
    due_ns: int
    tell: Tell
    waits: bool = True


class Repeat(msgspec.Struct, gc=False):
    """A body that came before: its vector, what was decided in which state, and the answer but for the microseconds."""

    bits: bytes
    action: Action
    circuit: Circuit
    answer: bytes


class Predictor:
    """Scores vectors in the event loop, and remembers scores for a moment. Use it from the loop's thread only.

    A lone vector waits for nobody: it is scored at the end of the turn of the loop in which it came. The cache is
    emptied with every change of the lineup, and not used while an experiment runs. A challenger that takes other
    features than the champion answers no vectors, only transactions.
    """

    def __init__(self, limits: Limits, cache: "ScoreCache", max_waiting: int, counters: Counters) -> None:
        self.lineup: Lineup | None = None
        self._answering: Lineup | None = None
        self.reason = "still loading"
        self.observe: Callable[[Any, Any], None] = lambda _rows, _scores: None
        self.experiment = {"a": Tally(), "b": Tally()}
        self._experiment_id: str | None = None
        self.judge = Judge(limits)
        self._cache = cache
        self._max_waiting = max_waiting
        self._counters = counters
        self.repeats: dict[bytes, Repeat] = {}
        """Bodies that came twice."""

        self._waiting: list[_Waiting] = []
        self._hits: list[str] = []

    def switch(self, lineup: Lineup) -> None:
        """From the next vector on this lineup answers; those that wait are answered by the one they came to."""
        if self._waiting:
            self._answer()
        self.lineup, self._answering = lineup, _for_vectors(lineup)
        self._cache.clear()
        self.repeats.clear()
        found = self._answering.experiment.id if self._answering.experiment else None
        if found != self._experiment_id:
            self._experiment_id, self.experiment = found, {"a": Tally(), "b": Tally()}
            self._count_experiment()

    def stop(self) -> None:
        """End the model's thread."""
        self.judge.stop()

    @property
    def waiting(self) -> int:
        """Vectors that have no answer yet."""
        return len(self._waiting)

    def remembered(self, body: bytes) -> bytes | None:
        """The answer, as JSON, to a body that was answered from the cache before, while its score is remembered."""
        known = self.repeats.get(body)
        if known is None or known.circuit is not self.judge.circuit:
            return None
        received_ns = time.monotonic_ns()
        if self._cache.get(known.bits, received_ns) is None:
            return None
        self._note_hit(known.action)
        return known.answer % ((time.monotonic_ns() - received_ns) // 1000)

    def ask(self, question: Question, body: bytes, received_ns: int, due_ns: int, tell: Tell) -> Prediction | None:
        """The answer where it is remembered; else None, and `tell` is called with it within this turn of the loop.

        `body` is what the question was read from.

        Raises NotReady, Overloaded, and BadBody when the features are not those of the model.
        """
        lineup = self._answering
        if lineup is None:
            raise NotReady(f"No model can answer: {self.reason}")
        bits = vector_bits(question.features, lineup.champion)
        if lineup.experiment is None:
            score = self._cache.get(bits, received_ns)
            if score is not None:
                return self._from_cache(lineup.champion, score, bits, body, received_ns)
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"{len(self._waiting)} vectors are waiting already; retry in a second")
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._waiting.append(_Waiting(bits, question.key, received_ns, due_ns, tell))
        return None

    def _from_cache(
        self, champion: Contender, score: float, bits: bytes, body: bytes, received_ns: int
    ) -> Prediction:  # fmt: skip
        action, circuit = champion.thresholds.action(score), self.judge.circuit
        self._note_hit(action)
        part = _Part(champion, "a", Verdict(None, None, circuit), 0, time.monotonic_ns(), cache_hit=True)
        found = part.prediction(score, action, received_ns)
        if len(body) > LONGEST_REPEAT:
            return found
        if len(self.repeats) >= MOST_REPEATS:
            self.repeats.clear()
        timeless = _encode(msgspec.structs.replace(found, latency_us=0)).replace(b"%", b"%%")
        answer = timeless.replace(b'"latency_us":0', b'"latency_us":%d')
        self.repeats[body] = Repeat(bits, action, circuit, answer)
        return found

    def _note_hit(self, action: Action) -> None:
        if not self._hits:
            asyncio.get_running_loop().call_soon(self._count_hits)
        self._hits.append(action)

    def count_errors(self, n: int) -> None:
        """Count transactions and vectors that got no decision."""
        self._counters.add(Slot.ERRORS, n)

    def _count_hits(self) -> None:
        hits, self._hits = self._hits, []
        self._counters.add(Slot.CACHE_HITS, len(hits))
        count_decisions(self._counters, hits, ())

    def _answer(self) -> None:
        """Score what waits: the earliest due first, in batches that no one has to wait long for."""
        waiting, self._waiting = self._waiting, []
        lineup = self._answering
        assert lineup is not None  # noqa: S101 - a lineup is never taken away
        if len(waiting) > ROWS_AT_ONCE:
            waiting.sort(key=lambda one: one.due_ns)
        for begin in range(0, len(waiting), ROWS_AT_ONCE):
            batch = waiting[begin : begin + ROWS_AT_ONCE]
            if lineup.experiment is None:
                self._try_to_score(batch, lineup, "a")
                continue
            variants = [lineup.variant(one.bits if one.key is None else one.key) for one in batch]
            for variant in sorted(set(variants)):
                part = [one for one, found in zip(batch, variants, strict=True) if found == variant]
                self._try_to_score(part, lineup, variant)

    def _try_to_score(self, batch: list[_Waiting], lineup: Lineup, variant: str) -> None:
        """Whatever happens, nobody is left without an answer."""
        try:
            self._score(batch, lineup, variant)
        except Exception:  # noqa: BLE001 - a fault of ours must not leave clients without an answer
            _log.exception("a batch of %d vectors was not answered as it should", len(batch))
            for one in batch:
                if one.waits:
                    one.tell(SentinelError("Something went wrong inside; retry in a moment"))

    def _score(self, batch: list[_Waiting], lineup: Lineup, variant: str) -> None:
        contender = lineup.contender(variant)
        begun_ns = time.monotonic_ns()
        late = [one for one in batch if one.due_ns < begun_ns]
        if late:
            batch = [one for one in batch if one.due_ns >= begun_ns]
            self._tell(late, contender, variant, Verdict(None, OVERLOADED, self.judge.circuit))
        if not batch:
            return
        if lineup.fallback_only:
            verdict = Verdict(None, FALLBACK_ONLY, self.judge.circuit)
        else:
            rows = _rows(batch)
            verdict = self.judge.ask(contender.scorer, rows)
            if verdict.scores is not None and contender is lineup.champion:
                self.observe(rows, verdict.scores)
        if verdict.scores is not None and lineup.experiment is None:
            self._cache.put_many([one.bits for one in batch], verdict.scores.tolist(), begun_ns)
        self._counters.observe(Stage.MODEL, (time.monotonic_ns() - begun_ns) // 1000)
        self._tell(batch, contender, variant, verdict)

    def _tell(self, batch: list[_Waiting], contender: Contender, variant: str, verdict: Verdict) -> None:
        if verdict.scores is None:
            thresholds = contender.fallback.thresholds
            scores = contender.fallback.score(_rows(batch)).tolist()
        else:
            thresholds, scores = contender.thresholds, verdict.scores.tolist()
        actions = list(map(thresholds.action, scores))
        prediction = _Part(contender, variant, verdict, len(batch), time.monotonic_ns()).prediction
        for one, score, action in zip(batch, scores, actions, strict=True):
            one.waits = False
            one.tell(prediction(score, action, one.received_ns))
        self._count(batch, actions, variant, verdict)

    def _count(self, batch: list[_Waiting], actions: list[Action], variant: str, verdict: Verdict) -> None:
        count = self._counters
        now_ns = time.monotonic_ns()
        count.observe_batch(len(batch))
        count.observe_many(Stage.TOTAL, (now_ns - np.array([one.received_ns for one in batch])) // 1000)
        count_decisions(count, actions, [variant] * len(batch) if variant == "b" else ())
        count.add(Slot.CACHE_MISSES, len(batch))
        count.set(Slot.CACHE_SIZE, len(self._cache))
        count.set(Slot.BREAKER_STATE, STATE_NUMBER[verdict.circuit])
        count.set(Slot.BREAKER_OPENINGS, self.judge.openings)
        if verdict.degraded in SHED:
            count.add(SHED[verdict.degraded], len(batch))
        if self._experiment_id is not None:
            tally, deadline_us = self.experiment[variant], round(self.judge.limits.deadline_s * 1e6)
            for one, action in zip(batch, actions, strict=True):
                latency_us = (now_ns - one.received_ns) // 1000
                tally.note_decision(action, latency_us, deadline_us, verdict.degraded in MODEL_FAULTS)
            self._count_experiment()

    def _count_experiment(self) -> None:
        for name, tally in (("A", self.experiment["a"]), ("B", self.experiment["b"])):
            self._counters.set(Slot[f"EXPERIMENT_{name}_DECISIONS"], tally.decisions)
            self._counters.set(Slot[f"EXPERIMENT_{name}_REVIEWS"], tally.reviewed)
            self._counters.set(Slot[f"EXPERIMENT_{name}_BLOCKS"], tally.blocked)
            self._counters.set(Slot[f"EXPERIMENT_{name}_ERRORS"], tally.errors)
            self._counters.set(Slot[f"EXPERIMENT_{name}_LATE"], tally.late)


class ScoreCache:
    """Scores by the bits of their vectors: the last `capacity` that were used, for `ttl_s` seconds each."""

    def __init__(self, capacity: int, ttl_s: float) -> None:
        self._capacity = capacity
        self._ttl_ns = round(ttl_s * 1e9)
        self._kept: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept, those that are too old to be used included."""
        return len(self._kept)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def get(self, bits: bytes, now_ns: int) -> float | None:
        """The score of this very vector, unless it is too old."""
        found = self._kept.get(bits)
        if found is None:
            return None
        if now_ns > found[1]:
            del self._kept[bits]
            return None
        self._kept.move_to_end(bits)
        return found[0]

    def put_many(self, vectors: list[bytes], scores: list[float], now_ns: int) -> None:
        """Remember scores; the least recently used make room."""
        kept, until_ns = self._kept, now_ns + self._ttl_ns
        if self._capacity <= 0 or self._ttl_ns <= 0:
            return
        for bits, score in zip(vectors, scores, strict=True):
            if bits in kept:
                kept.move_to_end(bits)
            kept[bits] = (score, until_ns)
        while len(kept) > self._capacity:
            kept.popitem(last=False)


def vector_bits(features: Any, model: Contender) -> bytes:
    """A vector as float32, in the order of the model. Raises BadBody for another number or other names."""
    names = model.names
    if isinstance(features, dict):
        strangers, absent = features.keys() - set(names), [name for name in names if name not in features]
        if strangers or absent:
            told = [f"unknown {', '.join(sorted(strangers))}"] if strangers else []
            told += [f"missing {', '.join(absent)} (null where a value is not known)"] if absent else []
            raise BadBody(f"expected the {len(names)} features of model {model.version}: {'; '.join(told)}")
        features = [features[name] for name in names]
    elif len(features) != len(names):
        raise BadBody(f"expected {len(names)} features, got {len(features)}")
    try:
        return model.pack(*features)
    except (struct.error, OverflowError):
        return np.array([_MISSING if value is None else value for value in features], np.float32).tobytes()


def _for_vectors(lineup: Lineup) -> Lineup:
    """The lineup, without a challenger that takes other features: the vectors are those of the champion."""
    if lineup.challenger is None or lineup.challenger.names == lineup.champion.names:
        return lineup
    return lineup._replace(challenger=None, experiment=None)


def _rows(batch: list[_Waiting]) -> Any:
    return np.frombuffer(b"".join([one.bits for one in batch]), np.float32).reshape(len(batch), -1)


class _Part:
    """What the answers of one contender to one batch have in common."""

    def __init__(
        self, contender: Contender, variant: str, verdict: Verdict, batch_size: int, now_ns: int, *,
        cache_hit: bool = False,
    ) -> None:  # fmt: skip
        thresholds = contender.fallback.thresholds if verdict.degraded else contender.thresholds
        used = thresholds.review if thresholds.block is None else thresholds.block
        self._used = {Action.APPROVE: thresholds.review, Action.REVIEW: thresholds.review, Action.BLOCK: used}
        self._now_ns = now_ns
        self._batch_size = batch_size
        self._cache_hit = cache_hit
        self._version = contender.version
        self._variant = _SHOWN_VARIANT[variant]
        self._degraded = verdict.degraded
        self._circuit = verdict.circuit

    def prediction(self, score: float, action: Action, received_ns: int) -> Prediction:
        """The answer to one vector."""
        return Prediction(
            score,
            1 if score >= 0.5 else 0,
            _SHOWN[action],
            self._used[action],
            (self._now_ns - received_ns) // 1000,
            self._batch_size,
            self._cache_hit,
            self._version,
            self._variant,
            self._degraded,
            self._circuit,
        )
