"""The retrainer: a thread that has a child process retrain when it is time, and knows how that ended.

The child has the lowest priority and a bounded memory, and ends with the server; what it had done by then is written
down, and the next one goes on from there. The champion is never its to change.
"""

import logging
import resource
import subprocess
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel.child_process import Child
from sentinel.durable import make_folder, write_durably
from sentinel.errors import SentinelError
from sentinel.events.times import iso
from sentinel.policy.retraining import PAUSE_S, Ended, Triggers
from sentinel.record.log import Follower, Kind, LogReader

_EVERY_S = 1.0
_PATIENCE_S = 2.0
_PROGRAM = "sentinel.commands.retraining"
ENDS = tuple(one.name.lower() for one in Ended)
_log = logging.getLogger(__name__)


class Work(NamedTuple):
    """What is retrained: the detector, the history where one is given, and how much memory it may take (MB).

    With `warm_start` trees are added to the champion, too.
    """

    detector: str
    data: Path | None
    memory_mb: int
    warm_start: bool = False


class Begun(msgspec.Struct, frozen=True):
    """`retraining/triggered.json`: when the last one was begun here (Unix seconds), and where the log ended then."""

    at_s: float
    position: int


class Retrainer:
    """Has a home retrained. Nothing of it runs in the event loop's thread."""

    def __init__(self, home: Path, log: LogReader, triggers: Triggers, work: Work) -> None:
        self.drifted = False
        """Whether live transactions differ from the training history, as the watch saw it last."""

        self.ended: Counter[str] = Counter()
        """How many ended `done`, `refused` or `failed` since the start."""

        self.last: tuple[str, str, str] | None = None
        """How the newest one ended since the start, why, and when it was begun (ISO 8601)."""

        self.why: str | None = None
        """Why the one that runs was begun; None while none does."""

        self._home, self._log, self._triggers, self._work = home, log, triggers, work
        self._child: Child | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retrainer", daemon=True)
        self._file = home / "retraining" / "triggered.json"
        self._begun = self._read()
        self._labels, self._new_labels = Follower(log, self._begun.position), 0

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def stop(self) -> None:
        """End, with the child."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due = self._triggers.next_time(_now())
        while not self._stopping.wait(_EVERY_S):
            try:
                if self._look(due):
                    due = self._triggers.next_time(_now())
            except (SentinelError, OSError) as error:
                _log.warning("retraining is not looked after: %s", error)
        child, self._child = self._child, None
        if child is not None:
            child.finish(_PATIENCE_S)
            child.kill()

    def _look(self, due: datetime | None) -> bool:
        """See to the child, or begin one if there is a reason; whether a time of the schedule has been used."""
        if self._child is not None:
            self._see_to(self._child)
            return False
        self._count_labels()
        now = _now()
        paused = time.time() - self._begun.at_s < PAUSE_S
        reason = self._triggers.reason(due, now, paused, self.drifted, self._new_labels)
        if reason is not None:
            self._begin(reason)
        return reason == "schedule"

    def _see_to(self, child: Child) -> None:
        death = child.death()
        if death is None and _resident_mb(child.pid) > self._work.memory_mb:
            death = f"it took more than {self._work.memory_mb} MB and was killed"
        if death is None:
            return
        ended = Ended(child.exit_code) if child.exit_code in list(Ended) else Ended.FAILED
        how = ended.name.lower()
        self.ended[how] += 1
        self.last = how, death, iso(round(self._begun.at_s * 1_000_000))
        level = logging.WARNING if ended is Ended.FAILED else logging.INFO
        _log.log(level, "the retraining for %s ended: %s (%s)", self.why, how, death)
        child.kill()
        self._child, self.why = None, None

    def _begin(self, reason: str) -> None:
        self._begun = Begun(time.time(), self._log.durable)
        make_folder(self._file.parent)
        write_durably(self._file, msgspec.json.encode(self._begun))
        self._labels, self._new_labels = Follower(self._log, self._begun.position), 0
        arguments = ["--home", str(self._home), "--detector", self._work.detector]
        arguments += [] if self._work.data is None else ["--data", str(self._work.data)]
        arguments += ["--warm-start"] if self._work.warm_start else []
        self._child, self.why = Child(_PROGRAM, arguments, stderr=subprocess.PIPE), reason
        _log.info("a retraining begins: %s", reason)

    def _count_labels(self) -> None:
        if self._triggers.labels is None:
            return
        for page in self._labels.rest():
            self._new_labels += sum(record.rows for record in page if record.kind == Kind.OUTCOMES)

    def _read(self) -> Begun:
        """When the last one was begun; where none ever was, labels count from here on."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Begun)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return Begun(0.0, self._log.durable)


def _resident_mb(pid: int) -> float:
    """Memory that a process has in use; 0 where the system does not say.

    A limit of its address space would be none of this: the feature state reserves far more than it uses.
    """
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * resource.getpagesize() / (1 << 20)


def _now() -> datetime:
    return datetime.now(UTC)
