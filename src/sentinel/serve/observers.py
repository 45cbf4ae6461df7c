"""The observers: who counts what was decided, beside the event loop. They follow the log, and no decision waits."""

import logging
import threading
import time
from typing import Any

from sentinel.errors import SentinelError
from sentinel.policy.deployment import Deployment, Experiment
from sentinel.policy.experiment import Tally
from sentinel.record.log import LogReader
from sentinel.review.drift import DriftReport, DriftSettings
from sentinel.review.drift_distribution import Distribution
from sentinel.review.drift_window import DriftWindow
from sentinel.review.experiment_tallies import ExperimentTallies
from sentinel.review.experiment_trail import Trail, TrailKeeper
from sentinel.serve.lineup import Lineup

_EVERY_S = 0.25
_PAUSE_S = 0.001  # after every page: the event loop's thread shall not wait for the interpreter's lock for long
_log = logging.getLogger(__name__)


class Observers:
    """The drift window of the champion, and the tallies of the experiment that runs. May be used from any thread.

    `log` is None in a process that scores vectors only.
    """

    def __init__(self, log: LogReader | None, drift: DriftSettings, deadline_s: float, false_alarm_cost: float) -> None:
        self._log = log
        self._settings = drift
        self._deadline_s = deadline_s
        self._false_alarm_cost = false_alarm_cost
        self._drift: DriftWindow | None = None
        self._tallies: ExperimentTallies | None = None
        self._lineup: Lineup | None = None
        self._wanted: tuple[Deployment, Lineup] | None = None
        self._busy = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observers", daemon=True)

    def start(self) -> None:
        """Begin to follow the log."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def follow(self, deployment: Deployment, lineup: Lineup) -> None:
        """Another lineup decides: another reference to drift from, or another experiment. Waits for nobody."""
        self._wanted = deployment, lineup

    def _adopt(self) -> None:
        """Watch what decides by now."""
        wanted = self._wanted
        if wanted is None or wanted[1] is self._lineup:
            return
        deployment, self._lineup = wanted
        champion, experiment = self._lineup.champion, deployment.experiment
        if self._drift is None or self._drift.model_version != champion.version:
            self._drift = DriftWindow(champion.bundle.reference, champion.version, self._settings, self._log)
        if experiment is None or self._log is None:
            self._tallies = None
        elif self._tallies is None or self._tallies.experiment != experiment.id:
            schema = champion.bundle.manifest.plan.schema
            self._tallies = ExperimentTallies(self._log, experiment, schema, self._deadline_s, self._false_alarm_cost)

    def observe(self, rows: Any, scores: Any) -> None:
        """Take vectors (n, features) that the champion scored, which are in no log, and the scores (n,)."""
        drift = self._drift
        if drift is not None:
            drift.observe(rows, scores)

    def catch_up(self) -> None:
        """Take what is durable by now. Never call it in the event loop: it may take a while, and so may the lock."""
        with self._busy:
            self._adopt()
        for one in (self._drift, self._tallies):
            while one is not None and not self._stopping.is_set():
                with self._busy:
                    if not one.follow():
                        break
                time.sleep(_PAUSE_S)

    def tallies(self, experiment: Experiment | None) -> tuple[Tally, Tally, float]:
        """Both variants of this experiment, and its design effect; nothing yet while another one is followed."""
        found = self._tallies
        if found is None or experiment is None or found.experiment != experiment.id:
            return Tally(), Tally(), 1.0
        return found.a, found.b, found.design_effect

    def trail(self, experiment: Experiment | None) -> Trail:
        """How the comparison of this experiment came about; empty while another one is followed."""
        found = self._tallies
        if found is None or experiment is None or found.experiment != experiment.id:
            return TrailKeeper().trail()
        return found.trail

    def drift_report(self) -> DriftReport | None:
        """Live against training, by feature and for the score; None before there is a champion."""
        drift = self._drift
        return None if drift is None else drift.report(time.monotonic())

    def drift_distribution(self, name: str) -> Distribution | None:
        """How a feature, or `score`, lay in training and lies now; None for another name, and before a champion."""
        drift = self._drift
        return None if drift is None else drift.distribution(name)

    def reset_drift(self) -> None:
        """Begin the live window anew."""
        with self._busy:
            if self._drift is not None:
                self._drift.reset()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            try:
                self.catch_up()
            except SentinelError as error:
                _log.warning("what was decided cannot be counted: %s", error)
            except Exception:
                _log.exception("what was decided could not be counted; it is tried again")
