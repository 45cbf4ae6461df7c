"""`python -m sentinel.shadow --home H --version V`: one shadow as a process, until it is killed."""

import argparse
import contextlib
import ctypes
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path

import msgspec

from sentinel.errors import BundleProblem, SentinelError
from sentinel.shadow.scoring import Shadow
from sentinel.shadow.settings import REFUSED, ShadowSettings

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run until killed, or until the parent process is gone; the exit code, with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.shadow", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--settings", default="{}", help="JSON with fields of ShadowSettings")
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    try:
        settings = msgspec.json.decode(given.settings, type=ShadowSettings)
        _yield_to_decisions(settings)
        if given.parent is not None:
            _die_with_parent()
        _run(Shadow(given.home, given.version, settings), settings.poll_s, given.parent)
    except (BundleProblem, msgspec.MsgspecError) as error:
        return _reported(error, REFUSED)
    except SentinelError as error:
        return _reported(error, 1)
    return 0


def _run(shadow: Shadow, poll_s: float, parent: int | None) -> None:
    while parent is None or os.getppid() == parent:
        if not shadow.step():
            time.sleep(poll_s)


def _yield_to_decisions(settings: ShadowSettings) -> None:
    """Last in the queue for a processor, first to go when memory runs out, and no dump of it on the disk."""
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if settings.memory_mb is not None:
        most = settings.memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/oom_score_adj").write_text("1000")


def _die_with_parent() -> None:
    """Have the kernel kill this process with its parent, even while it hangs; elsewhere `_run` has to notice."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _reported(error: Exception, code: int) -> int:
    print(" ".join(str(error).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
