"""What is written down of retrainings: a folder each below `HOME/retraining`, one at a time."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from sentinel.durable import make_folder, write_durably
from sentinel.errors import InvalidDefinition, StorageProblem

STEPS = ("collect", "train", "gate", "register", "shadow")
"""In their order. Each begins where the one before it has ended well, and is done once."""

RECORD = "run.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ROOM = 1024


class Asked(msgspec.Struct, frozen=True):
    """What a retraining was asked for. `reading` is how the file is read, as it was given.

    Without `data` it learns from the log, after the transactions of the file `earlier`. A run goes on only with what it
    was begun with. With `warm_start` trees are added to the champion, too, and the better of the two is the candidate.
    """

    detector: str
    data: str | None
    reading: dict[str, Any]
    earlier: str | None = None
    warm_start: bool = False


class Step(msgspec.Struct, frozen=True):
    """A step that has ended well: when it ended, in how many seconds, and what it found."""

    name: str
    at: str
    seconds: float
    found: dict[str, Any]


class Failure(msgspec.Struct, frozen=True):
    """The step that failed the last time, and why."""

    step: str
    at: str
    reason: str


class Run(msgspec.Struct, frozen=True):
    """`run.json`: a retraining as far as it has come. `ended` says how, once no step is left to do.

    `position` is where the log ended when it began: labels that come later are for the next one.
    """

    name: str
    begun_at: str
    position: int
    asked: Asked
    steps: list[Step] = []
    ended: Literal["shadow", "refused"] | None = None
    failed: Failure | None = None

    def found(self, step: str) -> dict[str, Any] | None:
        """What a step found; None where it has not ended well yet."""
        return next((one.found for one in self.steps if one.name == step), None)


class Owner(msgspec.Struct, frozen=True):
    """The process that retrains, which run, and since when."""

    pid: int
    run: str
    since: str


def folder_of(home: Path, name: str) -> Path:
    """The folder of a run. Raises InvalidDefinition for what is no name of a folder."""
    if not _NAME.fullmatch(name):
        raise InvalidDefinition(f"--run is {name!r}; take up to 64 letters, digits, dots, - and _")
    return home / "retraining" / name


def read_run(home: Path, name: str) -> Run | None:
    """What is written down of a run; None where there is none. Raises StorageProblem."""
    path = folder_of(home, name) / RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(f"{path} cannot be read ({error}); remove its folder, and retrain anew") from error


def runs_of(home: Path) -> list[Run]:
    """Every run, in the order in which they were begun. Raises StorageProblem."""
    folder = home / "retraining"
    names = [one.name for one in folder.iterdir() if (one / RECORD).exists()] if folder.is_dir() else []
    found = [run for name in names if (run := read_run(home, name)) is not None]
    return sorted(found, key=lambda run: (run.begun_at, run.name))


def write_run(home: Path, run: Run) -> Run:
    """Write down how far a run has come; durable when this returns."""
    folder = folder_of(home, run.name)
    make_folder(folder)
    write_durably(folder / RECORD, msgspec.json.format(msgspec.json.encode(run)))
    return run


def keep_record_only(home: Path, run: Run) -> None:
    """Remove what a run has made beside `run.json`: the history of the log, which may be large, and the candidate."""
    for one in folder_of(home, run.name).iterdir():
        if one.is_dir():
            shutil.rmtree(one)
        elif one.name != RECORD:
            one.unlink()


@contextmanager
def one_at_a_time(home: Path, run: str, now: str) -> Iterator[None]:
    """Keep every other retraining of a home out; ends with the process, however that ends. Raises StorageProblem."""
    make_folder(home / "retraining")
    descriptor = os.open(home / "retraining" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageProblem(f"{_said_of(descriptor)}; wait until it has ended, or end it") from None
        os.pwrite(descriptor, msgspec.json.encode(Owner(os.getpid(), run, now)).ljust(_ROOM), 0)
        yield
    finally:
        os.close(descriptor)


def _said_of(descriptor: int) -> str:
    try:
        owner = msgspec.json.decode(os.pread(descriptor, _ROOM, 0), type=Owner)
    except msgspec.MsgspecError:
        return "a retraining of this home has just begun"
    return f"process {owner.pid} retrains this home since {owner.since} (run {owner.run})"
