"""Processes that outlive the command that started them: told apart from others of the same number, and ended."""

import contextlib
import os
import signal
import time
from pathlib import Path

_STOP_S = 20.0


def began(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None where there is none, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_running(pid: int, since: int) -> bool:
    """Whether that very process runs."""
    return began(pid) == since


def end(pid: int, since: int, number: int) -> None:
    """End a process, by a signal first and by force after 20 seconds, and by force what it started and left behind."""
    if not is_running(pid, since):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    _wait(pid, since)
    with contextlib.suppress(ProcessLookupError):  # it leads a group of its own
        os.killpg(pid, signal.SIGKILL)
    _wait(pid, since)


def _wait(pid: int, since: int) -> None:
    until = time.monotonic() + _STOP_S
    while is_running(pid, since) and time.monotonic() < until:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # where it is a child of ours
        time.sleep(0.02)
