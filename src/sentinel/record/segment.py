"""A segment: one file of the log, and the format of what is in it.

A segment is a sequence of records, each of them aligned to 8 bytes, and its first record is its head. A record is a
head of 68 bytes and a payload: its standing name, if it has one, and its body. The checksum is seeded with the log's
id, so that the bytes of another log are no record of this one. The chain is the hash of the chain before, of the
fields of the head, and of the hash of the payload; a segment's head hands it on as it is. In a closed segment the
payloads may be compressed, each by itself; checksums and chains stay those of the plain payload. A loss that an
operator has accepted is a record in the place of what was lost, and names the chain with which the log goes on.
"""

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

import msgspec
import zstandard
from xxhash import xxh3_64_intdigest

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.disk import Readable
from sentinel.record.log import Record
from sentinel.record.loss import resumed_in

FORMAT = 1
HEAD = 255
"""The kind of a segment's first record. It has no rows, and its position is the segment's base."""
PLAIN, PACKED = b"SnL1", b"SnZ1"
NO_CHAIN = bytes(16)
_MAGIC = re.compile(b"Sn[LZ]1")

_PREFIX = Struct("<4sIQ")  # magic, stored bytes, checksum of all that follows, as it is when plain
_FIELDS = Struct("<IIBBHQqQ")
_WHOLE = Struct("<4sIQIIBBHQqQ16s")
_DAMAGE = "restore {} from a copy, or give up what is lost: `sentinel log accept-loss {}` shows it first"


class Head(NamedTuple):
    """What stands before a payload, as it is in the file; not checked against the checksum.

    The payload has `length` bytes, of which the first `name` are the standing name, and takes `stored` bytes.
    `durable` is the log's durable end when the record was written. `flags` say what a reader has to understand.
    """

    magic: bytes
    stored: int
    checksum: int
    length: int
    rows: int
    kind: int
    flags: int
    name: int
    position: int
    received_us: int
    durable: int
    chain: bytes

    @property
    def size(self) -> int:
        """Bytes from the beginning of the record to that of the next."""
        return _aligned(_WHOLE.size + self.stored)


class Stored(NamedTuple):
    """A record as it was found from the offset `begin` to `end`; its checksum is right."""

    record: Record
    standing: str
    durable: int
    begin: int
    end: int

    @property
    def next(self) -> int:
        """The position after its last entry."""
        return self.record.position + self.record.rows


class SegmentHead(msgspec.Struct, frozen=True, array_like=True):
    """The body of a segment's first record.

    The position of that record, the base, and `previous`, the chain before it, void what older segments hold from the
    base on. `before` is the base of the segment before (0: none). `standing` has the newest record of each name.
    """

    version: int
    log_id: str
    before: int
    previous: bytes
    created_us: int
    standing: dict[str, Record]


class Segment(NamedTuple):
    """A segment whose head is as it was written; `first` is the head's record."""

    base: int
    head: SegmentHead
    first: Stored
    seed: int


class Image(NamedTuple):
    """The content of a file, read at once."""

    data: bytes

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from this offset on."""
        return self.data[offset : offset + length]

    def size(self) -> int:
        """How many bytes there are."""
        return len(self.data)


def segment_name(base: int) -> str:
    """The name of the segment that begins at this position."""
    return f"{base:020}.segment"


def bases_in(names: Iterable[str]) -> list[int]:
    """The bases of the segments among these names, in order."""
    return sorted(int(name[:20]) for name in names if len(name) == 28 and name.endswith(".segment"))


def damaged(base: int, position: int, problem: str) -> LogDamaged:
    """The error for entries that were durable and are not as they were written."""
    name = segment_name(base)
    return LogDamaged(
        f"{name} of the log, position {position}: {problem}; {_DAMAGE.format(name, position)}", name, position
    )


def seed_of(log_id: str) -> int:
    """What the checksums of this log's records begin with."""
    return xxh3_64_intdigest(log_id.encode())


def size_of(payload: int) -> int:
    """Size in bytes of a record with this payload length."""
    return _aligned(_WHOLE.size + payload)


def encode(record: Record, standing: str, durable: int, seed: int) -> tuple[bytes, bytes]:
    """The bytes of a record whose `chain` is still that of the record before, and its own chain."""
    position, kind, rows, received_us, body, previous = record
    name = standing.encode()
    payload = name + body
    fields = _FIELDS.pack(len(payload), rows, kind, 0, len(name), position, received_us, durable)
    chain = previous if kind == HEAD else sha256(previous + fields + sha256(payload).digest()).digest()[:16]
    checked = b"".join((fields, chain, payload, bytes(-(_WHOLE.size + len(payload)) % 8)))
    return _PREFIX.pack(PLAIN, len(payload), xxh3_64_intdigest(checked, seed)) + checked, chain


def pack(file: Readable, found: Stored, compressor: zstandard.ZstdCompressor) -> bytes:
    """The bytes of a record with its payload compressed."""
    head = file.read(found.begin, _WHOLE.size)
    payload = compressor.compress(found.standing.encode() + found.record.body)
    checksum = Head._make(_WHOLE.unpack(head)).checksum
    packed = _PREFIX.pack(PACKED, len(payload), checksum) + head[_PREFIX.size :] + payload
    return packed + bytes(-len(packed) % 8)


def head_at(file: Readable, offset: int) -> Head | None:
    """The head of the record at this offset, unchecked, or None when there is none."""
    return _head(file.read(offset, _WHOLE.size))


def record_at(file: Readable, offset: int, seed: int) -> Stored | None:
    """The record at this offset, or None when there is none that is whole."""
    raw = file.read(offset, _WHOLE.size)
    head = _head(raw)
    payload = None if head is None else _payload(file, offset, head)
    if head is None or payload is None:
        return None
    checked = b"".join((raw[_PREFIX.size :], payload, bytes(-(_WHOLE.size + len(payload)) % 8)))
    if xxh3_64_intdigest(checked, seed) != head.checksum:
        return None
    if head.flags:
        raise StorageProblem(f"position {head.position} of the log needs a newer version of Sentinel; run that")
    name, body = payload[: head.name].decode(), payload[head.name :]
    record = Record(head.position, head.kind, head.rows, head.received_us, body, head.chain)
    return Stored(record, name, head.durable, offset, offset + head.size)


def segment_in(file: Readable, base: int) -> Segment:
    """Read a segment's head. Raises LogDamaged when it is not as it was written."""
    head = head_at(file, 0)
    payload = None if head is None else _payload(file, 0, head)
    try:
        content = msgspec.msgpack.decode(payload or b"", type=SegmentHead)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(base, base, "its head is not as it was written") from error
    seed = seed_of(content.log_id)
    first = record_at(file, 0, seed)
    if first is None or first.record.position != base or first.record.kind != HEAD:
        raise damaged(base, base, "its head is not as it was written")
    if content.version > FORMAT:
        raise StorageProblem(f"{segment_name(base)} of the log was written by a newer version of Sentinel; run that")
    return Segment(base, content, first, seed)


def walk(file: Readable, offset: int, position: int, seed: int) -> Iterator[Stored]:
    """The whole records from this offset on, as long as each continues the positions of the one before."""
    while (found := record_at(file, offset, seed)) and found.record.position == position:
        yield found
        offset, position = found.end, found.next


def chained(file: Readable, segment: Segment) -> Iterator[Stored]:
    """The records of a segment from its head on, as `walk`; raises LogDamaged where the chain breaks."""
    chain, resumed = segment.head.previous, b""
    for found in walk(file, 0, segment.base, segment.seed):
        if found.record.chain != (resumed or chain_of(found, chain)):
            raise damaged(segment.base, found.record.position, "its chain does not continue that of the record before")
        yield found
        chain, resumed = found.record.chain, resumed_in(found.record)


def chain_behind(record: Record) -> bytes:
    """The chain that what comes after a record goes on from."""
    return resumed_in(record) or record.chain


def chain_of(found: Stored, before: bytes) -> bytes:
    """The chain that a record has to bear behind one that bears `before`."""
    return encode(found.record._replace(chain=before), found.standing, found.durable, 0)[1]


def record_after(image: Image, offset: int, seed: int) -> Stored | None:
    """The first whole record that begins behind this offset, whatever is before it."""
    return next(records_after(image, offset, seed), None)


def records_after(image: Image, offset: int, seed: int) -> Iterator[Stored]:
    """The whole records that begin behind this offset, whatever is before and between them."""
    for magic in _MAGIC.finditer(image.data, offset + 1):
        if magic.start() % 8 == 0 and (found := record_at(image, magic.start(), seed)):
            yield found


def _head(raw: bytes) -> Head | None:
    return Head._make(_WHOLE.unpack(raw)) if len(raw) == _WHOLE.size and raw[:4] in (PLAIN, PACKED) else None


def _payload(file: Readable, offset: int, head: Head) -> bytes | None:
    """The plain payload of a record, or None when it cannot be had."""
    if offset + head.size > file.size():  # a number that is no length must not become memory
        return None
    stored = file.read(offset + _WHOLE.size, head.stored)
    if head.magic == PLAIN:
        return stored if head.stored == head.length else None
    try:
        if zstandard.frame_content_size(stored) != head.length:
            return None
        return zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError:
        return None


def _aligned(size: int) -> int:
    return -(-size // 8) * 8
