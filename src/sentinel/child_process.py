"""Child processes: they run beside a server, are started again when they die, and end with it."""

import contextlib
import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType

from sentinel.errors import SentinelError

REFUSED = 3
"""Exit code of a child that an early restart will not cure."""

_TICK_S = 0.25
_SAID_BYTES = 4_000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_PR_SET_PDEATHSIG = 1
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
_log = logging.getLogger(__name__)


def die_with_parent(parent: int | None) -> Callable[[], bool]:
    """Have the kernel kill this process with its parent, even while it hangs; says whether to go on.

    Only Linux does that: elsewhere what is returned has to be asked. None is for a process that nothing watches.
    """
    if parent is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    return lambda: parent is None or os.getppid() == parent


def yield_to_decisions() -> None:
    """Last in the queue for a processor, first to go when memory runs out, and no dump of it on the disk."""
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text("1000")


class Child:
    """One run of a Python module as a process, and the last it wrote to standard error where that is a pipe.

    Its niceness is that from the first moment: to import what it needs takes seconds. It has this process' environment
    and what is given beside. With `talks` its standard input and output are pipes: see `send` and `hear`.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], stderr: int | None = None, *, niceness: int = 19,
        environment: Mapping[str, str] = MappingProxyType({}), talks: bool = False,
    ) -> None:  # fmt: skip
        stream = subprocess.PIPE if talks else subprocess.DEVNULL
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", module, *arguments, "--parent", str(os.getpid())],
            stdin=stream,
            stdout=stream,
            stderr=stderr,
            bufsize=0,
            env={**os.environ, **_ONE_THREAD, **environment},
            process_group=0,  # no Ctrl-C for it; in a session of its own, Linux would weigh its niceness against itself
        )
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)
        self._errors = self._process.stderr
        if self._errors is not None:
            os.set_blocking(self._errors.fileno(), False)
        self.pid = self._process.pid
        self._said = b""

    def hear(self, size: int) -> bytes:
        """So many bytes of what it says, or fewer at its end; waits for them."""
        said = self._process.stdout
        assert said is not None  # noqa: S101 - it talks
        parts: list[bytes] = []
        while size > 0 and (part := said.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        """Tell it something. Raises OSError when it is gone."""
        heard = self._process.stdin
        assert heard is not None  # noqa: S101 - it talks
        heard.write(data)

    def hang_up(self) -> None:
        """Close the pipes of one that talks; by who hears it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def death(self) -> str | None:
        """Why it is dead, or None while it lives; takes what it wrote, which would be in its way in the pipe."""
        code = self._process.poll()
        self._listen()
        if code is None:
            return None
        how = f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"
        lines = self._said.decode(errors="replace").split("\n")
        told = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{told} ({how})" if told else how

    def finish(self, patience_s: float) -> None:
        """Ask it to end, and wait until it has, so long at most."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)

    def kill(self) -> None:
        """End it, however it is, and release what belonged to it."""
        self._process.kill()
        self._process.wait()
        if self._errors is not None:
            self._errors.close()

    def _listen(self) -> None:
        if self._errors is not None:
            with contextlib.suppress(BlockingIOError):
                self._said = (self._said + os.read(self._errors.fileno(), 2**16))[-_SAID_BYTES:]


class Crew:
    """Several processes that do the same. One that dies is started again; the pause before is doubled after each death.

    One that has lived for longer than the longest pause begins with the shortest again. `start` gets the number of the
    process. Use it from the thread that made it: with that the kernel ends processes that asked for it.
    """

    def __init__(self, start: Callable[[int], BaseProcess], size: int, now_s: float) -> None:
        self._start = start
        self._running: list[BaseProcess | None] = [start(number) for number in range(size)]
        self._begun_s, self._begin_at_s = [now_s] * size, [now_s] * size
        self._wait_s = [_FIRST_WAIT_S] * size

    def look(self, now_s: float) -> None:
        """Start those again that are dead and whose pause is over."""
        for number, process in enumerate(self._running):
            if process is None:
                if now_s >= self._begin_at_s[number]:
                    self._running[number], self._begun_s[number] = self._start(number), now_s
            elif not process.is_alive():
                if now_s - self._begun_s[number] > _LONGEST_WAIT_S:
                    self._wait_s[number] = _FIRST_WAIT_S
                wait_s = self._wait_s[number]
                _log.warning(
                    "process %d of %d ended with code %s; it is started again in %g s",
                    number + 1, len(self._running), process.exitcode, wait_s,
                )  # fmt: skip
                process.close()
                self._running[number], self._begin_at_s[number] = None, now_s + wait_s
                self._wait_s[number] = min(2 * wait_s, _LONGEST_WAIT_S)

    def stop(self) -> None:
        """Ask all of them to end, and wait until they have."""
        alive = [process for process in self._running if process is not None]
        for process in alive:
            process.terminate()
        for process in alive:
            process.join()


class Supervisor(ABC):
    """Keeps one child running, in a background thread: starts, watches, restarts, replaces and ends it.

    No method waits for the child, except `close`. The pause before a restart is doubled after every early death.
    """

    def __init__(self, name: str, first_wait_s: float, longest_wait_s: float) -> None:
        self._name = name
        self._first_wait_s, self._longest_wait_s = first_wait_s, longest_wait_s
        self._wanted: str | None = None
        self._current: str | None = None
        self._child: Child | None = None
        self._is_up = False  # whether the child gave a sign of life
        self._restarts = 0
        self._reason: str | None = None  # of the last restart
        self._begun_s = self._begin_at_s = 0.0
        self._wait_s = first_wait_s
        self._closing = False
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, wanted: str | None) -> None:
        """Have a child run for this from now on, and for nothing else; None for no child."""
        self._wanted = wanted
        if self._thread is None and wanted is not None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._changed.set()

    def close(self, patience_s: float = 5.0) -> None:
        """End the child and wait until it is gone."""
        self._closing = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(patience_s)

    @abstractmethod
    def _begin(self, wanted: str, now_s: float) -> Child:
        """Start a child."""

    def _look(self, child: Child, wanted: str, now_s: float) -> str | None:  # noqa: ARG002
        """Why the child has to be started again, or None; `_is_up` is set here."""
        self._is_up = True
        return child.death()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._tick(self._wanted, time.monotonic())
            except (OSError, SentinelError) as error:
                _log.warning("the %s cannot be looked after (%s); it is tried again", self._name, error)
                self._reason = str(error)
                self._put_off(time.monotonic())
            self._changed.wait(_TICK_S if self._wanted or self._child else None)
            self._changed.clear()
        self._end()

    def _tick(self, wanted: str | None, now_s: float) -> None:
        if wanted != self._current:
            self._end()
            self._restarts, self._reason = 0, None
            self._begin_at_s, self._wait_s = now_s, self._first_wait_s
            self._current = wanted
        if wanted is None:
            return
        if self._child is not None:
            reason = self._look(self._child, wanted, now_s)
            if reason is not None:
                self._restart(self._child, reason, now_s)
        elif now_s >= self._begin_at_s:
            self._is_up, self._begun_s = False, now_s
            self._child = self._begin(wanted, now_s)

    def _restart(self, child: Child, reason: str, now_s: float) -> None:
        _log.warning("the %s %s ended: %s", self._name, self._current, reason)
        self._end()
        if self._is_up and now_s - self._begun_s > self._longest_wait_s:
            self._wait_s = self._first_wait_s
        if child.exit_code == REFUSED:
            self._wait_s = self._longest_wait_s
        self._put_off(now_s)
        self._reason = reason
        self._restarts += 1

    def _put_off(self, now_s: float) -> None:
        self._begin_at_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, self._longest_wait_s)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
