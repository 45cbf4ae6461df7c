"""Damage: what of a log is not as it was written, and how much of it is lost."""

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.disk import Disk
from sentinel.record.log import Kind, Record
from sentinel.record.log_end import PublishedEnd
from sentinel.record.segment import (
    HEAD,
    NO_CHAIN,
    Head,
    Image,
    Segment,
    Stored,
    bases_in,
    chain_behind,
    chained,
    head_at,
    record_after,
    records_after,
    seed_of,
    segment_in,
    segment_name,
)

_ID = re.compile(rb"[0-9a-f]{16}")
_NEAR = 4_096  # bytes of a segment among which its head names the log
_FOREIGN = "the segment is of another log"


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


class Sound(NamedTuple):
    """What is as it was written at the beginning of a segment: all before `offset`, and what stands there."""

    data: bytes
    offset: int
    position: int
    received_us: int
    chain: bytes
    standing: dict[str, Record]


class Finding(NamedTuple):
    """What is wrong with the segment of this base: all is lost between `sound` and the position `end`.

    `rest` is what is whole behind that, `resumed` the chain that it bears, and `damaged` the bytes between. Where the
    head is lost too, `before` is the base of the segment before, or 0, and `sound` has no data; else it is None.
    """

    base: int
    sound: Sound
    end: int
    rest: bytes
    resumed: bytes
    damaged: bytes
    problem: str
    before_us: int | None
    before: int | None = None


class DamagedLog:
    """A log as it is found, for the owner of the writer's lock.

    `log_id` is what it is called if none of its segments can tell. Raises StorageProblem when nothing can.
    """

    def __init__(self, folder: Path, position: int, disk: Disk, log_id: str | None = None) -> None:
        self._folder, self._disk = folder, disk
        self._bases = bases_in(disk.names(folder))
        with closing(PublishedEnd(disk.open(folder / "end"))) as end:
            self._durable, self._newest, self._oldest = end.durable, end.newest, end.oldest
        self._segments = {base: one for base in self._bases if (one := self._segment(base))}
        self.log_id = log_id or self._named_in_heads(position)
        self.seed = seed_of(self.log_id)

    def at(self, position: int) -> Finding | None:
        """What is wrong at this position, if anything is."""
        until = self._missing().get(position)
        if until is not None:
            return self._without_segment(position, until, b"", "the segment is missing")
        base = max((base for base in self._bases if base <= position), default=0)
        if not base:
            return None
        segment = self._segments.get(base)
        if segment is None:
            return self._without_head(base) if position == base else None
        if segment.head.log_id != self.log_id:
            data = self._image(base).data
            return self._without_segment(base, self._until(base), data, _FOREIGN)
        if position == base and (found := self._broken_link(base, segment)):
            return found
        found = self._within(base, segment)
        return found if found and found.sound.position == position else None

    def _missing(self) -> dict[int, int]:
        """By the base of each segment that is missing, the position up to which it must have gone."""
        missing: dict[int, int] = {}
        if self._newest > max(self._bases, default=0):
            missing[self._newest] = max(self._durable, self._newest)
        if self._bases and 0 < self._oldest < self._bases[0]:
            missing[self._oldest] = self._bases[0]
        for earlier, later in pairwise(self._bases):
            segment = self._segments.get(later)
            if segment and segment.head.log_id == self.log_id and segment.head.before != earlier:
                missing[segment.head.before] = later
        return missing

    def _within(self, base: int, segment: Segment) -> Finding | None:
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
        return self._found(base, image, sound, after, end, "records are not as they were written")

    def _without_head(self, base: int) -> Finding:
        """A segment whose head is not as it was written."""
        image, before = self._image(base), self._before(base)
        ended = self._ended(before)
        after = record_after(image, -1, self.seed)
        while after and (after.record.kind == HEAD or after.record.position < base):
            after = record_after(image, after.begin, self.seed)
        until = self._until(base)
        if after and after.next > until:
            after = None
        end = after.record.position if after else max(until if base != self._bases[-1] else self._durable, base)
        received_us = ended.received_us or (after.record.received_us if after else 0)
        sound = Sound(b"", 0, base, received_us, ended.chain, ended.standing)
        found = self._found(base, image, sound, after, end, "the head is not as it was written")
        damaged = image.data[: after.begin] if after else _without_zeros(image.data)
        return found._replace(damaged=damaged, before=before)

    def _without_segment(self, base: int, until: int, data: bytes, problem: str) -> Finding:
        """A segment that is not there, or not of this log."""
        before = self._before(base)
        following, ended = self._segments.get(until), self._ended(before)
        sound = Sound(b"", 0, base, ended.received_us, ended.chain, ended.standing)
        resumed = following.head.previous if following else b""
        before_us = following.first.record.received_us if following else None
        return Finding(base, sound, until, b"", resumed, data, problem, before_us, before)

    def _broken_link(self, base: int, segment: Segment) -> Finding | None:
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
        return Finding(before, sound, base, b"", segment.head.previous, b"", problem, segment.first.record.received_us)

    def _found(self, base: int, image: Image, sound: Sound, after: Stored | None, end: int, problem: str) -> Finding:
        following = self._segments.get(self._until(base))
        if after:
            damaged, rest = image.data[sound.offset : after.begin], image.data[after.begin :]
            return Finding(base, sound, end, rest, after.record.chain, damaged, problem, after.record.received_us)
        resumed, before_us = (following.head.previous, following.first.record.received_us) if following else (b"", None)
        damaged = _without_zeros(image.data[sound.offset :])
        return Finding(base, sound, end, b"", resumed, damaged, problem, before_us)

    def shown(self, found: Finding) -> Damage:
        """What has to be given up of it, for people."""
        begin = found.sound.position
        decided, known = _kinds_in(b"" if found.problem == _FOREIGN else found.damaged, begin, found.end)
        return Damage(
            segment_name(found.base), begin, found.end, found.problem, decided, found.end - known,
            found.sound.received_us or None, found.before_us, len(found.damaged),
        )  # fmt: skip

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

    def _sound(self, image: Image, segment: Segment, until: int) -> Sound:
        """What is as it was written at the beginning of a segment."""
        last, chain, standing = segment.first, segment.head.previous, dict(segment.head.standing)
        with suppress(LogDamaged):
            for found in chained(image, segment):
                if found.next > until:
                    break
                last, chain = found, chain_behind(found.record)
                if found.standing:
                    standing[found.standing] = found.record
        return Sound(image.data[: last.end], last.end, last.next, last.record.received_us, chain, standing)

    def _ended(self, base: int) -> Sound:
        """How a segment ends, as far as it is sound; what is not known is empty."""
        segment = self._segments.get(base)
        if segment is None or segment.head.log_id != self.log_id:
            return Sound(b"", 0, base, 0, NO_CHAIN, {})
        return self._sound(self._image(base), segment, self._until(base))

    def _whole_after(self, image: Image, sound: Sound, until: int) -> Iterator[Stored]:
        for found in records_after(image, sound.offset, self.seed):
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
