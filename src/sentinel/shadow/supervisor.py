"""The supervisor: keeps the process of a shadow running, in a background thread."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from sentinel.errors import SentinelError
from sentinel.review.shadow_scores import FILE, ShadowProgress, ShadowScores
from sentinel.shadow.settings import REFUSED, ShadowSettings

_TICK_S = 0.25
_SETTLED_S = 60.0
_SAID_BYTES = 4_000
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
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


class ShadowSupervisor:
    """Starts, watches, restarts and replaces the one shadow of a home folder.

    No method waits for the process, except `close`. What the shadow does, or fails to do, shows in `status` only.
    """

    def __init__(self, home: Path, settings: ShadowSettings | None = None) -> None:
        self._home = home
        self._settings = settings or ShadowSettings()
        self._wanted: str | None = None
        self._closing = False
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = ShadowStatus()
        self._scores: ShadowScores | None = None
        self._child: _Child | None = None
        self._start_at_s = 0.0
        self._wait_s = self._settings.first_wait_s

    def follow(self, version: str | None) -> None:
        """Have this version run as the shadow from now on, and no other; None for no shadow."""
        self._wanted = version
        if self._thread is None and version is not None:
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()
        self._changed.set()

    def status(self) -> ShadowStatus:
        """How the shadow was doing a moment ago."""
        status, wanted = self._status, self._wanted
        return status if status.version == wanted else ShadowStatus(version=wanted)

    def close(self, patience_s: float = 5.0) -> None:
        """End the shadow and wait until it is gone."""
        self._closing = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(patience_s)

    def _run(self) -> None:
        while not self._closing:
            try:
                self._tick(self._wanted, time.monotonic())
            except (OSError, SentinelError) as error:
                _log.warning("the shadow cannot be looked after (%s); it is tried again", error)
                self._status = msgspec.structs.replace(self._status, reason=str(error))
                self._put_off(time.monotonic())
            self._changed.wait(_TICK_S if self._wanted or self._child else None)
            self._changed.clear()
        self._end()

    def _tick(self, wanted: str | None, now_s: float) -> None:
        if wanted != self._status.version:
            self._end()
            self._status = ShadowStatus(version=wanted)
            self._start_at_s, self._wait_s = now_s, self._settings.first_wait_s
        if wanted is None:
            return
        if self._child is not None:
            self._watch(self._child, wanted, now_s)
        elif now_s >= self._start_at_s:
            known = self._progress(wanted)
            self._child = _Child(self._home, wanted, self._settings, known.heartbeat_us if known else 0, now_s)

    def _watch(self, child: "_Child", wanted: str, now_s: float) -> None:
        progress = self._progress(wanted)
        child.look(progress.heartbeat_us if progress else 0, now_s)
        patience_s = self._settings.hang_after_s if child.is_up else self._settings.start_s
        reason = child.death()
        if reason is None and child.silent_s(now_s) > patience_s:
            reason = f"it gave no sign of life for {patience_s:g} s and was killed"
        status = msgspec.structs.replace(self._status, running=child.is_up and reason is None, pid=child.pid)
        if progress is not None:
            status = msgspec.structs.replace(
                status, scored=progress.scored, dropped=progress.dropped, failed=progress.failed, lag=progress.lag
            )
        self._status = status
        if reason is not None:
            self._restart(child, reason, now_s)

    def _restart(self, child: "_Child", reason: str, now_s: float) -> None:
        _log.warning("the shadow %s ended: %s", self._status.version, reason)
        self._end()
        if child.is_up and now_s - child.started_s > _SETTLED_S:
            self._wait_s = self._settings.first_wait_s
        if child.exit_code == REFUSED:
            self._wait_s = self._settings.longest_wait_s
        self._put_off(now_s)
        self._status = msgspec.structs.replace(
            self._status, pid=None, reason=reason, restarts=self._status.restarts + 1
        )

    def _put_off(self, now_s: float) -> None:
        self._start_at_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, self._settings.longest_wait_s)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
        scores, self._scores = self._scores, None
        if scores is not None:
            scores.close()

    def _progress(self, version: str) -> ShadowProgress | None:
        """What the shadow last told; None when nothing can be read, which is like silence."""
        try:
            self._scores = self._scores or ShadowScores(self._home / FILE)
            return self._scores.progress(version)
        except SentinelError as error:
            _log.debug("no news of the shadow: %s", error)
            return None


class _Child:
    """One run of the process, its signs of life, and the last it wrote to standard error."""

    def __init__(self, home: Path, version: str, settings: ShadowSettings, beat: int, now_s: float) -> None:
        command = [sys.executable, "-m", "sentinel.shadow", "--home", str(home), "--version", version]
        command += ["--settings", msgspec.json.encode(settings).decode(), "--parent", str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,  # never a file: a shadow that complains without end must not fill the disk
            bufsize=0,
            env=os.environ | _ONE_THREAD,
            process_group=0,  # no Ctrl-C for it; in a session of its own, Linux would weigh its niceness against itself
        )
        with contextlib.suppress(OSError):  # it does so itself, but only when it has loaded everything
            os.setpriority(os.PRIO_PROCESS, self._process.pid, 19)
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        self._errors = self._process.stderr
        os.set_blocking(self._errors.fileno(), False)
        self.pid = self._process.pid
        self.started_s = self._beaten_s = now_s
        self.is_up = False
        self._beat = beat
        self._said = b""

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def look(self, beat: int, now_s: float) -> None:
        """Note a sign of life, which is any change of `beat`, and what was written to standard error."""
        if beat != self._beat:
            self._beat, self._beaten_s, self.is_up = beat, now_s, True
        self._listen()

    def silent_s(self, now_s: float) -> float:
        """Seconds since the last sign of life, or since its start."""
        return now_s - self._beaten_s

    def death(self) -> str | None:
        """Why it is dead, or None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        self._listen()
        how = f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"
        lines = self._said.decode(errors="replace").split("\n")
        told = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{told} ({how})" if told else how

    def kill(self) -> None:
        """End it, however it is, and release what belonged to it."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._said = (self._said + os.read(self._errors.fileno(), 2**16))[-_SAID_BYTES:]
