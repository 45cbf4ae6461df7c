"""Salvage: of a damaged segment all is kept that is as it was written; a LOSS record takes the place of the rest."""

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.disk import Disk
from sentinel.record.log import Kind, Record
from sentinel.record.log_end import PublishedEnd
from sentinel.record.loss import Loss, body_of_loss
from sentinel.record.segment import (
    FORMAT,
    HEAD,
    NO_CHAIN,
    Head,
    Image,
    Segment,
    SegmentHead,
    Stored,
    bases_in,
    chain_behind,
    chained,
    encode,
    head_at,
    record_after,
    records_after,
    seed_of,
    segment_in,
    segment_name,
)

_DRAFT = ".salvage"
_ID = re.compile(rb"[0-9a-f]{16}")
_NEAR = 4_096  # bytes of a segment among which its head names the log
_FOREIGN = "the segment is of another log"
_encode_head = msgspec.msgpack.Encoder().encode


class Damage(NamedTuple):
    """What has to be given up for a log to be whole at a place: the entries from position `begin` up to `end`.

    `decided` of them are known to be decisions, of `unknown` nothing can be told. They were received between `after_us`
    and `before_us` (us since 1970; None: not known, or nothing follows). `bytes` are set aside.
    """

    segment: str
    begin: int
    end: int
    problem: str
    decided: int
    unknown: int
    after_us: int | None
    before_us: int | None
    bytes: int


class _Sound(NamedTuple):
    """What is as it was written at the beginning of a segment: all before `offset`, and what stands there."""

    data: bytes
    offset: int
    position: int
    received_us: int
    chain: bytes
    standing: dict[str, Record]


class _Repair(NamedTuple):
    """What a segment consists of afterwards: `sound`, a LOSS record up to the position `end`, and `rest`."""

    base: int
    sound: _Sound
    end: int
    rest: bytes
    resumed: bytes
    damaged: bytes
    problem: str
    before_us: int | None


class Salvage:
    """The damage of a log at one position, for the owner of the writer's lock: seen first, then accepted.

    `log_id` is what the log is called if none of its segments can tell. Raises StorageProblem when nothing is wrong at
    that position.
    """

    def __init__(self, folder: Path, position: int, disk: Disk, log_id: str | None = None) -> None:
        self._folder, self._disk = folder, disk
        self._bases = bases_in(disk.names(folder))
        with closing(PublishedEnd(disk.open(folder / "end"))) as end:
            self._durable, self._newest, self._oldest = end.durable, end.newest, end.oldest
        self._segments = {base: one for base in self._bases if (one := self._segment(base))}
        self._log_id = log_id or self._named_in_heads(position)
        self._seed = seed_of(self._log_id)
        repair = self._repair_of(position)
        if repair is None:
            raise StorageProblem(
                f"nothing is damaged at position {position} of the log; `sentinel log verify` names what is"
            )
        self._repair = repair
        self.damage = self._seen(repair)

    def accept(self, now_us: int) -> str:
        """Set the damaged bytes aside and put the loss in their place, durably; the name of the file that has them."""
        repair, seen = self._repair, self.damage
        kept = f"lost-{seen.begin:020}.bytes" if repair.damaged else ""
        if kept:
            self._write(kept, repair.damaged)
            self._disk.sync_folder(self._folder)
        loss = Loss(now_us, seen.decided, seen.unknown, repair.resumed, kept, seen.problem)
        sound = repair.sound
        record = Record(
            sound.position, Kind.LOSS, repair.end - sound.position, sound.received_us, body_of_loss(loss), sound.chain
        )
        data, _ = encode(record, "", sound.position, self._seed)
        self._write(_DRAFT, sound.data + data + repair.rest)
        self._disk.rename(self._folder / _DRAFT, self._folder / segment_name(repair.base))
        self._disk.sync_folder(self._folder)
        return kept

    def _write(self, name: str, data: bytes) -> None:
        with closing(self._disk.create(self._folder / name)) as file:
            file.write(0, data)
            file.sync()

    # what is wrong

    def _repair_of(self, position: int) -> _Repair | None:
        until = self._missing().get(position)
        if until is not None:
            return self._without_segment(position, until, b"", "the segment is missing")
        base = max((base for base in self._bases if base <= position), default=0)
        if not base:
            return None
        segment = self._segments.get(base)
        if segment is None:
            return self._without_head(base) if position == base else None
        if segment.head.log_id != self._log_id:
            data = self._image(base).data
            return self._without_segment(base, self._until(base), data, _FOREIGN)
        if position == base and (repair := self._broken_link(base, segment)):
            return repair
        repair = self._within(base, segment)
        return repair if repair and repair.sound.position == position else None

    def _missing(self) -> dict[int, int]:
        """By the base of each segment that is missing, the position up to which it must have gone."""
        missing: dict[int, int] = {}
        if self._newest > max(self._bases, default=0):
            missing[self._newest] = max(self._durable, self._newest)
        if self._bases and 0 < self._oldest < self._bases[0]:
            missing[self._oldest] = self._bases[0]
        for earlier, later in pairwise(self._bases):
            segment = self._segments.get(later)
            if segment and segment.head.log_id == self._log_id and segment.head.before != earlier:
                missing[segment.head.before] = later
        return missing

    def _within(self, base: int, segment: Segment) -> _Repair | None:
        """A record that is not as it was written, in a segment whose head is."""
        image, until = self._image(base), self._until(base)
        sound = self._sound(image, segment, until)
        if sound.position >= until:
            return None
        after = next(self._whole_after(image, sound, until), None)
        shown = until
        if base == self._bases[-1]:
            shown = max(self._durable, after.durable if after else 0)
        if sound.position >= shown:
            return None  # what follows was never durable
        end = after.record.position if after else shown
        return self._repaired(base, image, sound, after, end, "records are not as they were written")

    def _without_head(self, base: int) -> _Repair:
        """A segment whose head is not as it was written: it is written anew from what is known of it."""
        image, before = self._image(base), self._before(base)
        ended = self._ended(before)
        after = record_after(image, -1, self._seed)
        while after and (after.record.kind == HEAD or after.record.position < base):
            after = record_after(image, after.begin, self._seed)
        until = self._until(base)
        if after and after.next > until:
            after = None
        end = after.record.position if after else max(until if base != self._bases[-1] else self._durable, base)
        received_us = ended.received_us or (after.record.received_us if after else 0)
        sound = self._headed(base, before, ended._replace(received_us=received_us))
        repair = self._repaired(base, image, sound, after, end, "the head is not as it was written")
        return repair._replace(damaged=image.data[: after.begin] if after else _without_zeros(image.data))

    def _without_segment(self, base: int, until: int, data: bytes, problem: str) -> _Repair:
        """A segment that is not there, or not of this log."""
        before = self._before(base)
        following = self._segments.get(until)
        sound = self._headed(base, before, self._ended(before))
        resumed = following.head.previous if following else b""
        before_us = following.first.record.received_us if following else None
        return _Repair(base, sound, until, b"", resumed, data, problem, before_us)

    def _broken_link(self, base: int, segment: Segment) -> _Repair | None:
        """A segment that does not continue the chain of the one before: nothing is lost, and all is to be doubted."""
        before = self._before(base)
        earlier = self._segments.get(before)
        if earlier is None:
            return None
        image = self._image(before)
        sound = self._sound(image, earlier, base)
        if sound.position != base or sound.chain == segment.head.previous:
            return None
        problem = "the chain does not continue from one segment to the next"
        return _Repair(before, sound, base, b"", segment.head.previous, b"", problem, segment.first.record.received_us)

    def _repaired(
        self, base: int, image: Image, sound: _Sound, after: Stored | None, end: int, problem: str
    ) -> _Repair:
        following = self._segments.get(self._until(base))
        if after:
            damaged, rest = image.data[sound.offset : after.begin], image.data[after.begin :]
            return _Repair(base, sound, end, rest, after.record.chain, damaged, problem, after.record.received_us)
        resumed, before_us = (following.head.previous, following.first.record.received_us) if following else (b"", None)
        damaged = _without_zeros(image.data[sound.offset :])
        return _Repair(base, sound, end, b"", resumed, damaged, problem, before_us)

    def _seen(self, repair: _Repair) -> Damage:
        begin = repair.sound.position
        decided, known = _kinds_in(b"" if repair.problem == _FOREIGN else repair.damaged, begin, repair.end)
        return Damage(
            segment_name(repair.base), begin, repair.end, repair.problem, decided, repair.end - known,
            repair.sound.received_us or None, repair.before_us, len(repair.damaged),
        )  # fmt: skip

    # what is there

    def _image(self, base: int) -> Image:
        with closing(self._disk.open(self._folder / segment_name(base))) as file:
            return Image(file.read(0, file.size()))

    def _segment(self, base: int) -> Segment | None:
        with closing(self._disk.open(self._folder / segment_name(base))) as file:
            try:
                return segment_in(file, base)
            except LogDamaged:
                return None

    def _until(self, base: int) -> int:
        return next((later for later in self._bases if later > base), 1 << 63)

    def _before(self, base: int) -> int:
        """The base of the segment before, or 0."""
        return max((earlier for earlier in self._bases if earlier < base), default=0)

    def _sound(self, image: Image, segment: Segment, until: int) -> _Sound:
        """What is as it was written at the beginning of a segment."""
        last, chain, standing = segment.first, segment.head.previous, dict(segment.head.standing)
        with suppress(LogDamaged):
            for found in chained(image, segment):
                if found.next > until:
                    break
                last, chain = found, chain_behind(found.record)
                if found.standing:
                    standing[found.standing] = found.record
        return _Sound(image.data[: last.end], last.end, last.next, last.record.received_us, chain, standing)

    def _ended(self, base: int) -> _Sound:
        """How a segment ends, as far as it is sound; what is not known is empty."""
        segment = self._segments.get(base)
        if segment is None or segment.head.log_id != self._log_id:
            return _Sound(b"", 0, base, 0, NO_CHAIN, {})
        return self._sound(self._image(base), segment, self._until(base))

    def _headed(self, base: int, before: int, ended: _Sound) -> _Sound:
        """The beginning of a segment that follows another one, which ended so: its head."""
        standing = ended.standing
        head = SegmentHead(FORMAT, self._log_id, before, ended.chain, ended.received_us, standing)
        record = Record(base, HEAD, 0, ended.received_us, _encode_head(head), ended.chain)
        data, _ = encode(record, "", base, self._seed)
        return _Sound(data, 0, base, ended.received_us, ended.chain, standing)

    def _whole_after(self, image: Image, sound: _Sound, until: int) -> Iterator[Stored]:
        for found in records_after(image, sound.offset, self._seed):
            if found.record.kind != HEAD and sound.position <= found.record.position and found.next <= until:
                yield found

    def _named_in_heads(self, position: int) -> str:
        """The id of the log: that of its oldest segment whose head can be read, or what fits its records."""
        for segment in self._segments.values():
            return segment.head.log_id
        for base in self._bases:
            image = self._image(base)
            for named in dict.fromkeys(_ID.findall(image.data[:_NEAR])):
                if record_after(image, -1, seed_of(named.decode())):
                    return str(named.decode())
        raise StorageProblem(
            f"no head of a segment can be read, so what the log at position {position} is called is not known; "
            "restore the log from a copy"
        )


def _kinds_in(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """How many decisions the heads among these bytes tell of, and the position up to which they are believable."""
    image, offset, decided = Image(data), 0, 0
    while begin < end and (head := head_at(image, offset)) and _fits(head, begin, end):
        decided += head.rows if head.kind == Kind.DECIDED else 0
        begin, offset = begin + head.rows, offset + head.size
    return decided, begin


def _fits(head: Head, begin: int, end: int) -> bool:
    return head.position == begin and begin + head.rows <= end and (head.kind in list(Kind) or head.kind == HEAD)


def _without_zeros(data: bytes) -> bytes:
    return data.rstrip(b"\0")
