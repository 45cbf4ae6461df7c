"""The watch: once a second it checks an experiment's guardrails and drift, and updates the metrics for both."""

import asyncio
import gc
import logging
import time
from typing import Any, NamedTuple

from sentinel.errors import SentinelError
from sentinel.policy.deployment import Experiment
from sentinel.policy.experiment import Guardrails, Tally, check_guardrails, compare
from sentinel.review.drift import DriftReport
from sentinel.review.experiment_trail import Trail
from sentinel.serve.archiver_process import ArchiverProcess
from sentinel.serve.case_opener_process import CaseOpenerProcess
from sentinel.serve.log_keeper import LogKeeper
from sentinel.serve.messenger_process import MessengerProcess
from sentinel.serve.notifier import Notifier
from sentinel.serve.observers import Observers
from sentinel.serve.online_process import OnlineProcess
from sentinel.serve.opener import STANDBY
from sentinel.serve.projector_process import ProjectorProcess
from sentinel.serve.reasons_process import ReasonsProcess
from sentinel.serve.retrainer import Retrainer
from sentinel.serve.review_timeouts import ReviewTimeouts
from sentinel.serve.rollout import Rollout
from sentinel.serve.snapshotter_process import SnapshotStatus, SnapshotterProcess
from sentinel.serve.vectors.counting import tally_of_vectors
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.worker import Worker
from sentinel.shadow.supervisor import ShadowSupervisor
from sentinel.telemetry.counters import Counters, Slot

EVERY_S = 1.0
DRIFT_LINE_S = 30.0
_log = logging.getLogger(__name__)


class Children(NamedTuple):
    """What follows the log, and what looks after it."""

    shadow: ShadowSupervisor
    projector: ProjectorProcess
    snapshotter: SnapshotterProcess
    log_keeper: LogKeeper | None
    retrainer: Retrainer | None = None
    reasons: ReasonsProcess | None = None
    online: OnlineProcess | None = None
    archiver: ArchiverProcess | None = None
    reviews: ReviewTimeouts | None = None
    case_opener: CaseOpenerProcess | None = None
    messenger: MessengerProcess | None = None
    notifier: Notifier | None = None


def waiting_in(predictor: Predictor, worker: Worker | None) -> int:
    """Transactions, outcomes and vectors of all callers that wait for their turn."""
    return predictor.waiting + (worker.queue.waiting if worker is not None else 0)


class Watch:
    """Starts and stops everything of one process that answers or follows, and looks after it.

    `worker` and `children`, what follows the log and looks after it, are None where only vectors are scored. `guards`
    is true in the one process of a server that looks after the experiment for all of them.
    """

    def __init__(
        self, rollout: Rollout, predictor: Predictor, worker: Worker | None, observers: Observers,
        children: Children | None, counters: Counters, *, guards: bool,
    ) -> None:  # fmt: skip
        self.rollout = rollout
        self.predictor = predictor
        self.worker = worker
        self.observers = observers
        self.shadow = children.shadow if children else None
        self._projector = children.projector if children else None
        self._snapshotter = children.snapshotter if children else None
        self.log_keeper = children.log_keeper if children else None
        self.retrainer = children.retrainer if children else None
        self.reasons = children.reasons if children else None
        self.archiver = children.archiver if children else None
        self.online = children.online if children else None
        self._reviews = children.reviews if children else None
        self.case_opener = children.case_opener if children else None
        self._messenger = children.messenger if children else None
        self._notifier = children.notifier if children else None
        self.online_lag: int | None = None
        """How many entries the online view was behind a moment ago; None while it is not known."""

        self.counters = counters
        self.view_lag: int | None = None
        """How many entries the view was behind a moment ago; None while it is not known."""

        self.snapshots: SnapshotStatus | None = None
        """How the snapshots were doing a moment ago; None before there is an engine."""

        self.leads = guards
        """Whether this process looks after what all of them share."""

        self._guardrails = Guardrails()
        self._drift_logged_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call it from the event loop."""
        self.rollout.start(self.predictor, self.worker)
        self.observers.start()
        if self.worker is not None:
            self.worker.start()
        if self._projector is not None:
            self._projector.start()
        if self.archiver is not None:
            self.archiver.start()
        if self.case_opener is not None:
            self.case_opener.start()
        if self._messenger is not None:
            self._messenger.start()
        if self._notifier is not None:
            self._notifier.start()
        if self.log_keeper is not None and self.worker is not None:
            self.log_keeper.start(self.worker)
        if self._reviews is not None and self.worker is not None:
            self._reviews.start(self.worker)
        if self.retrainer is not None:
            self.retrainer.start()
        self._task = asyncio.get_running_loop().create_task(self._look_around())

    def stop(self) -> None:
        """Answer what has arrived, save, end. Call it from another thread than the loop's."""
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        self.rollout.stop()
        if self._notifier is not None:
            self._notifier.stop()
        self.observers.stop()
        if self.retrainer is not None:
            self.retrainer.stop()
        if self.log_keeper is not None:
            self.log_keeper.stop()
        if self._reviews is not None:
            self._reviews.stop()
        if self.shadow is not None:
            self.shadow.close()
        if self.reasons is not None:
            self.reasons.close()
        if self.worker is not None:
            self.worker.stop()
        if self._snapshotter is not None:  # by now everything that was answered is durable
            self._snapshotter.close()
        if self.archiver is not None:  # with the last snapshots
            self.archiver.close()
        if self._projector is not None:
            self._projector.close()
        if self.case_opener is not None:
            self.case_opener.close()
        if self.online is not None:
            self.online.close()
        if self._messenger is not None:
            self._messenger.close()
        self.predictor.stop()

    def settle(self) -> None:
        """Count everything answered so far; from the event loop's thread."""
        self.predictor.settle()
        if self.worker is not None and self.worker.engine is not None:
            self.worker.engine.ledger.settle()

    async def catch_up(self) -> None:
        """Count and observe everything answered so far."""
        self.settle()
        self._follow()
        await asyncio.to_thread(self.observers.catch_up)

    async def experiment_status(self) -> dict[str, Any]:
        """What `GET /admin/ab/status` shows."""
        await self.catch_up()
        deployment = self.rollout.deployment
        experiment = deployment.experiment
        a, b, design_effect = self._tallies(experiment)
        shown: dict[str, Any] = {"version_a": deployment.champion}
        if experiment:
            shown["version_b"] = experiment.version
        return shown | {
            "ab_active": experiment is not None,
            "split_percent": experiment.split_percent if experiment else 0,
            "predictions_a": a.decisions,
            "predictions_b": b.decisions,
            "blocks_a": a.blocked,
            "blocks_b": b.blocked,
            "block_rate_a": a.blocked / a.decisions if a.decisions else 0.0,
            "block_rate_b": b.blocked / b.decisions if b.decisions else 0.0,
            "experiment": experiment,
            "ended": deployment.ended,
            "comparison": compare(a, b, design_effect=design_effect) if experiment else None,
            "tallies": {"a": a, "b": b} if experiment else None,
            "design_effect": design_effect,
            "guardrails": self._guardrails,
        }

    async def experiment_trail(self) -> Trail:
        """What `GET /admin/ab/trail` shows."""
        await self.catch_up()
        return self.observers.trail(self.rollout.deployment.experiment)

    def _tallies(self, experiment: Experiment | None) -> tuple[Tally, Tally, float]:
        """Both variants of the running experiment, transactions and the vectors of all processes."""
        totals = self.counters.totals()
        a, b, design_effect = self.observers.tallies(experiment)
        return tally_of_vectors(totals, "a") + a, tally_of_vectors(totals, "b") + b, design_effect

    async def drift(self) -> DriftReport | dict[str, Any]:
        """Live against training, by feature and for the score; everything that was answered before is in it."""
        await self.catch_up()
        report = await asyncio.to_thread(self.observers.drift_report)
        if report is None:
            return {"baseline_locked": False, "baseline_count": 0, "current_count": 0, "drift_detected": False}
        self.counters.set(Slot.DRIFT_DETECTED, int(report.drift_detected))
        self.counters.set(Slot.DRIFTED_FEATURES, report.drifted_features)
        return report

    async def reset_drift(self) -> None:
        """Reset the drift window."""
        await self.catch_up()
        await asyncio.to_thread(self.observers.reset_drift)
        self.counters.set(Slot.DRIFT_DETECTED, 0)
        self.counters.set(Slot.DRIFTED_FEATURES, 0)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._look()
            except (SentinelError, OSError) as error:  # a full disk must not end the watch
                _log.warning("%s", error)
            except Exception:
                _log.exception("the watch failed; it looks again")

    def _follow(self) -> None:
        """Point the observers and the shadow at the current deployment."""
        deployment, lineup = self.rollout.deployment, self.rollout.lineup
        if lineup is not None:
            self.observers.follow(deployment, lineup)
            if self.shadow is not None:
                self.shadow.follow(deployment.shadow)

    async def _look(self) -> None:
        waiting = waiting_in(self.predictor, self.worker)
        self.counters.set(Slot.QUEUE_LENGTH, waiting)
        if waiting == 0:
            gc.collect(1)  # here, as it leaves the older objects alone while there is something to do
        report = await self.drift()
        if isinstance(report, DriftReport):
            if self.retrainer is not None:
                self.retrainer.drifted = report.drift_detected
            if report.drift_detected:
                self._log_drift(report)
        if self.leads:
            await self._guard()
            await self._guard_rules()
        if self.shadow is not None:
            self._count_shadow(self.shadow)
        if self._projector is not None:
            self.view_lag = await asyncio.to_thread(self._projector.lag)
        await self._look_at_followers()

    async def _look_at_followers(self) -> None:
        """Begin those that keep a state once there is an engine: a start needs memory and disk for itself."""
        engine = self.worker.engine if self.worker else None
        if engine is not None and self._snapshotter is not None:
            self._snapshotter.start()
            if self.reasons is not None:
                self.reasons.start()
            states = list(engine.states.values())
            self.snapshots = await asyncio.to_thread(self._snapshotter.status, states)
        elif self.worker is not None and self.worker.code == STANDBY and self._snapshotter is not None:
            self._snapshotter.start()  # its own snapshots have to be new when it starts again
        if engine is not None and self.online is not None:
            self.online.start()
            detector = engine.lineup.champion.bundle.manifest.detector
            self.online_lag = await asyncio.to_thread(self.online.lag, detector)

    async def _guard(self) -> None:
        """End an experiment whose challenger does harm."""
        experiment = self.rollout.deployment.experiment
        if experiment is None:
            return
        a, b, design_effect = self._tallies(experiment)
        reason = check_guardrails(a, b, self._guardrails, design_effect=design_effect)
        if reason is not None:
            _log.warning("the experiment with %s is aborted: %s", experiment.version, reason)
            await self.rollout.change(lambda deployment: deployment.aborted(reason, experiment.id))

    async def _guard_rules(self) -> None:
        """Make a shadow of a rule that holds for far more than it was tried with."""
        engine, rules = self.worker.engine if self.worker else None, self.rollout.deployment.rules
        found = None if engine is None or rules is None else engine.rule_counts.runaway(rules)
        if rules is None or found is None:
            return
        name, why = found
        _log.warning("the rule %s is a shadow from now on: it %s", name, why)
        after = await self.rollout.change(lambda deployment: deployment.with_demoted(rules.draft, name, why))
        await self.rollout.reach(after.revision)

    def _log_drift(self, report: DriftReport) -> None:
        if time.monotonic() - self._drift_logged_s < DRIFT_LINE_S:
            return
        self._drift_logged_s = time.monotonic()
        drifted = [
            f"{one.name} ({', '.join(one.reasons)})" for one in (*report.per_feature, report.score) if one.drifted
        ]
        _log.warning("transactions differ from the training history: %s; see /admin/drift", "; ".join(drifted[:10]))

    def _count_shadow(self, shadow: ShadowSupervisor) -> None:
        status = shadow.status()
        self.counters.set(Slot.SHADOW_SCORED, status.scored)
        self.counters.set(Slot.SHADOW_DROPPED, status.dropped)
        self.counters.set(Slot.SHADOW_FAILED, status.failed)
