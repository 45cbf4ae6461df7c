"""The rollout: what the deployment names is loaded beside what runs, then switched in between two batches."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Protocol

from sentinel.errors import NotReady, SentinelError
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import Change
from sentinel.record.audit import SENTINEL, By
from sentinel.record.feature_state import FeatureState
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import Lineup, load_lineup, with_inline_shadow
from sentinel.serve.opener import code_of
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.worker import Worker
from sentinel.telemetry.counters import Counters, Slot

LOOK_EVERY_S = 0.2
RENEW_EVERY_S = 600.0
"""How often to look whether a state holds much memory that it needs no longer."""

_RETRY_S = 2.0
_PATIENCE_S = 60.0
_LOADING = "still loading"
_log = logging.getLogger(__name__)


class Changing(Protocol):
    """Changes what is in force, for whoever asks."""

    def __call__(self, how: Change, by: By = SENTINEL) -> Awaitable[Deployment]:
        """What is in force then."""


class Rollout:
    """Keeps one process at the deployment in force. One that cannot be loaded changes nothing but `problem`.

    `read` says what is in force, from any thread; `change` changes it for whoever asks, from the event loop, and
    raises what `record.applied.apply` raises. `worker` is None in a process that scores vectors only. With
    `inline_shadow` the shadow is loaded beside what decides, for the answers (see `inline_shadow.py`).
    """

    def __init__(
        self, read: Callable[[], Deployment], change: Changing, registry: Registry,
        counters: Counters, *, inline_shadow: bool = False,
    ) -> None:  # fmt: skip
        self.read = read
        self.change = change
        self.registry = registry
        self.deployment = Deployment()
        """The deployment that this process runs."""

        self.lineup: Lineup | None = None
        self.problem: str | None = _LOADING
        self._counters = counters
        self._inline_shadow = inline_shadow
        self._reached = -1
        self._retry_at = self._renew_at = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollout", daemon=True)

    def load_first(self) -> None:
        """Load what is in force before anyone can ask; what is wrong with it is found again by the thread."""
        try:
            deployment = self.read()
            self.lineup = self._load(deployment, None)
            self.deployment = deployment
        except SentinelError as error:
            _log.warning("not ready: %s", error)

    def start(self, predictor: Predictor, worker: Worker | None) -> None:
        """Begin to follow, and switch these; call it from their event loop."""
        self._loop = asyncio.get_running_loop()
        self._predictor, self._worker = predictor, worker
        if self.lineup is not None:
            predictor.switch(self.lineup)
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    async def reach(self, revision: int, patience_s: float = 30.0) -> str | None:
        """Wait until this process is at that revision or beyond; None, or why it cannot get there."""
        self._wake.set()
        until = time.monotonic() + patience_s
        while self._reached < revision and time.monotonic() < until:
            await asyncio.sleep(0.002)
        if self._reached >= revision:
            return self.problem
        return self.problem or f"revision {revision} is not loaded after {patience_s:.0f} s"

    def first_lineup(self) -> Lineup:
        """The lineup to open the engine with, once it is loaded. Raises NotReady with the reason why it is not.

        It is that in force, unless that could not be loaded: then what was goes on.
        """
        until = time.monotonic() + _PATIENCE_S
        while self.lineup is None:
            if self.problem not in (None, _LOADING) or self._stopping.is_set() or time.monotonic() > until:
                raise NotReady(self.problem or _LOADING)
            time.sleep(0.005)
        in_force = self.read().revision
        while self._reached < in_force and not self._stopping.is_set() and time.monotonic() < until:
            time.sleep(0.005)
        return self.lineup

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except OSError as error:  # such as file descriptors used up
                _log.warning("the deployment could not be followed: %s; it is tried again", error)
            except Exception:
                _log.exception("the deployment could not be followed; it is tried again")
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()

    def _follow(self) -> None:
        deployment = None
        try:
            deployment = self.read()
            is_new = self._reached != deployment.revision
            if not self._is_at(deployment) and (is_new or time.monotonic() >= self._retry_at):
                self._retry_at = time.monotonic() + _RETRY_S
                self._go_to(deployment)
        except SentinelError as error:
            if self.problem != str(error):
                _log.warning("the deployment cannot be loaded; what runs goes on: %s", error)
            self.problem = self._predictor.reason = str(error)
            self._predictor.code = code_of(error)
        else:
            if deployment is not None and self._is_at(deployment):
                self.problem = None
        self._reached = deployment.revision if deployment else self._reached
        engine = self._worker.engine if self._worker else None
        if self._worker is not None and engine is not None:
            self._look_after_memory(self._worker, engine)

    def _is_at(self, deployment: Deployment) -> bool:
        engine = self._worker.engine if self._worker else None
        is_loaded = self.lineup is not None and self.deployment == deployment
        return is_loaded and (engine is None or engine.lineup is self.lineup)

    def _go_to(self, deployment: Deployment) -> None:
        before = self.lineup
        lineup = before if before is not None and self.deployment == deployment else self._load(deployment, before)
        if self._worker is not None and self._worker.engine is not None:
            self._switch_engine(self._worker, self._worker.engine, lineup)
        if lineup is before:
            return
        switched: Future[None] = Future()
        self._loop.call_soon_threadsafe(self._switch_predictor, lineup, switched)
        switched.result()
        self.lineup, self.deployment = lineup, deployment
        if before is not None and before.champion.version != lineup.champion.version:
            self._counters.add(Slot.SWAPS)
            _log.warning("%s is the champion now, %s was", lineup.champion.version, before.champion.version)

    def _load(self, deployment: Deployment, before: Lineup | None) -> Lineup:
        """The lineup, with the shadow beside it if that is asked for and can be: without it all goes on."""
        lineup = load_lineup(deployment, self.registry, before)
        if not self._inline_shadow:
            return lineup
        try:
            return with_inline_shadow(lineup, deployment, self.registry, before)
        except SentinelError as error:
            _log.warning("%s", error)
            return lineup

    def _switch_predictor(self, lineup: Lineup, switched: "Future[None]") -> None:
        self._predictor.switch(lineup)
        switched.set_result(None)

    def _switch_engine(self, worker: Worker, engine: Engine, lineup: Lineup) -> None:
        """Load the states beside the running ones, then switch; raises what either of them raises."""
        if engine.lineup is not lineup:
            self._switch_states(worker, engine, lineup, engine.prepare(lineup))

    def _look_after_memory(self, worker: Worker, engine: Engine) -> None:
        """Take memory for what comes next; once in a while, have what is needed no longer given back."""
        for state in [*engine.states.values()]:
            if state.store is not None:
                state.store.make_room()
        if self._renew_at <= time.monotonic() and not self._stopping.is_set():
            self._renew_at = time.monotonic() + RENEW_EVERY_S
            fresh = engine.renew()
            if fresh:
                self._switch_states(worker, engine, engine.lineup, fresh)

    def _switch_states(self, worker: Worker, engine: Engine, lineup: Lineup, fresh: dict[str, FeatureState]) -> None:
        while not engine.is_close(fresh):
            for state in fresh.values():
                state.follow(engine.journal.log)

        def switch(owned: Engine) -> bool:
            return owned.switch(lineup, fresh, time.time_ns() // 1000)

        before, until = [*engine.states.values()], time.monotonic() + _PATIENCE_S
        while not worker.between_batches(switch).result(timeout=60):
            if self._stopping.is_set() or time.monotonic() > until:
                raise NotReady("what was written last is not durable yet")
            time.sleep(0.005)
        for state in before:
            if state is not engine.states.get(state.id):
                state.discard()
