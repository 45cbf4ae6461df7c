"""Segments of the log in an archive: closed ones whole and compressed, the newest as far as it is durable."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from zstandard import ZstdCompressor

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.objects.store import ObjectStore
from sentinel.record.archive.catalog import Part
from sentinel.record.disk import Disk, Readable
from sentinel.record.log_reader import naming_faults
from sentinel.record.segment import Image, Segment, chained, damaged, pack, segment_in, segment_name, walk
from sentinel.record.verify import check_segment

PART_BYTES = 8 << 20
"""The most that is taken of the newest segment at once."""

_PIECE = 1 << 20
_LEVEL = 3


def archive_segment(
    disk: Disk, log: Path, base: int, until: int, store: ObjectStore, log_id: str, rest: Callable[[], None]
) -> None:
    """Put the closed segment from `base` up to `until` into the archive, read it back, and check its hash chain.

    `rest` is called after every megabyte; what it raises ends it. Raises StorageProblem.
    """
    name = f"{log_id}/{segment_name(base)}"
    with naming_faults(log, "read"), closing(disk.open(log / segment_name(base))) as file:
        store.upload(name, _compressed(file, segment_in(file, base), until, rest))
    try:
        check_segment(Image(_read_back(store, name, rest)), base, until, until, None)
    except LogDamaged as problem:
        store.delete([name])
        raise StorageProblem(f"{store.at} did not give back the segment that was put there: {problem}") from problem


def _compressed(file: Readable, segment: Segment, until: int, rest: Callable[[], None]) -> Iterator[bytes]:
    """The records before `until`, each compressed by itself, in pieces; what follows them is void."""
    compressor, piece, position = ZstdCompressor(level=_LEVEL), bytearray(), segment.base
    for found in chained(file, segment):
        if found.next > until:
            break
        piece += pack(file, found, compressor)
        position = found.next
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
            rest()
    if position < until:
        raise damaged(segment.base, position, "the record is not as it was written")
    yield bytes(piece)


def _read_back(store: ObjectStore, name: str, rest: Callable[[], None]) -> bytes:
    read = bytearray()
    for piece in store.pieces(name):
        read += piece
        rest()
    return bytes(read)


class Stretch(NamedTuple):
    """Records of the newest segment: their bytes from `begin` to `end`; the position and the chain after them."""

    begin: int
    end: int
    next: int
    chain: str


def durable_stretch(file: Readable, base: int, parts: tuple[Part, ...], archived: int, durable: int) -> Stretch | None:
    """What comes after the parts of a segment and is durable; None when nothing does.

    `archived` is the position that the parts reach to. Bytes of durable records are never changed.
    """
    segment, begin = segment_in(file, base), parts[-1].begin + parts[-1].bytes if parts else 0
    found = None
    for one in walk(file, begin, archived if parts else base, segment.seed):
        if one.next > durable or (found is not None and one.end - begin > PART_BYTES):
            break
        found = one
    if found is None or found.next <= archived:
        return None
    return Stretch(begin, found.end, found.next, found.record.chain.hex())


def merged(parts: tuple[Part, ...], stretch: Stretch) -> tuple[tuple[Part, ...], int]:
    """The parts that stay beside a new one, and from which byte on that is.

    A part that is not larger than what follows it becomes one with that. So of a segment there are few, and each byte
    is uploaded a few times: as often as its part can be doubled.
    """
    stay, begin = list(parts), stretch.begin
    while stay and stay[-1].bytes <= stretch.end - begin:
        begin = stay.pop().begin
    return tuple(stay), begin


def put_part(
    store: ObjectStore, file: Readable, log_id: str, base: int, begin: int, end: int, rest: Callable[[], None]
) -> Part:
    """Upload bytes of a segment."""
    name, digest = f"{log_id}/{base:020}.{begin:012}-{end:012}.part", hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for at in range(begin, end, _PIECE):
            piece = file.read(at, min(_PIECE, end - at))
            digest.update(piece)
            yield piece
            rest()

    store.upload(name, pieces())
    return Part(name, begin, end - begin, digest.hexdigest())
