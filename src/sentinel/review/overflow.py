"""The overflow: decisions that were given when there was no time for features, durable until the journal has them."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sentinel.errors import JournalProblem
from sentinel.review.journal_reader import DecisionRow

_HEAD = 8  # length and checksum, four bytes each
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[tuple[bool, Any]]]).decode


class Overflow:
    """A file of decided transactions, appended to and emptied as a whole; from one thread.

    A row is on the disk when `append` returns, at a tenth of what the journal takes. What a crash left half written at
    the end was never answered and is cut off. `rows` are those that the journal does not have yet, by transaction id,
    in the order in which they were taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise JournalProblem(f"{path} cannot be opened: {error.strerror}") from error
        self._end = 0
        self.rows = {row.transaction_id: row for row in self._read()}

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

    def _read(self) -> list[DecisionRow]:
        data, rows, at = self.path.read_bytes(), [], 0
        while at + _HEAD <= len(data):
            length, checksum = (
                int.from_bytes(data[at : at + 4], "little"),
                int.from_bytes(data[at + 4 : at + 8], "little"),
            )
            body = data[at + _HEAD : at + _HEAD + length]
            if length == 0 or len(body) < length or zlib.crc32(body) != checksum:
                break
            rows += _unpack(body)
            at += _HEAD + length
        self._end = at
        os.ftruncate(self._file, at)
        return rows

    def append(self, rows: Sequence[DecisionRow]) -> None:
        """Make the rows durable, all or none. Raises JournalProblem (disk full)."""
        body = _pack(rows)
        record = len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body
        try:
            written = 0
            while written < len(record):
                written += os.pwrite(self._file, record[written:], self._end + written)
            os.fdatasync(self._file)
        except OSError as error:
            raise JournalProblem(
                f"{self.path} cannot be written: {error.strerror}; free some space or check the disk, then retry"
            ) from error
        self._end += len(record)
        self.rows.update((row.transaction_id, row) for row in rows)

    def forget(self, rows: Sequence[DecisionRow]) -> None:
        """These are in the journal now; with the last of them the file is emptied."""
        for row in rows:
            self.rows.pop(row.transaction_id, None)
        if not self.rows:
            os.ftruncate(self._file, 0)
            self._end = 0


def _pack(rows: Sequence[DecisionRow]) -> bytes:
    """Rows by columns: one value where all of them have the same, else all values."""
    columns = list(zip(*rows, strict=True))
    same = [values.count(values[0]) == len(rows) for values in columns]
    return _encode(
        (len(rows), [(one, values[0] if one else values) for one, values in zip(same, columns, strict=True)])
    )


def _unpack(body: bytes) -> list[DecisionRow]:
    n, columns = _decode(body)
    return list(map(DecisionRow._make, zip(*((value,) * n if same else value for same, value in columns), strict=True)))
