"""The writer's lock: one process owns a log, and publishes its pid and URL."""

import fcntl
import os
import time
from pathlib import Path

import msgspec

from sentinel.errors import StorageProblem
from sentinel.record.private import FILE_MODE, FOLDER_MODE

_TRIES, _PAUSE_S = 5, 0.02  # a process that only looks up the owner holds it briefly
_ROOM = 1024


class Owner(msgspec.Struct, frozen=True):
    """The process that writes a log: where it answers, once that is published, and whose detector this log is of."""

    pid: int
    url: str | None = None
    tenant: str = ""


class WriterLock:
    """The lock of the log in a folder; it ends with its process, however that ends."""

    def __init__(self, descriptor: int, folder: int) -> None:
        self._descriptor = descriptor
        self._folder = folder  # locked as well: a file can be removed and made anew

    @classmethod
    def take(cls, folder: Path) -> "WriterLock":
        """Become the writer. Raises StorageProblem while another process is."""
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
        itself = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(_TRIES):
            if _locked(descriptor, fcntl.LOCK_EX) and _locked(itself, fcntl.LOCK_EX):
                lock = cls(descriptor, itself)
                lock._write(Owner(os.getpid()))
                return lock
            time.sleep(_PAUSE_S)
        owner = _read(descriptor)
        os.close(descriptor)
        os.close(itself)
        named = f"pid {owner.pid}" if owner else "just starting"
        raise StorageProblem(f"{folder} is in use by another Sentinel ({named}); stop that one, or ask it over HTTP")

    def publish_url(self, url: str, tenant: str = "") -> None:
        """Publish where the owner answers for this log."""
        self._write(Owner(os.getpid(), url, tenant))

    def release(self) -> None:
        """Let another process become the writer."""
        os.close(self._descriptor)
        os.close(self._folder)

    def _write(self, owner: Owner) -> None:
        os.pwrite(self._descriptor, msgspec.json.encode(owner).ljust(_ROOM), 0)


def owner_of(folder: Path) -> Owner | None:
    """The process that writes this log; None when there is no writer."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _locked(descriptor, fcntl.LOCK_SH) else _read(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> Owner | None:
    raw = os.pread(descriptor, _ROOM, 0)
    return msgspec.json.decode(raw, type=Owner) if raw else None
