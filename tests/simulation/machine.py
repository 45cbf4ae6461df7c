"""A machine in one process: its clock, its threads and processes, its disk and its chance, all of them by a seed.

The code of `sentinel` is not told. While `simulated()` lasts, what its modules know as `time`, `threading`, `os`,
`secrets`, `datetime`, `Future`, `SimpleQueue` and `RealDisk` are those of the machine. A thread of the machine is a
thread of this process that only runs while the machine lets it: one at a time, from one point where it waits, or where
it uses the disk, to the next. Which one goes on is drawn from the seed, so that a seed is one interleaving.
"""

import contextlib
import datetime as dt
import hashlib
import io
import os
import queue
import random
import secrets
import shutil
import sqlite3
import stat
import sys
import threading
import time
import types
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

from simulated_disk import PowerCut, SimulatedDisk, SimulatedFile

from sentinel.record.disk import RealDisk

NEVER = float("inf")
_LINES, _OLD = 60, ".old"


class Killed(BaseException):
    """The process of this thread has been killed."""


class Process:
    """Threads that end together. `stalled`: they get no turn, as after SIGSTOP."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stalled = self.ended = False
        self.error: BaseException | None = None
        self.descriptors: set[int] = set()


class Fiber:
    """A thread of the machine."""

    def __init__(self, machine: "Machine", process: Process, name: str, run: Callable[[], object]) -> None:
        self.process, self.name = process, name
        self.is_ready: Callable[[], bool] | None = None
        self.until_ns = NEVER
        self.ended = self.killed = False
        self.error: BaseException | None = None
        self._machine, self._run = machine, run
        self._turn = threading.Lock()
        self._turn.acquire()
        self._thread: threading.Thread | None = None

    def go_on(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name=self.name, daemon=True)
            self._thread.start()
        self._turn.release()

    def pause(self) -> None:
        self._machine.hand_back()
        self._turn.acquire()
        if self.killed:
            raise Killed

    def _main(self) -> None:
        self._turn.acquire()
        try:
            if not self.killed:
                self._run()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - the machine raises it
            self.error = error
        self.ended = True
        self._run = self.is_ready = None
        self._machine.hand_back()


class Machine:
    """Runs fibers, one at a time. `host` is the folder of the files that are not on the simulated disk."""

    def __init__(self, seed: int, host: Path, now_us: int) -> None:
        self.random = random.Random(seed)
        self.host = host
        self.image = host.with_name(host.name + ".image")
        """What a process that is killed now leaves behind in `host`, kept when the machine dies."""

        self.disk = Disk(seed, self)
        self.now_ns = 1_000_000_000_000
        self._wall_ns = now_us * 1_000 - self.now_ns
        self.latest_us = now_us
        self.fibers: list[Fiber] = []
        self.current: Fiber | None = None
        self.outside = Process("outside")
        self.is_dead = False
        self.failure: BaseException | None = None
        self.preemption = 0.15
        self._synced: dict[int, int] = {}  # size by inode, of the files of `host`
        self._named: set[Path] = set()
        self._at_risk: list[Path] = []
        self.lines: deque[str] = deque(maxlen=_LINES)
        self._digest = hashlib.sha256()
        self._handed_back = threading.Lock()
        self._handed_back.acquire()

    # time

    @property
    def wall_us(self) -> int:
        return (self.now_ns + self._wall_ns) // 1_000

    def pass_time(self, ns: int) -> None:
        self.now_ns += ns
        self.latest_us = max(self.latest_us, self.wall_us)

    def turn_wall_clock(self, us: int) -> None:
        self._wall_ns += us * 1_000
        self.latest_us = max(self.latest_us, self.wall_us)

    # what happened

    def trace(self, line: str) -> None:
        """Add a line to what makes this run this run."""
        self._digest.update(line.encode() + b"\n")
        self.lines.append(line)

    @property
    def fingerprint(self) -> str:
        return self._digest.hexdigest()

    # threads

    def spawn(self, process: Process, name: str, run: Callable[[], object]) -> Fiber:
        fiber = Fiber(self, process, name, run)
        self.fibers.append(fiber)
        return fiber

    @property
    def process(self) -> Process:
        return self.current.process if self.current else self.outside

    def block(self, is_ready: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait in the current fiber; whether it is ready. Outside of all fibers only time passes."""
        fiber = self.current
        if fiber is None:
            if not is_ready() and timeout_s is not None:
                self.pass_time(int(timeout_s * 1e9))
            return is_ready()
        if fiber.killed:
            raise Killed
        fiber.is_ready = is_ready
        fiber.until_ns = NEVER if timeout_s is None else self.now_ns + max(int(timeout_s * 1e9), 0)
        fiber.pause()
        return is_ready()

    def preempt(self) -> None:
        """Let others go first, sometimes."""
        fiber = self.current
        if fiber is not None and not fiber.killed and self.random.random() < self.preemption:
            fiber.is_ready, fiber.until_ns = None, NEVER
            fiber.pause()

    def hand_back(self) -> None:
        self._handed_back.release()

    def ready(self) -> list[Fiber]:
        return [one for one in self.fibers if not one.process.stalled and self._may_run(one)]

    def _may_run(self, fiber: Fiber) -> bool:
        return fiber.is_ready is None or fiber.until_ns <= self.now_ns or fiber.is_ready()

    def next_timer_ns(self) -> float:
        return min((one.until_ns for one in self.fibers if not one.process.stalled), default=NEVER)

    def resume(self, fiber: Fiber) -> None:
        """Let it run until it waits. Raises PowerCut when the machine dies, and what was found to be wrong."""
        self.current = fiber
        fiber.go_on()
        self._handed_back.acquire()
        self.current = None
        if fiber.ended:
            self.fibers.remove(fiber)
        if self.failure is not None:
            raise self.failure
        if self.is_dead:
            raise PowerCut
        if fiber.ended and fiber.error is not None and fiber.process.error is None:
            fiber.process.error = fiber.error

    def kill(self, process: Process) -> None:
        """End a process, wherever it is."""
        process.ended = True
        for fiber in [one for one in self.fibers if one.process is process]:
            fiber.killed = True
            while not fiber.ended:
                self.current = fiber
                fiber.go_on()
                self._handed_back.acquire()
            self.current = None
            self.fibers.remove(fiber)
        for descriptor in process.descriptors:
            os.close(descriptor)
        process.descriptors.clear()

    # the disk, and the files that are not on it

    def die(self) -> None:
        """Keep what a kill at this moment leaves behind; whatever runs on from here is not seen any more."""
        if not self.is_dead:
            self.is_dead = True
            self._at_risk = [path.relative_to(self.host) for path in self._host_files() if not self._is_kept(path)]
            shutil.rmtree(self.image, ignore_errors=True)
            shutil.copytree(self.host, self.image, symlinks=True)

    def end_all(self, *, power: bool) -> None:
        """Kill every process, or cut the power as well."""
        self.die()
        for process in {one.process: None for one in self.fibers}:
            self.kill(process)
        self.disk.stop_after = None
        (self.disk.cut_power if power else self.disk.kill)()
        shutil.rmtree(self.host)
        self.image.rename(self.host)
        if power:
            for path in self._at_risk:
                self._damage(self.host / path)
            for path in self._views():
                self._lose_newest(path)
        self._synced = {path.stat().st_ino: path.stat().st_size for path in self._host_files()}
        self._named = set(self._host_files())
        self.is_dead = False

    def sync_host_file(self, descriptor: int) -> None:
        """A real file that reaches the platters, or fails to."""
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self.sync_host_folder(Path(f"/proc/self/fd/{descriptor}").readlink())
            return
        self.disk.step()
        self._synced[found.st_ino] = found.st_size

    def sync_host_folder(self, folder: Path) -> None:
        self.disk.step()
        self._named |= set(folder.iterdir())

    def write_back(self) -> None:
        """What SQLite has not synced reaches the platters after a while."""
        for path in self._views():
            for suffix in ("", "-wal"):
                file = path.with_name(path.name + suffix)
                old = file.with_name(file.name + _OLD)
                old.unlink(missing_ok=True)
                if file.exists():
                    shutil.copy(file, old)

    def _views(self) -> list[Path]:
        return [path for path in (self.host / "views.db", self.host / "shadow.db") if path.exists()]

    def _lose_newest(self, path: Path) -> None:
        """A view on which a power cut has fallen may be as it was when it was written back last."""
        if self.random.random() < 0.5:
            for suffix in ("", "-wal", "-shm"):
                file = path.with_name(path.name + suffix)
                old = file.with_name(file.name + _OLD)
                file.unlink(missing_ok=True)
                if old.exists():
                    shutil.copy(old, file)

    def _host_files(self) -> list[Path]:
        folders = (self.host / name for name in ("ids", "snapshots", "shadow"))
        found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return sorted([*found, *self.host.glob("*log.mark*")])

    def _is_kept(self, path: Path) -> bool:
        found = path.stat()
        return self._synced.get(found.st_ino) == found.st_size and path in self._named

    def _damage(self, path: Path) -> None:
        fate = self.random.choice(("kept", "kept", "lost", "short", "zeros"))
        if fate == "lost":
            path.unlink()
        elif fate != "kept":
            data = path.read_bytes()
            cut = self.random.randint(0, len(data))
            path.write_bytes(data[:cut] + (bytes(len(data) - cut) if fate == "zeros" else b""))


class Disk(SimulatedDisk):
    """The simulated disk of a machine: others may go first at every use, and it dies with the machine."""

    def __init__(self, seed: int, machine: Machine) -> None:
        super().__init__(seed)
        self._machine = machine
        self._numbers: dict[Any, int] = {}

    def open(self, path: Path) -> SimulatedFile:
        self._machine.preempt()
        return super().open(path)

    def stamp(self, path: Path) -> str:
        """The same in another process."""
        inode = self._names[path]
        return f"{self._numbers.setdefault(inode, len(self._numbers))} {zlib.crc32(inode.seen)}"

    def sync_folder(self, folder: Path) -> None:
        if folder == self._machine.host or folder.name in ("snapshots", "ids") or folder.parent.name == "shadow":
            self._machine.sync_host_folder(folder)
        else:
            super().sync_folder(folder)

    def step(self, inode: Any = None, offset: int = 0, data: bytes = b"") -> None:
        self._machine.preempt()
        self.risk(inode, offset, data)

    def risk(self, inode: Any = None, offset: int = 0, data: bytes = b"") -> None:
        """One operation, in which nobody else has a turn."""
        machine = self._machine
        if machine.is_dead:
            raise PowerCut
        try:
            super().step(inode, offset, data)
        except PowerCut:
            machine.die()
            raise


# What a machine offers to code that asks Python's own modules. `_on` is the machine that runs at the moment.

_on: list[Machine] = []


def machine() -> Machine:
    return _on[-1]


class _Clock(types.ModuleType):
    """`time`"""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time_ns(self) -> int:
        return machine().wall_us * 1_000

    def time(self) -> float:
        return machine().wall_us / 1e6

    def monotonic_ns(self) -> int:
        return machine().now_ns

    def monotonic(self) -> float:
        return machine().now_ns / 1e9

    perf_counter, perf_counter_ns = monotonic, monotonic_ns

    def thread_time_ns(self) -> int:
        return machine().now_ns

    def sleep(self, seconds: float) -> None:
        machine().block(lambda: False, seconds)


class _Moment(dt.datetime):
    """`datetime.datetime`"""

    @classmethod
    def now(cls, tz: Any = None) -> dt.datetime:
        return dt.datetime.fromtimestamp(machine().wall_us / 1e6, tz)


class Event:
    """`threading.Event`"""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._set or machine().block(self.is_set, timeout)


class Lock:
    """`threading.Lock`"""

    def __init__(self) -> None:
        self._held = False

    def locked(self) -> bool:
        return self._held

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        while self._held:
            if not blocking or not (machine().block(lambda: not self._held, None if timeout < 0 else timeout)):
                return False
        self._held = True
        return True

    def release(self) -> None:
        assert self._held
        self._held = False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Thread:
    """`threading.Thread`"""

    def __init__(
        self,
        target: Callable[..., object],
        name: str = "",
        args: tuple[Any, ...] = (),
        daemon: bool = False,  # noqa: ARG002
    ) -> None:
        self._call = lambda: target(*args)
        self.name = name
        self._fiber: Fiber | None = None

    def start(self) -> None:
        self._fiber = machine().spawn(machine().process, self.name, self._call)

    def is_alive(self) -> bool:
        return self._fiber is not None and not self._fiber.ended

    def join(self, timeout: float | None = None) -> None:
        if self.is_alive():
            machine().block(lambda: not self.is_alive(), timeout)


class Future(futures.Future):  # type: ignore[type-arg]
    """`concurrent.futures.Future`"""

    def result(self, timeout: float | None = None) -> Any:
        machine().block(self.done, timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        machine().block(self.done, timeout)
        return super().exception(0)


class Queue:
    """`queue.SimpleQueue`"""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()

    def put(self, one: Any) -> None:
        self._waiting.append(one)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not self._waiting and not (block and machine().block(lambda: bool(self._waiting), timeout)):
            raise queue.Empty
        return self._waiting.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)


class _Threading(types.ModuleType):
    """`threading`"""

    Event, Lock, Thread = Event, Lock, Thread

    def get_native_id(self) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class _System(types.ModuleType):
    """`os`: a file that is synced is one more operation of the disk, and descriptors end with their process."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def setpriority(self, *_: int) -> None:
        pass

    def fsync(self, descriptor: int) -> None:
        machine().sync_host_file(descriptor)

    fdatasync = fsync

    def open(self, *args: Any) -> int:
        descriptor = os.open(*args)
        machine().process.descriptors.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        machine().process.descriptors.discard(descriptor)
        os.close(descriptor)


def _file_of(descriptor: int, mode: str) -> io.FileIO:
    """`io.FileIO`: it closes its descriptor itself."""
    machine().process.descriptors.discard(descriptor)
    return io.FileIO(descriptor, mode)


class _Cursor(sqlite3.Cursor):
    """What writes is an operation of the disk, in the middle of a transaction."""

    def execute(self, sql: str, *args: Any) -> Any:
        if not sql.startswith(("SELECT", "PRAGMA")):
            _risk()
        return super().execute(sql, *args)


class _Connection(sqlite3.Connection):
    def cursor(self, *_: Any) -> Any:
        return super().cursor(_Cursor)

    def commit(self) -> None:
        if self.in_transaction:
            _risk()
        super().commit()


def _risk() -> None:
    try:
        machine().disk.risk()
    except OSError as error:
        raise sqlite3.OperationalError(f"disk I/O error: {error.strerror}") from None


class _Sqlite(types.ModuleType):
    """`sqlite3`"""

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        return sqlite3.connect(*args, **kwargs, factory=_Connection)


class _Secrets(types.ModuleType):
    """`secrets`"""

    def randbits(self, bits: int) -> int:
        return machine().random.getrandbits(bits)

    def token_bytes(self, size: int = 32) -> bytes:
        return machine().random.randbytes(size)

    def token_hex(self, size: int = 16) -> str:
        return machine().random.randbytes(size).hex()


_threading, _secrets = _Threading("threading"), _Secrets("secrets")
_INSTEAD: list[tuple[object, object]] = [
    (time, _Clock("time")), (threading, _threading), (os, _System("os")), (secrets, _secrets),
    (dt.datetime, _Moment), (threading.Event, Event), (threading.Lock, Lock), (threading.Thread, Thread),
    (threading.get_native_id, _threading.get_native_id), (futures.Future, Future), (queue.SimpleQueue, Queue),
    (secrets.token_hex, _secrets.token_hex), (secrets.token_bytes, _secrets.token_bytes), (RealDisk, lambda: machine().disk),
    (sqlite3, _Sqlite("sqlite3")), (io.FileIO, _file_of),
]  # fmt: skip


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """Have all modules of `sentinel` that are loaded by now run on a machine."""
    changed = []
    for name, module in list(sys.modules.items()):
        if name.startswith("sentinel."):
            for attribute, value in list(vars(module).items()):
                for real, instead in _INSTEAD:
                    if value is real:
                        changed.append((module, attribute, value))
                        setattr(module, attribute, instead)
    try:
        yield
    finally:
        for module, attribute, value in changed:
            setattr(module, attribute, value)


@contextlib.contextmanager
def running(one: Machine) -> Iterator[Machine]:
    """Have the code run on this machine."""
    _on.append(one)
    try:
        yield one
    finally:
        one.end_all(power=False)
        _on.remove(one)
