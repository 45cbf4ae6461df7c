"""Runs: files of keys in order, with the position of each in the log. They are written once, and merged."""

import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64

from sentinel.errors import StorageProblem
from sentinel.features.jit import entry, inlined
from sentinel.features.prefetch import prefetch
from sentinel.record.bloom import BloomFilter, block_at, may_hold, word_at

Rows = NDArray[np.uint64]
"""Keys and their positions (n, 2)."""

_FORMAT = "sentinel-ids-1"
_HEAD_BYTES, _ROW_BYTES = 4_096, 16
_PIECE = 1 << 14  # rows, a quarter of a megabyte: what is done at once, and goes to the disk at once
_AHEAD = 8
_FEW = 64


class RunHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The start of the file: a JSON text, filled up with blanks. Its rows follow as pairs of uint64, little endian.

    The run has every key of the entries from position `first` up to `end`, which is not in it.
    """

    format: str = _FORMAT
    log_id: str
    first: int
    end: int
    count: int = 0
    checksum: str = ""

    @property
    def name(self) -> str:
        """What the file has to be called."""
        return f"{self.first:012d}-{self.end:012d}.ids"


class IdRun:
    """One file, mapped into memory, and the filter of its keys."""

    def __init__(self, path: Path, head: RunHead, bloom: BloomFilter) -> None:
        self.path, self.first, self.end, self.bloom = path, head.first, head.end, bloom
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.rows: Rows = np.frombuffer(mapped, np.uint64, 2 * head.count, _HEAD_BYTES).reshape(-1, 2)


class IdRuns:
    """Some runs in the order of their positions, asked together."""

    def __init__(self, runs: Iterable[IdRun]) -> None:
        self.all = sorted(runs, key=lambda run: run.first)
        places = [(r.bloom.words.ctypes.data, r.bloom.blocks, r.rows.ctypes.data, len(r.rows)) for r in self.all]
        self._places = np.array(places, np.uint64).reshape(-1, 4)

    def find(self, keys: NDArray[np.uint64]) -> list[int]:
        """Every position at which one of these keys stands."""
        found = np.empty(_FEW, np.int64)
        while (count := _find(self._places, keys, found)) > len(found):
            found = np.empty(count, np.int64)
        return found[:count].tolist() if count else []


def open_run(path: Path, log_id: str, durable: int) -> IdRun:
    """Read all of a file. Raises StorageProblem when it is damaged, of another log, or ahead of what is `durable`."""
    try:
        with path.open("rb") as file:
            head = msgspec.json.decode(file.read(_HEAD_BYTES), type=RunHead)
            if path.stat().st_size != _HEAD_BYTES + _ROW_BYTES * head.count:
                raise StorageProblem(f"{path} is not as long as its head says")
            digest, bloom = xxh3_64(), BloomFilter(head.count)
            while len(rows := np.fromfile(file, np.uint64, 2 * _PIECE).reshape(-1, 2)):
                digest.update(rows.data)
                bloom.add(rows[:, 0])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(f"{path} cannot be read: {error}") from error
    if (head.format, head.name, head.checksum) != (_FORMAT, path.name, digest.hexdigest()):
        raise StorageProblem(f"{path} does not match its checksum, its name or this version of Sentinel")
    if head.log_id != log_id or head.end > durable:
        raise StorageProblem(f"{path} is of another log, or ahead of this one, which ends at {durable}")
    return IdRun(path, head, bloom)


def write_run(folder: Path, head: RunHead, sources: Sequence[Rows], oldest: int, between: Callable[[], None]) -> IdRun:
    """Merge sources, each in order of the keys, into a file that is there as a whole or not at all.

    What stands before position `oldest` is left out. `between` is called after every quarter of a megabyte; what it
    raises ends the writing.
    """
    path, digest, bloom, count = folder / head.name, xxh3_64(), BloomFilter(sum(map(len, sources))), 0
    draft = path.with_suffix(".draft")
    try:
        with draft.open("wb") as file:
            file.seek(_HEAD_BYTES)
            for rows in _merged(sources, oldest):
                file.write(rows.data)
                file.flush()
                os.fsync(file.fileno())  # written back all at once it would hold up the log on the same disk
                digest.update(rows.data)
                bloom.add(rows[:, 0])
                count += len(rows)
                between()
            head = msgspec.structs.replace(head, count=count, checksum=digest.hexdigest())
            file.seek(0)
            file.write(msgspec.json.encode(head).ljust(_HEAD_BYTES))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return IdRun(path, head, bloom)


def _merged(sources: Sequence[Rows], oldest: int) -> Iterator[Rows]:
    """The rows from position `oldest` on, in order of the keys, in pieces."""
    pieces = sum(map(len, sources)) // _PIECE + 1
    bounds = np.array([(n << 64) // pieces for n in range(1, pieces)], np.uint64)  # hashes lie evenly
    cuts = [[0, *np.searchsorted(rows[:, 0], bounds).tolist(), len(rows)] for rows in sources]
    for n in range(pieces):
        rows = np.concatenate([rows[cut[n] : cut[n + 1]] for rows, cut in zip(sources, cuts, strict=True)])
        rows = rows[rows[:, 1] >= np.uint64(oldest)]
        yield rows.take(rows[:, 0].argsort(kind="stable"), axis=0)


@entry
def _find(places: NDArray[np.uint64], keys: NDArray[np.uint64], found: NDArray[np.int64]) -> int:
    """How many rows have one of these keys; as many of their positions as fit are in `found`."""
    count = 0
    for run in range(len(places)):
        bloom, blocks, rows, end = places[run, 0], places[run, 1], places[run, 2], np.int64(places[run, 3])
        for n in range(len(keys)):
            prefetch(np.int64(block_at(bloom, blocks, keys[min(n + _AHEAD, len(keys) - 1)])))
            if may_hold(block_at(bloom, blocks, keys[n]), keys[n]):
                row = _first_of(keys[n], rows, end)
                while row < end and _word(rows, row, 0) == keys[n]:
                    if count < len(found):
                        found[count] = _word(rows, row, 1)
                    count += 1
                    row += 1
    return count


@inlined
def _first_of(key: np.uint64, rows: np.uint64, end: np.int64) -> np.int64:
    """The first row of a key, or where it would be."""
    low, high = np.int64(0), end
    while low < high:
        middle = (low + high) >> 1
        if _word(rows, middle, 0) < key:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _word(rows: np.uint64, row: np.int64, column: int) -> np.uint64:
    return word_at(rows + np.uint64(16 * row + 8 * column))  # type: ignore[no-any-return]
