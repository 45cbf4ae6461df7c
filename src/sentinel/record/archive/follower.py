"""Keeps an archive up to date. `python -m sentinel.record.archive.follower --home H --archive A` runs as a process."""

import argparse
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sentinel.child_process import die_with_parent, yield_to_decisions
from sentinel.errors import SentinelError
from sentinel.record.applied import log_folder
from sentinel.record.archive.archiver import Archiver
from sentinel.record.archive.forgetting import forget_old
from sentinel.record.archive.place import FOLDER, PROGRAM, open_archive
from sentinel.record.lock import WriterLock
from sentinel.record.log_reader import FileLogReader
from sentinel.record.private import keep_private
from sentinel.record.problem import tell_problem

EVERY_S = 5.0
"""So often what is new is put into the archive."""

_FORGET_EVERY_S = _LOOK_OVER_S = 3_600.0
_LOOK_S, _RETRY_S = 0.25, 10.0
_REST_S = 0.003  # after a megabyte: the log has its turn at the disk


def follow(home: Path, address: str, keep_us: int | None, every_s: float, wanted: Callable[[], bool]) -> None:
    """Keep the archive of a home folder up to date while it is wanted, and once more at the end.

    After a fault all is opened anew, again and again; `problem_of` tells of it meanwhile.
    """

    def rest() -> None:
        if wanted():
            time.sleep(_REST_S)

    while wanted():
        try:
            lock = WriterLock.take(home / FOLDER)
            try:
                with closing(FileLogReader(log_folder(home))) as log:
                    _follow(home, Archiver(home, log, open_archive(address, home), rest), keep_us, every_s, wanted)
            finally:
                lock.release()
        except SentinelError as problem:
            tell_problem(home, PROGRAM, str(problem))
            _sleep(_RETRY_S, wanted)


def _follow(home: Path, archiver: Archiver, keep_us: int | None, every_s: float, wanted: Callable[[], bool]) -> None:
    look_at_s = time.monotonic() + _LOOK_OVER_S
    forget_at_s = 0.0
    while True:
        is_last = not wanted()
        more = archiver.step(time.time_ns() // 1_000)
        if keep_us is not None and time.monotonic() >= forget_at_s:
            forget_old(archiver.store, archiver.log_id, time.time_ns() // 1_000 - keep_us)
            forget_at_s = time.monotonic() + _FORGET_EVERY_S
        if time.monotonic() >= look_at_s:
            archiver.look_over()
            look_at_s = time.monotonic() + _LOOK_OVER_S
        tell_problem(home, PROGRAM, None)
        if is_last:
            return
        if not more:
            _sleep(every_s, wanted)


def _sleep(seconds: float, wanted: Callable[[], bool]) -> None:
    until_s = time.monotonic() + seconds
    while wanted() and time.monotonic() < until_s:
        time.sleep(_LOOK_S)


def main() -> int:
    """Run until SIGTERM, then put what there is; end at once when killed, or with the parent process."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.record.archive.follower", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--archive", required=True, help="s3://bucket/prefix, or a folder")
    parser.add_argument("--keep-us", type=int, help="for how long segments stay there; for ever without it")
    parser.add_argument("--every", type=float, default=EVERY_S, help="seconds between two steps")
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    yield_to_decisions()
    goes_on = die_with_parent(given.parent)
    follow(given.home, given.archive, given.keep_us, given.every, lambda: not asked and goes_on())
    return 0


if __name__ == "__main__":
    sys.exit(main())
