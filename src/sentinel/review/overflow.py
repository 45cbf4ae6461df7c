"""The overflow: decisions that were given when there was no time for features, durable until the journal has them."""

import contextlib
import functools
import itertools
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from xxhash import xxh3_64_intdigest

from sentinel.errors import JournalProblem
from sentinel.review.decision_batch import DecisionBatch
from sentinel.review.journal_reader import DecisionRow

_HEAD = 8  # of the file: its generation; of a record: length and checksum, four bytes each
_STEP = 32 << 20
_encode = msgspec.msgpack.Encoder().encode
_batch_of = msgspec.msgpack.Decoder(tuple[int, tuple[tuple[bool, Any], ...]]).decode


class Overflow:
    """A file of decided transactions, appended to and emptied as a whole; from one thread.

    A row is on the disk when `append` returns, at a tenth of what the journal takes. What a crash left half written at
    the end was never answered and is passed over. `places` has those that the journal does not have yet, by transaction
    id, in the order in which they were taken: the batch that each is in, as it is in the file, and its number there.
    What is kept of a hundred thousand rows has to be little, and nothing that the garbage collector looks at.

    The file keeps its length: a write that makes a file longer can take a hundred times as long as one that does not.
    It is emptied by a new generation, which goes into every checksum: what is left of an older one is no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise JournalProblem(f"{path} cannot be opened: {error.strerror}") from error
        self._end = _HEAD
        self._length = os.fstat(self._file).st_size
        self._generation = 0
        self.places: dict[str, tuple[bytes, int]] = {}
        self._read()
        if not self.places:
            self._empty()

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

    def make_room(self) -> None:
        """Give the file its first length, before anyone waits. Where the disk has no room it stays as it was."""
        lacking = _STEP - self._length
        if lacking > 0 and self._lengthen(lacking):
            with contextlib.suppress(OSError):
                _write(self._file, bytes(lacking), _STEP - lacking)  # or its first use would take as long as growing
                os.fdatasync(self._file)

    def _lengthen(self, by: int) -> bool:
        """Whether there was room."""
        try:
            os.posix_fallocate(self._file, self._length, by)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._length)  # others need the room there is
            return False
        self._length += by
        return True

    def __len__(self) -> int:
        """How many rows the journal does not have yet."""
        return len(self.places)

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
            self._keep(_decode(body), body)
            at += _HEAD + length
        self._end = at

    def _keep(self, batch: DecisionBatch, body: bytes) -> None:
        places = zip(itertools.repeat(body), range(batch.size), strict=False)
        self.places.update(zip(batch.values("transaction_id"), places, strict=True))

    def get(self, transaction_id: str) -> DecisionRow | None:
        """The row of this transaction, if it waits here."""
        found = self.places.get(transaction_id)
        return None if found is None else _decode(found[0]).row(found[1])

    def oldest(self, limit: int) -> list[DecisionRow]:
        """The rows that were taken first, at most so many."""
        return [_decode(body).row(n) for body, n in itertools.islice(self.places.values(), limit)]

    def append(self, batch: DecisionBatch) -> None:
        """Make the rows durable, all or none. Raises JournalProblem (disk full)."""
        body = _encode(batch)
        record = len(body).to_bytes(4, "little") + self._checksum(body).to_bytes(4, "little") + body
        end = self._end + len(record)
        if end > self._length:
            self._lengthen(max(_STEP, end - self._length))
        try:
            _write(self._file, record, self._end)
            self._length = max(self._length, end)
            os.fdatasync(self._file)
        except OSError as error:
            raise JournalProblem(
                f"{self.path} cannot be written: {error.strerror}; free some space or check the disk, then retry"
            ) from error
        self._end = end
        self._keep(batch, body)

    def forget(self, rows: Sequence[DecisionRow]) -> None:
        """These are in the journal now; with the last of them the file is emptied."""
        for row in rows:
            self.places.pop(row.transaction_id, None)
        if not self.places and self._end > _HEAD:
            self._empty()

    def _empty(self) -> None:
        """Begin anew. After a crash before this is on the disk, rows are read again that the journal has already."""
        generation = os.urandom(_HEAD)
        try:
            _write(self._file, generation, 0)
        except OSError as error:
            raise JournalProblem(f"{self.path} cannot be written: {error.strerror}; free some space") from error
        self._generation, self._end = int.from_bytes(generation, "little"), _HEAD
        self._length = max(self._length, _HEAD)

    def _checksum(self, body: bytes) -> int:
        return xxh3_64_intdigest(body, self._generation) & 0xFFFF_FFFF


@functools.lru_cache(maxsize=8)
def _decode(body: bytes) -> DecisionBatch:
    """Rows are asked for one after the other, and are in few batches then."""
    return DecisionBatch._make(_batch_of(body))


def _is_older(data: bytes) -> bool:
    """Whether it begins with a record of the format before this one, which had no generation."""
    body = data[_HEAD : _HEAD + int.from_bytes(data[:4], "little")]
    return bool(body) and zlib.crc32(body).to_bytes(4, "little") == data[4:_HEAD]


def _write(file: int, data: bytes, begin: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(file, data[written:], begin + written)
