"""The supervisor of a shadow: what is known of it, and whether it hangs."""

import contextlib
import logging
import os
import subprocess
from pathlib import Path

import msgspec

from sentinel.child_process import Child, Supervisor
from sentinel.errors import SentinelError
from sentinel.review.shadow_scores import FILE, ShadowProgress, ShadowScores
from sentinel.shadow.settings import ShadowSettings

_log = logging.getLogger(__name__)


class ShadowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the shadow is doing.

    `running` from its first sign of life on; `reason` is why it is not, or why it was last restarted. The counters
    are over all runs of this version, `lag` in events at its last report.
    """

    version: str | None = None
    running: bool = False
    pid: int | None = None
    restarts: int = 0
    reason: str | None = None
    scored: int = 0
    dropped: int = 0
    failed: int = 0
    lag: int = 0


class ShadowSupervisor(Supervisor):
    """Keeps the one shadow of a home folder running, a version at a time, and kills it when it hangs.

    What the shadow does, or fails to do, shows in `status` only.
    """

    def __init__(self, home: Path, settings: ShadowSettings | None = None) -> None:
        self._home = home
        self._settings = settings or ShadowSettings()
        super().__init__("shadow", self._settings.first_wait_s, self._settings.longest_wait_s)
        self._scores: ShadowScores | None = None
        self._progress: ShadowProgress | None = None
        self._beaten_s = 0.0

    def status(self) -> ShadowStatus:
        """How the shadow was doing a moment ago."""
        wanted, child, progress = self._wanted, self._child, self._progress
        if self._current != wanted:
            return ShadowStatus(version=wanted)
        status = ShadowStatus(
            version=wanted,
            running=child is not None and self._is_up,
            pid=child.pid if child else None,
            restarts=self._restarts,
            reason=self._reason,
        )
        if progress is None or progress.model_version != wanted:
            return status
        return msgspec.structs.replace(
            status, scored=progress.scored, dropped=progress.dropped, failed=progress.failed, lag=progress.lag
        )

    def _begin(self, wanted: str, now_s: float) -> Child:
        self._read(wanted)
        self._beaten_s = now_s
        arguments = ["--home", str(self._home), "--version", wanted]
        arguments += ["--settings", msgspec.json.encode(self._settings).decode()]
        # never a file: a shadow that complains without end must not fill the disk
        child = Child("sentinel.shadow", arguments, stderr=subprocess.PIPE)
        with contextlib.suppress(OSError):  # it does so itself, but only when it has loaded everything
            os.setpriority(os.PRIO_PROCESS, child.pid, 19)
        return child

    def _look(self, child: Child, wanted: str, now_s: float) -> str | None:
        before = self._beat
        self._read(wanted)
        if self._beat != before:
            self._beaten_s, self._is_up = now_s, True
        reason = child.death()
        patience_s = self._settings.hang_after_s if self._is_up else self._settings.start_s
        if reason is None and now_s - self._beaten_s > patience_s:
            return f"it gave no sign of life for {patience_s:g} s and was killed"
        return reason

    def _end(self) -> None:
        super()._end()
        scores, self._scores = self._scores, None
        if scores is not None:
            scores.close()

    @property
    def _beat(self) -> int:
        """Any change is a sign of life."""
        return self._progress.heartbeat_us if self._progress else 0

    def _read(self, version: str) -> None:
        """Read what the shadow last told; when nothing can be read, that is like silence."""
        try:
            self._scores = self._scores or ShadowScores(self._home / FILE)
            self._progress = self._scores.progress(version)
        except SentinelError as error:
            _log.debug("no news of the shadow: %s", error)
