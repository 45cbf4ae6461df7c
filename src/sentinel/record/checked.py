"""Which closed segments were read through and found whole, so that a start reads each of them once."""

import logging
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel.record.disk import Disk
from sentinel.record.segment import segment_name
from sentinel.record.verify import check_segment

_NAME, _DRAFT = "checked", ".checked"
logger = logging.getLogger(__name__)


class _Mark(NamedTuple):
    """What the file of a segment was, up to which position it was read, and its last chain."""

    stamp: str
    until: int
    chain: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, _Mark]).decode


class CheckedSegments:
    """The file `checked`: which closed segments were whole, as they are on the disk.

    It is derived: where it is missing or damaged, all segments are read again. Use it from one thread at a time.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder, self._disk = folder, disk
        self._marks: dict[int, _Mark] = {}
        if _NAME in disk.names(folder):
            with closing(disk.open(folder / _NAME)) as file, suppress(msgspec.MsgspecError, UnicodeDecodeError):
                self._marks = _decode(file.read(0, file.size()))

    def check(self, bases: Sequence[int]) -> None:
        """Read the closed ones among these segments that were not read yet, or are others by now. Raises LogDamaged."""
        ends = dict(pairwise(bases))
        new = {base for base, until in ends.items() if not self._is_marked(base, until)}
        if len(new) > 1:
            logger.info("%d segments of the log in %s were not checked yet: they are read", len(new), self._folder)
        chain: bytes | None = None
        for base, until in ends.items():
            if base in new:
                stamp = self._stamp(base)
                with closing(self._disk.open(self._folder / segment_name(base))) as file:
                    self._marks[base] = _Mark(stamp, until, check_segment(file, base, until, 0, chain).chain)
            chain = self._marks[base].chain
        self._marks = {base: self._marks[base] for base in ends}
        if new:
            self._save()

    def add(self, base: int, until: int, chain: bytes) -> None:
        """A closed segment was just read up to a position, and is whole; `chain` is that of its last record."""
        self._marks[base] = _Mark(self._stamp(base), until, chain)
        self._save()

    def _is_marked(self, base: int, until: int) -> bool:
        mark = self._marks.get(base)
        return mark is not None and (mark.stamp, mark.until) == (self._stamp(base), until)

    def _stamp(self, base: int) -> str:
        return self._disk.stamp(self._folder / segment_name(base))

    def _save(self) -> None:
        try:
            with closing(self._disk.create(self._folder / _DRAFT)) as file:
                file.write(0, _encode(self._marks))
            self._disk.rename(self._folder / _DRAFT, self._folder / _NAME)
        except OSError as error:  # the next start reads them again
            logger.warning("which segments of the log were checked cannot be noted: %s", error)
