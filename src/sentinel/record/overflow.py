"""The overflow: decisions that were given when there was no time for features, durable until the journal has them."""

import contextlib
import functools
import logging
import operator
import os
import threading
import zlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from sentinel.errors import JournalProblem
from sentinel.events.log import hash_texts
from sentinel.record.decision_batch import Column, DecisionBatch, row_of
from sentinel.record.id_table import IdTable, slots_for
from sentinel.record.journal_reader import DecisionRow

_HEAD = 8  # of the file: its generation; of a record: length and checksum, four bytes each
_AHEAD, _SPARED = 32 << 20, 256 << 20  # bytes: written before they are needed, and left to others on a full disk
_SLOTS, _MORE_SLOTS = 1 << 17, 1 << 19  # of the first table and of others
_ZEROS, _FILLED_AT_ONCE = bytes(1 << 20), 1 << 14  # what is written ahead at once, and slots given memory at once
_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, tuple[tuple[bool, Any], ...]]).decode


class Overflow:
    """A file of decided transactions, appended to and emptied as a whole; from one thread.

    A row is on the disk when `append` returns, at a tenth of what the journal takes. What a crash left half written at
    the end was never answered and is passed over. The journal takes rows over in their order; those that it does not
    have yet are kept as they are in the file, and found by the hash of their id: what is kept of a hundred thousand has
    to be little, and nothing that the garbage collector looks at. Only `find` and `make_room` may be called from
    another thread.

    The file keeps its length, and is emptied by a new generation, which goes into every checksum: what is left of an
    older one is no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._file_ahead = os.open(path, os.O_WRONLY)  # or its failed writes could be reported to it alone
        except OSError as error:
            raise JournalProblem(f"{path} cannot be opened: {error.strerror}") from error
        self._end = _HEAD
        self._ready = max(os.fstat(self._file).st_size, _HEAD)
        self._growing = threading.Lock()
        self._fault_ahead: int | None = None
        self._generation = 0
        self._rows = _Rows()
        try:
            self._read()
            if not self:
                self._empty()
        except Exception:  # who tries again every two seconds would run out of descriptors
            self.close()
            raise

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)
        os.close(self._file_ahead)

    def make_room(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Have file and memory ready for more rows; call it before anyone waits, and now and then from another thread.

        To write where the file was never written has the file system note it, which can take a hundred times as long.
        While others work it is done in small pieces with a `pause` after each, which is true when it shall end: they
        share the disk and the processor.
        """
        if self._ready - self._end < _AHEAD // 2:
            while self._ready - self._end < _AHEAD and self._write_ahead():
                if pause():
                    return
        self._rows.make_spare(pause)

    def _write_ahead(self) -> bool:
        """Whether there was room."""
        try:
            disk = os.fstatvfs(self._file_ahead)
            if disk.f_bavail * disk.f_frsize < _SPARED:
                return False
            with self._growing:
                self._ready += os.pwritev(self._file_ahead, [_ZEROS], self._ready, os.RWF_DSYNC)
        except OSError as error:
            if self._fault_ahead != error.errno:
                _log.warning("%s cannot be written ahead of what is shed: %s", self.path, error.strerror)
            self._fault_ahead = error.errno
            return False
        self._fault_ahead = None
        return True

    def __len__(self) -> int:
        """How many rows the journal does not have yet."""
        return len(self._rows)

    def _read(self) -> None:
        data, at = self.path.read_bytes(), _HEAD
        if _is_older(data):
            raise JournalProblem(
                f"{self.path} holds decisions of an older version; have that one run until the file is empty, which "
                "takes seconds while it is idle, and then start this one"
            )
        self._generation = int.from_bytes(data[:_HEAD], "little")
        while at + _HEAD <= len(data):
            length, checksum = (
                int.from_bytes(data[at : at + 4], "little"),
                int.from_bytes(data[at + 4 : at + 8], "little"),
            )
            body = data[at + _HEAD : at + _HEAD + length]
            if length == 0 or len(body) < length or self._checksum(body) != checksum:
                break
            self._rows.add(DecisionBatch.of_columns(*_unpack(body)), body)
            at += _HEAD + length
        self._end = at

    def find(self, transaction_ids: Sequence[str], hashes: NDArray[np.uint64] | None = None) -> dict[str, DecisionRow]:
        """The rows of these transactions that wait here; `hashes` are those of the ids, where they are known."""
        return self._rows.find(transaction_ids, hash_texts(transaction_ids) if hashes is None else hashes)

    def oldest(self, limit: int) -> list[DecisionRow]:
        """The rows that were taken first, at most so many."""
        return self._rows.oldest(limit)

    def append(self, batch: DecisionBatch) -> None:
        """Make the rows durable, all or none. Raises JournalProblem (disk full)."""
        body = _encode((batch.size, batch.columns))
        head = len(body).to_bytes(4, "little") + self._checksum(body).to_bytes(4, "little")
        end = self._end + _HEAD + len(body)
        if end > self._ready:
            with self._growing:  # the other thread may be writing there
                self._ready = max(self._ready, end)
        try:
            _write(self._file, body, self._end + _HEAD)
            _write(self._file, head, self._end)
            os.fdatasync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                _write(self._file, bytes(_HEAD), self._end)  # it may be whole, and is refused: nobody shall read it
            raise JournalProblem(
                f"{self.path} cannot be written: {error.strerror}; free some space or check the disk, then retry"
            ) from error
        self._end = end
        self._rows.add(batch, body)

    def forget(self, n: int) -> None:
        """The journal has the n oldest rows now; with the last of them the file is emptied."""
        self._rows.forget(n)
        if not self and self._end > _HEAD:
            self._empty()

    def leave_out(self, transaction_ids: Collection[str]) -> None:
        """The journal has had these when the file was opened."""
        self._rows.leave_out(transaction_ids)
        self.forget(0)

    def _empty(self) -> None:
        """Begin anew. After a crash before this is on the disk, rows are read again that the journal has already."""
        generation = os.urandom(_HEAD)
        try:
            _write(self._file, generation, 0)
        except OSError as error:
            raise JournalProblem(f"{self.path} cannot be written: {error.strerror}; free some space") from error
        self._generation, self._end = int.from_bytes(generation, "little"), _HEAD

    def _checksum(self, body: bytes) -> int:
        return xxh3_64_intdigest(body, self._generation) & 0xFFFF_FFFF


class _Rows:
    """The rows that the journal does not have yet, numbered in the order in which they were taken."""

    def __init__(self) -> None:
        self._count = self._taken = 0
        self._left_out: set[int] = set()
        self._tables = [IdTable(_SLOTS)]  # to make one larger would make everyone wait
        self._spare: IdTable | None = None
        self._batches: list[tuple[int, bytes]] = []  # the number of the first row, and the batch as it is in the file

    def __len__(self) -> int:
        return self._count - self._taken - len(self._left_out)

    def add(self, batch: DecisionBatch, body: bytes) -> None:
        begin, end = self._count, self._count + batch.size
        self._batches.append((begin, body))
        if not self._tables[-1].has_room_for(batch.size):
            table, self._spare = self._spare, None
            if table is None or not table.has_room_for(batch.size):
                table = IdTable(max(_MORE_SLOTS, slots_for(batch.size)))
            self._tables.append(table)
        self._tables[-1].put(batch.hashes, np.arange(begin, end))
        self._count = end

    def make_spare(self, pause: Callable[[], bool]) -> None:
        """New memory takes its time, 10 ms for a table: it is given bit by bit before it is needed."""
        table = self._tables[-1]
        if self._spare is not None or 4 * table.count < len(table.hashes):
            return
        made = IdTable(_MORE_SLOTS)
        for begin in range(0, _MORE_SLOTS, _FILLED_AT_ONCE):
            for column in (made.hashes, made.numbers):
                column[begin : begin + _FILLED_AT_ONCE].fill(0)
            if pause():
                return
        self._spare = made

    def find(self, transaction_ids: Sequence[str], hashes: NDArray[np.uint64]) -> dict[str, DecisionRow]:
        numbers = sorted(n for table in self._tables for n in table.numbers_of(hashes))  # batch after batch
        rows = [row for n in numbers if (row := self._row(n)) is not None]
        wanted = set(transaction_ids) if rows else ()
        return {row.transaction_id: row for row in rows if row.transaction_id in wanted}

    def oldest(self, limit: int) -> list[DecisionRow]:
        rows: list[DecisionRow] = []
        for n in range(self._taken, self._count):
            if len(rows) == limit:
                break
            if (row := self._row(n)) is not None:
                rows.append(row)
        return rows

    def forget(self, n: int) -> None:
        while n or self._taken in self._left_out:
            n -= self._taken not in self._left_out
            self._left_out.discard(self._taken)
            self._taken += 1
        gone = _place_of(self._batches, self._taken) if len(self) else len(self._batches)
        if gone > 0:
            self._batches = self._batches[gone:]  # another list: one that is being read stays as it is
        self._tables = [one for one in self._tables if one.newest >= self._taken] or [IdTable(_SLOTS)]

    def leave_out(self, transaction_ids: Collection[str]) -> None:
        numbers = range(self._taken, self._count)
        self._left_out = {n for n in numbers if (row := self._row(n)) and row.transaction_id in transaction_ids}

    def _row(self, n: int) -> DecisionRow | None:
        batches = self._batches
        place = _place_of(batches, n)
        if n < self._taken or n in self._left_out or place < 0:
            return None
        begin, body = batches[place]
        return row_of(_columns_of(body), n - begin)


def _place_of(batches: Sequence[tuple[int, bytes]], n: int) -> int:
    """Of the batch that has row n; -1 when it is gone."""
    return bisect_right(batches, n, key=operator.itemgetter(0)) - 1


@functools.lru_cache(maxsize=8)
def _columns_of(body: bytes) -> tuple[Column, ...]:
    """Rows are asked for one after the other, and are in few batches then."""
    return _unpack(body)[1]


def _is_older(data: bytes) -> bool:
    """Whether it begins with a record of the format before this one, which had no generation."""
    body = data[_HEAD : _HEAD + int.from_bytes(data[:4], "little")]
    return bool(body) and zlib.crc32(body).to_bytes(4, "little") == data[4:_HEAD]


def _write(file: int, data: bytes, begin: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(file, data[written:], begin + written)
