"""The notifier: a thread that looks at what operators have to know, and puts down a message when it begins."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from sentinel.errors import SentinelError
from sentinel.events.times import clock_us
from sentinel.policy.breaker import Circuit
from sentinel.record.problem import problem_of
from sentinel.record.written import occurrences
from sentinel.record.written.occurrences import Condition
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.opener import WHO as CASES
from sentinel.review.drift import DriftReport
from sentinel.serve.retrainer import Retrainer
from sentinel.serve.rollout import Rollout
from sentinel.serve.worker import Worker

LAG = 100_000
"""Entries that a view may be behind before somebody is told."""

LASTING_S = 60.0
"""How long a follower has to be stuck before somebody is told: most of what goes wrong with one passes."""

_EVERY_S = 2.0
_PAUSE_S = 30.0  # after a fault
_FOLLOWERS = ("projector", "snapshotter", "archiver", "online-view", "messenger", "explainer", CASES)
_log = logging.getLogger(__name__)


class Notifier:
    """Looks every other second; what it knows is in the database, so a restart tells nothing twice."""

    def __init__(
        self, home: Path, database_url: str | None, quiet_us: int, look: Callable[[], Sequence[Condition]]
    ) -> None:
        self._home, self._database_url, self._quiet_us, self._look = home, database_url, quiet_us, look
        self._since_s: dict[tuple[str, str], float] = {}
        self._noted: set[tuple[str, str]] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            try:
                with closing(WrittenDatabase(self._home, self._database_url)) as database:
                    while not self._stopping.wait(_EVERY_S):
                        self.step(database, time.monotonic(), clock_us())
            except SentinelError as problem:
                _log.warning("nobody can be told of what happens: %s", problem)
                self._stopping.wait(_PAUSE_S)
            except Exception:  # noqa: BLE001 - the server goes on, and so does this
                _log.exception("nobody can be told of what happens")
                self._stopping.wait(_PAUSE_S)

    def step(self, database: WrittenDatabase, now_s: float, now_us: int) -> None:
        """Put down what has begun since the last look. Raises StorageProblem."""
        found = {(one.kind, one.about): one for one in self._look()}
        self._since_s = {key: self._since_s.get(key, now_s) for key in found}
        lasting = {key: one for key, one in found.items() if now_s - self._since_s[key] >= _least_s(one)}
        if lasting.keys() == self._noted:
            return
        with database.writing() as writer:
            occurrences.note(writer, [*lasting.values()], self._quiet_us, now_us)
        self._noted = {*lasting}


def _least_s(one: Condition) -> float:
    """How long it has to hold before somebody is told."""
    return LASTING_S if one.kind == "follower.stuck" else 0.0


def conditions_of(
    home: Path, worker: Worker, rollout: Rollout, drift: Callable[[], DriftReport | None],
    view_lag: Callable[[], int | None], retrainer: Retrainer | None,
) -> list[Condition]:  # fmt: skip
    """What holds now, of all that operators have to know."""
    return [
        *_of_model(worker, drift()),
        *_of_rules(rollout),
        *_of_retraining(retrainer),
        *_of_followers(home, view_lag()),
    ]


def _of_model(worker: Worker, report: DriftReport | None) -> list[Condition]:
    found, engine = [], worker.engine
    if report is not None and report.drift_detected:
        text = f"{report.drifted_features} features differ from the training history; /admin/drift says how"
        found.append(Condition("drift.alarm", "transactions", text))
    if engine is not None and engine.models.circuit == Circuit.OPEN:
        text = "The circuit breaker is open: the model does not answer in time, and the fallback decides"
        found.append(Condition("breaker.open", "model", text))
    return found


def _of_rules(rollout: Rollout) -> list[Condition]:
    rules = rollout.deployment.rules
    if rules is None:
        return []
    return [
        Condition(
            "rule.demoted", f"{rules.draft}: {name}", f"The rule {name} of draft {rules.draft} is a shadow: it {why}"
        )
        for name, why in rules.demoted.items()
    ]


def _of_retraining(retrainer: Retrainer | None) -> list[Condition]:
    if retrainer is None or retrainer.last is None:
        return []
    how, why, begun_at = retrainer.last
    kind = {"failed": "retraining.failed", "refused": "gate.refused"}.get(how)
    return [] if kind is None else [Condition(kind, begun_at, f"The retraining begun at {begun_at} was {how}: {why}")]


def _of_followers(home: Path, lag: int | None) -> list[Condition]:
    problems = {name: problem_of(home, name) for name in _FOLLOWERS}
    if lag is not None and lag > LAG:
        problems["view"] = f"it is {lag:,} entries behind the log"
    return [
        Condition("follower.stuck", name, f"The {name} does not get on: {problem}")
        for name, problem in problems.items()
        if problem is not None
    ]
