"""Following the deployment record: what it names is loaded beside what runs, then switched between two batches."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from sentinel.errors import NotReady, SentinelError
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment, DeploymentRecord
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import Lineup, load_lineup
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.worker import Worker
from sentinel.telemetry.counters import Counters, Slot

LOOK_EVERY_S = 0.2
_RETRY_S = 2.0
_PATIENCE_S = 60.0
LOADING = "still loading"
_log = logging.getLogger(__name__)


class Rollout:
    """Keeps one process at what the record says. A deployment that cannot be loaded changes nothing but `problem`.

    `worker` is None in a process that scores vectors only.
    """

    def __init__(
        self, record: DeploymentRecord, registry: Registry, predictor: Predictor, worker: Worker | None,
        counters: Counters, on_change: Callable[[Deployment, Lineup], None] = lambda _deployment, _lineup: None,
    ) -> None:  # fmt: skip
        self.record = record
        self.registry = registry
        self.deployment = Deployment()
        self.problem: str | None = LOADING
        self._predictor = predictor
        self._worker = worker
        self._counters = counters
        self._on_change = on_change
        self._lineup: Lineup | None = None
        self._reached = -1
        self._seen: tuple[int, int] | None = None
        self._retry_at = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollout", daemon=True)

    def load_first(self) -> None:
        """Load what the record names before anyone can ask; what is wrong with it is found again by the thread."""
        try:
            deployment = self.record.read()
            lineup = load_lineup(deployment, self.registry)
        except SentinelError as error:
            _log.warning("not ready: %s", error)
            return
        self._predictor.switch(lineup)
        self._lineup, self.deployment = lineup, deployment
        self._on_change(deployment, lineup)

    def start(self) -> None:
        """Begin to follow; call it from the event loop of the predictor."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stopping.set()
        self._wake.set()
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
        """The lineup to open the engine with, once it is loaded. Raises NotReady with the reason why it is not."""
        until = time.monotonic() + _PATIENCE_S
        while self._lineup is None:
            if self.problem not in (None, LOADING) or self._stopping.is_set() or time.monotonic() > until:
                raise NotReady(self.problem or LOADING)
            time.sleep(0.005)
        return self._lineup

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception:
                _log.exception("the deployment record could not be followed; it is tried again")
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()

    def _follow(self) -> None:
        mark = self.record.mark()
        known = mark == self._seen and not self._engine_differs()
        if known and (self.problem is None or time.monotonic() < self._retry_at):
            return
        self._seen, self._retry_at = mark, time.monotonic() + _RETRY_S
        deployment = None
        try:
            deployment = self.record.read()
            self._go_to(deployment)
        except SentinelError as error:
            if self.problem != str(error):
                _log.warning("the deployment cannot be loaded; what runs goes on: %s", error)
            self.problem = self._predictor.reason = str(error)
        else:
            self.problem = None
        self._reached = deployment.revision if deployment else self._reached

    def _engine_differs(self) -> bool:
        engine = self._worker.engine if self._worker else None
        return engine is not None and self._lineup is not None and not _same(engine.lineup, self._lineup)

    def _go_to(self, deployment: Deployment) -> None:
        before = self._lineup
        known = before is not None and self.deployment == deployment
        lineup = before if before is not None and known else load_lineup(deployment, self.registry, before)
        if self._worker is not None and self._worker.engine is not None:
            self._switch_engine(self._worker, self._worker.engine, lineup)
        if known:
            return
        switched: Future[None] = Future()
        self._loop.call_soon_threadsafe(self._switch_predictor, lineup, switched)
        switched.result()
        self._lineup, self.deployment = lineup, deployment
        if before is not None and before.champion.version != lineup.champion.version:
            self._counters.add(Slot.SWAPS)
            _log.warning("%s took over from %s", lineup.champion.version, before.champion.version)
        self._on_change(deployment, lineup)

    def _switch_predictor(self, lineup: Lineup, switched: "Future[None]") -> None:
        self._predictor.switch(lineup)
        switched.set_result(None)

    def _switch_engine(self, worker: Worker, engine: Engine, lineup: Lineup) -> None:
        """Load the states beside the running ones, then switch; raises what either of them raises."""
        if _same(engine.lineup, lineup):
            return
        fresh = engine.prepare(lineup)
        switch = worker.between_batches(lambda owned: owned.switch(lineup, fresh, time.time_ns() // 1000))
        switch.result(timeout=60)


def _same(one: Lineup, other: Lineup) -> bool:
    """A record that was deleted begins to count anew, so the revision alone does not tell."""
    versions = [[contender.version for contender in lineup.contenders] for lineup in (one, other)]
    return one.revision == other.revision and versions[0] == versions[1]
