"""Reads all of a log and checks it: checksums, the chain from its head to its end, and that no position is missing."""

from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from sentinel.errors import LogDamaged
from sentinel.record.disk import Disk, Readable, RealDisk
from sentinel.record.log import Kind
from sentinel.record.log_end import PublishedEnd, check_sequence, find_end
from sentinel.record.log_reader import naming_faults
from sentinel.record.loss import AcceptedLoss, loss_in
from sentinel.record.segment import bases_in, chain_behind, chained, damaged, segment_in, segment_name


class Finding(NamedTuple):
    """What is wrong in a segment, or a topic, and the first position that cannot be trusted."""

    segment: str
    position: int
    problem: str


class Verified(NamedTuple):
    """What was read: the entries from position `first` up to `end`; nothing is wrong when there are no findings.

    `losses` are entries that an operator has given up. A log in Kafka has no segments, and the bytes are those of its
    entries.
    """

    segments: int
    bytes: int
    entries: int
    first: int
    end: int
    findings: list[Finding]
    losses: list[AcceptedLoss]


def verify(folder: Path, disk: Disk | None = None) -> Verified:
    """Check every segment of the log in a folder; its writer may go on meanwhile. Raises StorageProblem.

    What is pruned meanwhile is left out.
    """
    disk = disk or RealDisk()
    problems: dict[tuple[str, int], str] = {}
    losses: list[AcceptedLoss] = []
    size = entries = position = 0
    chain: bytes | None = None
    with naming_faults(folder, "read"):
        with closing(PublishedEnd(disk.open(folder / "end"))) as published:
            durable, newest = published.durable, published.newest
            bases = _bases_in_sequence(folder, disk, problems)
            oldest = published.oldest  # read after the names: it is published before the removal
        if newest > max(bases, default=0):
            problems[segment_name(newest), newest] = "the segment is missing"
        if bases and 0 < oldest < bases[0]:
            problems[segment_name(oldest), oldest] = f"the segment is missing, up to position {bases[0]}"
        first = min(bases, default=0)
        for base, until in zip_longest(bases, bases[1:]):
            try:
                with closing(disk.open(folder / segment_name(base))) as file:
                    size += file.size()
                    position, chain, more = check_segment(file, base, until, durable, chain)
                    losses += more
            except LogDamaged as problem:
                problems[problem.segment, problem.position] = str(problem)
                position, chain = problem.position, None
            except FileNotFoundError:
                if until is None or base >= min(bases_in(disk.names(folder)), default=0):  # it was not pruned
                    raise
                first, size, entries, chain = until, 0, 0, None
                losses.clear()
                continue
            entries += position - base
    findings = [Finding(*place, problem) for place, problem in problems.items()]
    return Verified(sum(base >= first for base in bases), size, entries, first, position, findings, losses)


def _bases_in_sequence(folder: Path, disk: Disk, problems: dict[tuple[str, int], str]) -> list[int]:
    """The segments that are there; what is missing between them goes to the problems."""
    while True:
        bases = bases_in(disk.names(folder))
        try:
            check_sequence(folder, disk, bases)
        except LogDamaged as problem:
            problems[problem.segment, problem.position] = str(problem)
        except FileNotFoundError:
            if bases_in(disk.names(folder))[:1] != bases[:1]:
                continue  # the oldest was pruned meanwhile
            raise
        return bases


class Checked(NamedTuple):
    """A segment that is whole: where it ends, the chain that the next one goes on from, and the losses in it."""

    end: int
    chain: bytes
    losses: list[AcceptedLoss]


def check_segment(file: Readable, base: int, until: int | None, durable: int, before: bytes | None) -> Checked:
    """Read all of a segment. Raises LogDamaged.

    `until` is the base of the next segment, if there is one, and `before` the chain of the one before, if it is known.
    """
    segment = segment_in(file, base)
    if before not in (None, segment.head.previous):
        raise damaged(base, base, "its chain does not continue that of the segment before")
    if until is None:
        end = find_end(file, base, durable)
        return Checked(end.last.next, chain_behind(end.last.record), end.losses)
    position, chain, losses = base, segment.head.previous, []
    for found in chained(file, segment):
        if found.next > until:
            break
        position, chain = found.next, chain_behind(found.record)
        if found.record.kind == Kind.LOSS:
            losses.append(loss_in(found.record))
    if position < until:
        raise damaged(base, position, "the record is not as it was written, and it had been durable")
    return Checked(position, chain, losses)
