"""Counters and states in shared memory: whole numbers, a row for every thread of every worker.

There are no locks, and two threads that write one slot of one row can lose counts: each thread takes a row of its own
(`for_thread`). A reader sums the rows, at any time and from any process.
"""

import mmap
import zlib
from bisect import bisect_left
from enum import Enum, IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition

LATENCY_BOUNDS_US = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000)
THREADS = 4  # rows of a worker
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)


class Across(Enum):
    """How the rows of a slot are combined."""

    COUNT = "sum of counts, which only grow"
    SUM = "sum of states"
    MAX = "highest state"


class Slot(IntEnum):
    """Every counter and every state."""

    across: Across

    def __new__(cls, across: Across) -> "Slot":
        """The next place in the row."""
        slot = int.__new__(cls, len(cls.__members__))
        slot._value_ = len(cls.__members__)
        slot.across = across
        return slot

    REQUESTS = Across.COUNT  # transactions to decide
    ERRORS = Across.COUNT  # transactions without a decision
    QUEUE_LENGTH = Across.SUM  # transactions in the queue

    APPROVE = Across.COUNT
    CHALLENGE = Across.COUNT
    REVIEW = Across.COUNT
    BLOCK = Across.COUNT
    PREDICTIONS_A = Across.COUNT  # A is the champion, B the challenger
    PREDICTIONS_B = Across.COUNT
    BLOCKS_A = Across.COUNT
    BLOCKS_B = Across.COUNT

    EXPERIMENT_A_DECISIONS = Across.SUM  # vectors of the experiment that runs, by variant
    EXPERIMENT_A_CHALLENGES = Across.SUM
    EXPERIMENT_A_REVIEWS = Across.SUM
    EXPERIMENT_A_BLOCKS = Across.SUM
    EXPERIMENT_A_ERRORS = Across.SUM
    EXPERIMENT_A_LATE = Across.SUM
    EXPERIMENT_B_DECISIONS = Across.SUM
    EXPERIMENT_B_CHALLENGES = Across.SUM
    EXPERIMENT_B_REVIEWS = Across.SUM
    EXPERIMENT_B_BLOCKS = Across.SUM
    EXPERIMENT_B_ERRORS = Across.SUM
    EXPERIMENT_B_LATE = Across.SUM

    CACHE_HITS = Across.COUNT
    CACHE_MISSES = Across.COUNT
    CACHE_SIZE = Across.SUM  # entries

    SHED_BREAKER_OPEN = Across.COUNT  # decided by the fallback, by reason
    SHED_MODEL_SLOW = Across.COUNT
    SHED_MODEL_FAILED = Across.COUNT
    SHED_OVERLOAD = Across.COUNT
    ON_FAULT_RULES = Across.COUNT  # the same decisions, by what decided
    ON_FAULT_APPROVE = Across.COUNT
    ON_FAULT_CHALLENGE = Across.COUNT
    ON_FAULT_REVIEW = Across.COUNT
    ON_FAULT_BLOCK = Across.COUNT
    BREAKER_STATE = Across.MAX  # 0 closed, 1 half open, 2 open
    BREAKER_OPENINGS = Across.COUNT

    SHADOW_SCORED = Across.COUNT
    SHADOW_DROPPED = Across.COUNT
    SHADOW_FAILED = Across.COUNT

    DRIFT_DETECTED = Across.MAX  # 0 or 1
    DRIFTED_FEATURES = Across.MAX

    HELD_OUT = Across.COUNT  # approved by the holdout, to learn what they are
    LOG_WRITES = Across.COUNT
    SWAPS = Across.COUNT  # changes of the champion

    REFUSED_NO_KEY = Across.COUNT  # requests that were not let in, by reason
    REFUSED_WRONG_KEY = Across.COUNT
    REFUSED_FORBIDDEN = Across.COUNT
    REFUSED_RATE = Across.COUNT
    REFUSED_OF_FRONTS = Across.COUNT  # answers in the topic that no front of ours has given


class Stage(IntEnum):
    """The stages of a decision whose latency is measured, in microseconds."""

    TOTAL = 0
    QUEUE = 1
    FEATURES = 2
    MODEL = 3
    COMMIT = 4


_STAGE_CELLS = len(LATENCY_BOUNDS_US) + 2  # a cell per bound, one for what lies above, the sum
_STAGES_AT = len(Slot)
_BATCHES_AT = _STAGES_AT + len(Stage) * _STAGE_CELLS
_BATCH_SUM_AT = _BATCHES_AT + len(BATCH_BOUNDS) + 1
_ROW = -(-(_BATCH_SUM_AT + 1) // 8) * 8  # whole cache lines: writers do not slow each other down
_STATES = [slot for slot in Slot if slot.across is not Across.COUNT]
_BOUNDS = np.array(LATENCY_BOUNDS_US)
_HEAD = 8
_LAYOUT = zlib.crc32(repr((THREADS, list(Slot), list(Stage), LATENCY_BOUNDS_US, BATCH_BOUNDS)).encode())


class Histogram(NamedTuple):
    """How many values lay at or below each bound and above the one before; the last, how many above all bounds."""

    bounds: tuple[int, ...]
    values: tuple[int, ...]
    sum: int

    @property
    def total(self) -> int:
        """How many values there were."""
        return sum(self.values)


class Totals:
    """All rows together, at one moment."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self._sum: list[int] = rows.sum(axis=0).tolist()
        self._max: list[int] = rows.max(axis=0).tolist()

    def __getitem__(self, slot: Slot) -> int:
        return self._max[slot] if slot.across is Across.MAX else self._sum[slot]

    def latency(self, stage: Stage) -> Histogram:
        """Microseconds that a stage took."""
        begin = _STAGES_AT + stage * _STAGE_CELLS
        cells = self._sum[begin : begin + _STAGE_CELLS]
        return Histogram(LATENCY_BOUNDS_US, tuple(cells[:-1]), cells[-1])

    @property
    def batches(self) -> Histogram:
        """Rows in a batch: `total` is the number of batches, `sum` of the rows in them."""
        cells = self._sum[_BATCHES_AT : _BATCH_SUM_AT + 1]
        return Histogram(BATCH_BOUNDS, tuple(cells[:-1]), cells[-1])


class Counters:
    """The row of one thread of a worker, to write, and the rows of all, to read.

    Without a file there is one worker and the rows are in its own memory.

    >>> counters = Counters()
    >>> counters.add(Slot.REQUESTS, 3)
    >>> counters.observe(Stage.TOTAL, 50)
    >>> totals = counters.totals()
    >>> totals[Slot.REQUESTS], totals.latency(Stage.TOTAL).values[0]
    (3, 1)
    """

    def __init__(self, rows: NDArray[np.int64] | None = None, worker: int = 0, thread: int = 0) -> None:
        self._rows = np.zeros((THREADS, _ROW), np.int64) if rows is None else rows
        self._worker = worker
        self._row = self._rows[worker * THREADS + thread]
        self._cells = memoryview(self._row)  # several times as fast as NumPy for one cell

    def for_thread(self, thread: int) -> "Counters":
        """The same counters for another thread of this worker; the first that counts is thread 0.

        A state that two threads set is the sum of both or the highest, as its slot says.
        """
        if not 0 <= thread < THREADS:
            raise InvalidDefinition(f"thread {thread} has no counters; a worker has {THREADS} threads that count")
        return Counters(self._rows, self._worker, thread)

    def add(self, slot: Slot, n: int = 1) -> None:
        """Count n more; n is not negative."""
        self._cells[slot] += n

    def set(self, slot: Slot, value: int) -> None:
        """Show a state as it is now, in this thread."""
        self._cells[slot] = value

    def observe(self, stage: Stage, microseconds: int) -> None:
        """Record the latency of one decision in a stage."""
        begin = _STAGES_AT + stage * _STAGE_CELLS
        cells = self._cells
        cells[begin + bisect_left(LATENCY_BOUNDS_US, microseconds)] += 1
        cells[begin + _STAGE_CELLS - 1] += microseconds

    def observe_many(self, stage: Stage, microseconds: NDArray[np.int64]) -> None:
        """Record the latencies of several decisions in a stage; from a dozen on faster than one by one."""
        begin = _STAGES_AT + stage * _STAGE_CELLS
        places, total = np.searchsorted(_BOUNDS, microseconds), int(microseconds.sum())
        self._row[begin : begin + _STAGE_CELLS - 1] += np.bincount(places, minlength=_STAGE_CELLS - 1)
        self._cells[begin + _STAGE_CELLS - 1] += total

    def observe_batch(self, rows: int) -> None:
        """Record a batch of so many rows."""
        self._cells[_BATCHES_AT + bisect_left(BATCH_BOUNDS, rows)] += 1
        self._cells[_BATCH_SUM_AT] += rows

    def totals(self) -> Totals:
        """All workers and threads together, as of now."""
        return Totals(self._rows.copy())


def create_counters(path: Path, workers: int) -> None:
    """Write a file of zeros for so many workers; once, before the first of them opens it.

    Choose a folder in memory (`/dev/shm`) where there is one: elsewhere a worker that counts may wait for the disk.
    """
    if workers < 1:
        raise InvalidDefinition(f"{workers} workers; give at least one")
    content = np.zeros(_HEAD + workers * THREADS * _ROW, np.int64)
    content[:2] = _LAYOUT, workers
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_bytes(content.tobytes())
        fresh.replace(path)
    except OSError as error:
        raise InvalidDefinition(
            f"counters cannot be kept in {path}: {error.strerror}; choose another folder"
        ) from error


def open_counters(path: Path, worker: int) -> Counters:
    """The counters of worker 0, 1, .. in a shared file.

    After a restart of the worker counts go on and states begin at 0.
    """
    try:
        with path.open("r+b") as file:
            shared = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError) as error:
        raise InvalidDefinition(f"counters cannot be opened in {path}: {error}; create them first") from error
    cells = np.frombuffer(shared, np.int64, count=len(shared) // 8)
    if len(cells) <= _HEAD or cells[0] != _LAYOUT or len(cells) != _HEAD + cells[1] * THREADS * _ROW:
        raise InvalidDefinition(f"{path} holds counters of another version, or none; stop all workers and create them")
    if not 0 <= worker < cells[1]:
        raise InvalidDefinition(f"worker {worker} has no row in {path}; it was created for {cells[1]} workers")
    rows = cells[_HEAD:].reshape(-1, _ROW)
    rows[worker * THREADS : (worker + 1) * THREADS, _STATES] = 0
    return Counters(rows, worker)
