"""What a server keeps an eye on beside deciding: the rollout, the experiment, the shadow, drift, and the metrics."""

import asyncio
import gc
import logging
import time
from pathlib import Path
from typing import Any

import msgspec

from sentinel.errors import JournalProblem, SentinelError
from sentinel.policy.deployment import Deployment
from sentinel.policy.experiment import Guardrails, Tally, check_guardrails, compare
from sentinel.review.drift import DriftMonitor, DriftReport, DriftSettings
from sentinel.review.shadow_report import ShadowReport, shadow_report
from sentinel.review.shadow_scores import FILE, ShadowScores
from sentinel.serve.lineup import Lineup
from sentinel.serve.rollout import Rollout
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.worker import Worker
from sentinel.shadow.settings import ShadowSettings
from sentinel.shadow.supervisor import ShadowStatus, ShadowSupervisor
from sentinel.telemetry.counters import Counters, Slot
from sentinel.telemetry.prometheus import Facts, Gauge, model_info, render, snapshot

EVERY_S = 1.0
DRIFT_LINE_S = 30.0
_log = logging.getLogger(__name__)


class Watch:
    """Starts and stops everything of one process, and looks after it once a second.

    `leads` is true in one process of a server: it looks after the experiment and the shadow for all of them.
    """

    def __init__(
        self, home: Path, predictor: Predictor, worker: Worker | None, counters: Counters, drift: DriftSettings,
        shadow: ShadowSettings, *, leads: bool,
    ) -> None:  # fmt: skip
        self.predictor = predictor
        self.worker = worker
        self.counters = counters
        self.started_s = time.monotonic()
        self.rollout: Rollout
        self._home = home
        self._drift_settings = drift
        self._drift: DriftMonitor | None = None
        self._drift_told_s = 0.0
        self._leads = leads
        self._shadow = ShadowSupervisor(home, shadow)
        self._guardrails = Guardrails()
        self._task: asyncio.Task[None] | None = None
        predictor.observe = self.observe

    def start(self) -> None:
        """Begin; call it from the event loop."""
        self.rollout.start()
        if self.worker is not None:
            self.worker.start()
        self._task = asyncio.get_running_loop().create_task(self._look_around())

    def stop(self) -> None:
        """Answer what has arrived, save, end."""
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        self.rollout.stop()
        self._shadow.close()
        if self.worker is not None:
            self.worker.stop()
        self.predictor.stop()

    def follow(self, deployment: Deployment, lineup: Lineup) -> None:
        """Another lineup is in force: another reference to drift from, another shadow."""
        reference = lineup.champion.bundle.reference
        if self._drift is None or self._drift.reference is not reference:
            self._drift = DriftMonitor(reference, self._drift_settings)
        if self.worker is not None and self._leads:
            self._shadow.follow(deployment.shadow)

    def observe(self, rows: Any, scores: Any) -> None:
        """Remember rows (n, features) and scores (n,) for the comparison with the training history.

        Rows of another width are passed over: for a moment after a swap they are not those of the reference.
        """
        drift = self._drift
        if drift is not None and rows.shape[1] == len(drift.reference.features):
            drift.observe(rows, scores)

    def settle(self) -> None:
        """Have everything counted and observed that is answered; from the event loop's thread."""
        self.predictor.settle()
        engine = self.worker.engine if self.worker else None
        if engine is not None:
            engine.settle()

    def experiment_tallies(self) -> tuple[Tally, Tally]:
        """Both variants of the running experiment: transactions and vectors, of all processes."""
        self.settle()
        totals = self.counters.totals()
        of_vectors = [
            Tally(
                decisions=totals[Slot[f"EXPERIMENT_{name}_DECISIONS"]],
                reviewed=totals[Slot[f"EXPERIMENT_{name}_REVIEWS"]],
                blocked=totals[Slot[f"EXPERIMENT_{name}_BLOCKS"]],
                errors=totals[Slot[f"EXPERIMENT_{name}_ERRORS"]],
                late=totals[Slot[f"EXPERIMENT_{name}_LATE"]],
            )
            for name in "AB"
        ]
        engine = self.worker.engine if self.worker else None
        if engine is None:
            return of_vectors[0], of_vectors[1]
        return of_vectors[0] + engine.experiment.a, of_vectors[1] + engine.experiment.b

    @property
    def _design_effect(self) -> float:
        engine = self.worker.engine if self.worker else None
        return engine.experiment.design_effect if engine else 1.0

    def experiment_status(self) -> dict[str, Any]:
        """What `GET /admin/ab/status` shows."""
        deployment = self.rollout.deployment
        experiment = deployment.experiment
        a, b = self.experiment_tallies()
        shown: dict[str, Any] = {"version_a": deployment.champion}
        if experiment:
            shown["version_b"] = experiment.version
        shown |= {
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
            "comparison": compare(a, b, design_effect=self._design_effect) if experiment else None,
            "tallies": {"a": a, "b": b} if experiment else None,
            "design_effect": self._design_effect,
            "guardrails": self._guardrails,
        }
        return shown

    def shadow_status(self) -> ShadowStatus:
        """How the shadow is doing."""
        return self._shadow.status()

    def shadow_report(self) -> ShadowReport:
        """Champion and shadow compared. Raises JournalProblem when there never was a shadow."""
        if self.worker is None or self.worker.engine is None:
            raise JournalProblem("there is no journal open to compare with; retry when the server is ready")
        scores = ShadowScores(self._home / FILE)
        try:
            return shadow_report(self.worker.engine.journal, scores)
        finally:
            scores.close()

    def shadow_scores(self, transaction_id: str) -> list[dict[str, Any]]:
        """What each shadow said to a transaction."""
        if not (self._home / FILE).exists():
            return []
        scores = ShadowScores(self._home / FILE)
        try:
            return [
                {
                    "model_version": one.model_version,
                    "fraud_probability": one.fraud_probability,
                    "decision": one.decision,
                }
                for one in scores.scores_of(transaction_id)
            ]
        finally:
            scores.close()

    async def drift(self) -> DriftReport | dict[str, Any]:
        """Live against training, by feature and for the score; everything that was answered before is in it."""
        self.settle()
        return await asyncio.to_thread(self.drift_report)

    def drift_report(self) -> DriftReport | dict[str, Any]:
        """The same from any thread; what was answered a moment ago may not be in it."""
        if self._drift is None:
            return {"baseline_locked": False, "baseline_count": 0, "current_count": 0, "drift_detected": False}
        report = self._drift.report(time.monotonic())
        self.counters.set(Slot.DRIFT_DETECTED, int(report.drift_detected))
        self.counters.set(Slot.DRIFTED_FEATURES, report.drifted_features)
        return report

    def reset_drift(self) -> None:
        """Begin the live window anew."""
        self.settle()
        if self._drift is not None:
            self._drift.reset()
        self.counters.set(Slot.DRIFT_DETECTED, 0)
        self.counters.set(Slot.DRIFTED_FEATURES, 0)

    def metrics(self) -> dict[str, Any]:
        """The main figures, of all processes together."""
        self.settle()
        experiment, lineup = self.rollout.deployment.experiment, self.predictor.lineup
        facts = Facts(
            ab_active=experiment is not None,
            split_percent=round(experiment.split_percent) if experiment else 0,
            baseline_locked=self._drift is not None,
            uptime_s=round(time.monotonic() - self.started_s, 3),
            threshold=lineup.champion.thresholds.review if lineup else 0.0,
        )
        return snapshot(self.counters, facts)

    def prometheus(self) -> tuple[bytes, str]:
        """Everything that is measured, and its media type."""
        self.settle()
        gauges: list[Gauge] = []
        lineup = self.predictor.lineup
        if lineup is not None:
            detector = lineup.champion.bundle.manifest.detector
            roles = zip(("champion", "challenger"), lineup.contenders, strict=False)
            gauges += [model_info(role, one.version, detector) for role, one in roles]
            if self.rollout.deployment.shadow:
                gauges.append(model_info("shadow", self.rollout.deployment.shadow, detector))
        return render(self.counters, gauges)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._look()
            except (SentinelError, OSError) as error:  # a full disk must not end the watch
                _log.warning("%s", error)

    async def _look(self) -> None:
        waiting = self.predictor.waiting + (self.worker.waiting if self.worker else 0)
        self.counters.set(Slot.QUEUE_LENGTH, waiting)
        self.counters.set(Slot.POSTPONED, self.worker.postponed if self.worker else 0)
        if waiting == 0:
            gc.collect(1)  # here, as it leaves the older objects alone while there is something to do
        experiment = self.rollout.deployment.experiment
        if self._leads and experiment is not None:
            reason = check_guardrails(*self.experiment_tallies(), self._guardrails, design_effect=self._design_effect)
            if reason is not None:
                _log.warning("the experiment with %s is aborted: %s", experiment.version, reason)
                await asyncio.to_thread(
                    self.rollout.record.change, lambda deployment: deployment.aborted(reason, experiment.id)
                )
        report = await self.drift()
        if isinstance(report, DriftReport) and report.drift_detected:
            self._tell_drift(report)
        if self._leads:
            self._count_shadow()

    def _tell_drift(self, report: DriftReport) -> None:
        if time.monotonic() - self._drift_told_s < DRIFT_LINE_S:
            return
        self._drift_told_s = time.monotonic()
        drifted = [
            f"{one.name} ({', '.join(one.reasons)})" for one in (*report.per_feature, report.score) if one.drifted
        ]
        _log.warning("transactions differ from the training history: %s; see /admin/drift", "; ".join(drifted[:10]))

    def _count_shadow(self) -> None:
        status = self._shadow.status()
        told = {
            Slot.SHADOW_SCORED: status.scored,
            Slot.SHADOW_DROPPED: status.dropped,
            Slot.SHADOW_FAILED: status.failed,
        }
        for slot, value in told.items():
            self.counters.set(slot, value)


def drift_settings(window: int) -> DriftSettings:
    """The defaults with another window, in transactions."""
    return msgspec.structs.replace(DriftSettings(), window=window)


def shadow_settings(kept_scores: int) -> ShadowSettings:
    """The defaults with another number of scores that are kept."""
    return ShadowSettings(keep_scores=kept_scores)
