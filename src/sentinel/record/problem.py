"""What keeps a process that follows the log from its work: a file in the home folder while there is one."""

import contextlib
import logging
from pathlib import Path

_logger = logging.getLogger(__name__)


def problem_of(home: Path, who: str) -> str | None:
    """What keeps `who` (`projector`, `snapshotter`) from its work in this home folder, or None."""
    try:
        return _file(home, who).read_text()
    except FileNotFoundError:
        return None


def tell_problem(home: Path, who: str, problem: str | None) -> None:
    """Have others know of a problem, or that there is none any more; a new one is logged as well."""
    if problem is None:
        _file(home, who).unlink(missing_ok=True)
    elif problem_of(home, who) != problem:
        _logger.warning("the %s has a problem: %s", who, problem)
        with contextlib.suppress(OSError):  # a full disk may be the problem
            _file(home, who).write_text(problem)


def _file(home: Path, who: str) -> Path:
    return home / f"{who}.problem"
