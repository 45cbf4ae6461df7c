"""Model calls: with a deadline and a circuit breaker; without an answer the fallback rules decide."""

import logging
import threading
import time
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, finalize

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.policy.breaker import Breaker, BreakerSettings, Circuit

MAX_STUCK = 8
"""Threads of one model that may hang at the same time."""

_log = logging.getLogger(__name__)

CIRCUIT_OPEN = "circuit open"
TOO_SLOW = "model too slow"
FAILED = "model failed"
OVERLOADED = "overloaded"
FALLBACK_ONLY = "fallback only"
MODEL_FAULTS = (CIRCUIT_OPEN, TOO_SLOW, FAILED)
"""Reasons that speak against the model, and not against the load or the operator."""


class Model(Protocol):
    """What can be asked for probabilities (n,) of rows (n, features).

    One with a true attribute `is_bounded` computes and never waits, so it needs no thread to be left behind in.
    """

    def score(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The probabilities; may raise, hang, or give nonsense."""


class Limits(msgspec.Struct, frozen=True):
    """How long a model call may take, in seconds, and what is done to it to try the breaker."""

    deadline_s: float = 0.060
    inject_latency_s: float = 0.0
    force_open: bool = False
    breaker: BreakerSettings = BreakerSettings()


class ModelAnswer(NamedTuple):
    """Probabilities float32 (n,), or None with the reason why the model did not answer; the state of the breaker."""

    scores: NDArray[np.float32] | None
    degraded: str | None
    circuit: Circuit


class ModelCaller:
    """Asks models, each in a thread of its own and behind a breaker of its own.

    One that hangs costs its callers the deadline and no more; a failure counts against that model only. What is
    known of a model goes with it. Use it from one thread, which also stops it.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.openings = 0
        self.circuit = Circuit.OPEN if limits.force_open else Circuit.CLOSED
        """The worst state among the breakers of all models after the last call, `open` when it is forced."""

        self._guards: WeakKeyDictionary[Model, _Guard] = WeakKeyDictionary()

    def ask(self, model: Model, rows: NDArray[Any]) -> ModelAnswer:
        """The model's probabilities of rows (n, features), if it may be asked and gives them in time."""
        if self.limits.force_open:
            return ModelAnswer(None, CIRCUIT_OPEN, Circuit.OPEN)
        guard = self._guards.get(model)
        if guard is None:
            guard = self._guards[model] = _Guard(self.limits)
            finalize(model, self._let_go, guard).atexit = False
        before = guard.breaker.openings
        answer = guard.ask(model, rows)
        self.openings += guard.breaker.openings - before
        self.circuit = answer.circuit if len(self._guards) == 1 else self._worst()
        return answer

    def _worst(self) -> Circuit:
        found = {guard.breaker.circuit for guard in self._guards.values()}
        return next((one for one in (Circuit.OPEN, Circuit.HALF_OPEN) if one in found), Circuit.CLOSED)

    def _let_go(self, guard: "_Guard") -> None:
        """Its model is gone."""
        guard.stop()
        if not self.limits.force_open:
            self.circuit = self._worst()

    def stop(self) -> None:
        """Let the threads end."""
        for guard in self._guards.values():
            guard.stop()


class _Guard:
    """The breaker and the threads of one model, which it does not hold on to."""

    def __init__(self, limits: Limits) -> None:
        self.breaker = Breaker(limits.breaker)
        self._limits = limits
        self._thread = _ModelThread(limits.inject_latency_s)
        self._stuck: list[_ModelThread] = []

    def ask(self, model: Model, rows: NDArray[Any]) -> ModelAnswer:
        begun = time.monotonic()
        if not self.breaker.allows(begun):
            return ModelAnswer(None, CIRCUIT_OPEN, Circuit.OPEN)
        if getattr(model, "is_bounded", False) and not self._limits.inject_latency_s:
            return self._ask_here(model, rows, begun)
        if not self._ready():
            return self._failed(TOO_SLOW)
        call = self._thread.call(model, rows)
        if not call.done.acquire(timeout=self._limits.deadline_s):
            self._stuck.append(self._thread)
            return self._failed(TOO_SLOW)
        if call.scores is None:
            return self._failed(FAILED)
        self.breaker.succeeded()
        return ModelAnswer(call.scores, None, self.breaker.circuit)

    def _ask_here(self, model: Model, rows: NDArray[Any], begun: float) -> ModelAnswer:
        """Without the thread: nothing in this model can wait, so it is slow only where all else is too."""
        scores = _scores_of(model, rows)
        if scores is None:
            return self._failed(FAILED)
        now = time.monotonic()
        if now - begun > self._limits.deadline_s:
            self.breaker.failed(now)
        else:
            self.breaker.succeeded()
        return ModelAnswer(scores, None, self.breaker.circuit)

    def _failed(self, why: str) -> ModelAnswer:
        self.breaker.failed(time.monotonic())
        return ModelAnswer(None, why, self.breaker.circuit)

    def stop(self) -> None:
        for thread in [self._thread, *self._stuck]:
            thread.stop()

    def _ready(self) -> bool:
        """Whether a thread is free; one that hangs is replaced, as often as MAX_STUCK allows."""
        for thread in self._stuck:
            if not thread.busy and thread is not self._thread:
                thread.stop()
        self._stuck = [thread for thread in self._stuck if thread.busy]
        if not self._thread.busy:
            return True
        if len(self._stuck) >= MAX_STUCK:
            return False
        self._thread = _ModelThread(self._limits.inject_latency_s)
        return True


class _Call:
    __slots__ = ("done", "model", "rows", "scores")

    def __init__(self, model: Model, rows: NDArray[Any]) -> None:
        self.model = model
        self.rows = rows
        self.scores: NDArray[np.float32] | None = None
        self.done = threading.Lock()
        self.done.acquire()


class _ModelThread:
    """One thread that calls models, one call after the other."""

    def __init__(self, inject_latency_s: float) -> None:
        self.busy = False
        self._inject_latency_s = inject_latency_s
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=self._run, name="model", daemon=True).start()

    def call(self, model: Model, rows: NDArray[Any]) -> _Call:
        call = _Call(model, rows)
        self.busy = True
        self._calls.put(call)
        return call

    def stop(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                if self._inject_latency_s:
                    time.sleep(self._inject_latency_s)
                call.scores = _scores_of(call.model, call.rows)
            finally:
                self.busy = False
                call.done.release()
            del call  # or an idle thread would keep the model


def _scores_of(model: Model, rows: NDArray[Any]) -> NDArray[np.float32] | None:
    """The model's probabilities; None when it fails, or says anything else."""
    try:
        scores: Any = model.score(rows)
        return scores if _are_probabilities(scores, len(rows)) else None
    except Exception:  # noqa: BLE001 - whatever a model does, its caller must get an answer
        _log.exception("the model failed")
        return None


def _are_probabilities(scores: Any, n: int) -> bool:
    """Whether these are n numbers from 0 to 1; false for NaN, and for whatever else a model may say."""
    if not isinstance(scores, np.ndarray) or scores.shape != (n,) or scores.dtype.kind != "f":
        return False
    return bool(((scores >= 0) & (scores <= 1)).all())
