"""What keeps a process that follows the log from its work: a file in the home folder while there is one."""

import contextlib
import logging
from pathlib import Path

_logger = logging.getLogger(__name__)
_told: dict[Path, str] = {}
"""What this process has logged last: where the file cannot be written, that alone tells what is new."""


def problem_of(home: Path, who: str) -> str | None:
    """What keeps `who` (`projector`, `snapshotter`) from its work in this home folder, or None as far as is known."""
    try:
        return _file(home, who).read_text()
    except OSError:  # there is none, or no descriptor is left to look with
        return None


def tell_problem(home: Path, who: str, problem: str | None) -> None:
    """Have others know of a problem, or that there is none any more; a new one is logged as well."""
    file = _file(home, who)
    if problem is None:
        _told.pop(file, None)
        with contextlib.suppress(OSError):  # the next time, once the disk can be written again
            file.unlink(missing_ok=True)
    elif _told.get(file) != problem:
        _told[file] = problem
        _logger.warning("the %s has a problem: %s", who, problem)
    if problem is not None and problem_of(home, who) != problem:
        with contextlib.suppress(OSError):  # a full disk may be the problem
            file.write_text(problem)


def _file(home: Path, who: str) -> Path:
    return home / f"{who}.problem"
