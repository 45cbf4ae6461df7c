"""Health: what orchestrators and operators see. Ready: decisions are given now, and can be recorded."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from sentinel import __version__
from sentinel.errors import SentinelError
from sentinel.events.times import iso
from sentinel.model.bundle import Manifest
from sentinel.record.applied import log_folder
from sentinel.record.coverage import Coverage
from sentinel.record.problem import problem_of
from sentinel.record.set_aside import named_in
from sentinel.record.views.place import ViewPlace
from sentinel.serve.log_keeper import LogKeeper
from sentinel.serve.watch import Watch, waiting_in
from sentinel.serve.worker import Worker
from sentinel.transport.http.companion import Stream
from sentinel.transport.http.replies import Reply

_encode = msgspec.json.encode
STREAM = "stream"
"""What comes in through Kafka cannot be taken."""

_SHOWN = 20  # transactions of the log that do not fit the schema; all are named by `sentinel log verify`


class Health:
    """Looks at what this process needs."""

    def __init__(self, home: Path, watch: Watch, place: ViewPlace, stream: Stream | None = None) -> None:
        """`stream` is what the engine reads beside HTTP."""
        self.started_s = time.monotonic()
        self._home = home
        self._place = place
        self._watch = watch
        self._reads = stream
        self._predictor, self._worker, self._keeper = watch.predictor, watch.worker, watch.log_keeper
        self._coverage = None if watch.worker is None else Coverage(watch.worker.log)

    @property
    def ready(self) -> bool:
        """Whether decisions are given now, of all that comes in."""
        return self._decides and self._stuck is None

    @property
    def _decides(self) -> bool:
        return self._predictor.lineup is not None and (self._worker is None or self._worker.engine is not None)

    @property
    def _stuck(self) -> str | None:
        return None if self._reads is None else self._reads.problem

    @property
    def reason(self) -> str | None:
        """Why not."""
        if self._decides:
            return self._stuck
        if self._predictor.lineup is None or self._worker is None:
            return self._predictor.reason
        return self._worker.reason

    @property
    def code(self) -> str | None:
        """The same in a word: `loading`, `model`, `log`, `standby`, `stream`, `settings`, `stopping` or `fault`."""
        if self._decides:
            return None if self._stuck is None else STREAM
        return self._predictor.code if self._predictor.lineup is None or self._worker is None else self._worker.code

    def readiness(self) -> Reply:
        """Whether decisions are given now. Everyone may ask: paths and messages are for `report`."""
        return Reply(200 if self.ready else 503, _encode({"ready": self.ready, "reason": self.code}))

    def startup(self) -> Reply:
        """Whether decisions were ever given since the start, for everyone too."""
        begun = self.ready or (self._worker is not None and self._worker.was_ready)
        return Reply(200 if begun else 503, _encode({"started": begun, "reason": None if begun else self.code}))

    def report(self) -> Reply:
        """Model, its history, log, view, snapshots and queue; 503 unless decisions are given."""
        facts: dict[str, Any] = {
            "status": "ready" if self.ready else "not ready",
            "reason": self.reason,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self.started_s, 1),
            "waiting": waiting_in(self._predictor, self._worker),
        }
        lineup, engine = self._predictor.lineup, self._worker.engine if self._worker else None
        if lineup:
            manifest = lineup.champion.bundle.manifest
            facts |= {"model_version": manifest.version, "detector": manifest.detector}
            facts["circuit_breaker_state"] = (engine.models if engine else self._predictor.models).circuit
            if lineup.rules is not None:
                facts["rules"] = {"draft": lineup.rules.draft, "demoted": lineup.rules.demoted}
            if self._coverage is not None:
                facts["history"] = self._history(self._coverage, manifest)
        if self._worker is not None:
            facts["log"] = self._log(self._worker)
            facts["view"] = self._view(self._worker)
            if self._watch.archiver is not None:
                facts["archive"] = self._watch.archiver.status._asdict()
            if self._reads is not None:
                facts["stream"] = self._reads.status
            if self._watch.case_opener is not None:
                opener = self._watch.case_opener
                facts["cases"] = {"status": opener.status, "lag": opener.lag()}
            if self._watch.online is not None:
                facts["online"] = {"status": self._watch.online.status, "lag": self._watch.online_lag}
            if self._watch.snapshots is not None:
                facts["snapshots"] = self._watch.snapshots._asdict()
        return Reply(200 if self.ready else 503, _encode(facts))

    def champion(self) -> dict[str, Any]:
        """Which model decides."""
        lineup = self._predictor.lineup
        return {
            "model_version": lineup.champion.version if lineup else None,
            "detector": lineup.champion.bundle.manifest.detector if lineup else None,
        }

    def _log(self, worker: Worker) -> dict[str, Any]:
        log = worker.log
        try:
            size = log.sizes
        except SentinelError as error:
            return {"status": str(error), "end": log.durable}
        return {
            "status": "ok" if worker.engine is not None else worker.reason,
            "id": log.log_id,
            "first": log.first,
            "end": log.durable,
            "segments": size.segments,
            "bytes": size.bytes,
            "oldest": iso(size.oldest_us),
            "age_s": max(time.time() - size.oldest_us / 1e6, 0.0),
            "set_aside": [msgspec.structs.asdict(one) for one in named_in(log_folder(self._home), log.first)[:_SHOWN]],
            "pruning": None if self._keeper is None else _pruning(self._keeper, size.oldest_us),
        }

    def _history(self, coverage: Coverage, manifest: Manifest) -> dict[str, Any]:
        """Where the champion's training history ends, and what its features lack for that."""
        try:
            warning = coverage.gap(manifest, time.time_ns() // 1000)
        except SentinelError as error:
            warning = str(error)
        return {"ends": iso(manifest.history.last_us), "warning": warning}

    def _view(self, worker: Worker) -> dict[str, Any]:
        try:
            with closing(self._place.open()) as view:
                position = view.position.position
        except SentinelError as error:
            return {"status": str(error)}
        lag = max(worker.log.durable - max(position, worker.log.first), 0)
        return {"status": problem_of(self._home, "projector") or "ok", "position": position, "lag": lag}


def _pruning(keeper: LogKeeper, oldest_us: int) -> dict[str, Any]:
    """When the log was looked at last, and pruned last since the start; and what holds it back."""
    last = keeper.last
    return {
        "looked_at": last.at if last else None,
        "pruned_at": keeper.pruned_at,
        "held_by": last.held_by if last else [],
        "problem": keeper.problem,
        "warning": keeper.warning(oldest_us),
    }
