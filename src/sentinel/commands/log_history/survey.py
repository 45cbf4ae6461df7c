"""What a part of a log holds: outcomes, erasures, models, and how old what is known to be fraud was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.commands.progress import Stage
from sentinel.errors import BundleProblem
from sentinel.events.stamps import LogPart
from sentinel.features.plan import FeaturePlan
from sentinel.model.bundle import read_manifest
from sentinel.model.registry import Registry
from sentinel.record.entries import Erased, decided_in
from sentinel.record.known_outcomes import KnownOutcomes
from sentinel.record.log import Follower, Kind, LogReader, Record
from sentinel.review.label_delay import LabelDelay, estimate_delay

_PAGE = 4_096
_decode_erased = msgspec.msgpack.Decoder(Erased).decode


class Erasures:
    """The subjects that were erased, by what is stored of them. Take the records of a log in their order, then ask."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], int] = {}
        self._fields: set[str] = set()

    def take(self, record: Record) -> None:
        """The erasure of a record; nothing of other kinds."""
        if record.kind == Kind.ERASED:
            subject = _decode_erased(record.body)
            self._newest[subject.key, subject.value] = record.position
            self._fields.add(subject.key)

    def cover(self, fields: Mapping[str, Any], position: int) -> bool:
        """Whether a subject that these fields name was erased after the entry at this position."""
        return any(position < self._newest.get((name, fields.get(name) or ""), -1) for name in self._fields)


class Survey(NamedTuple):
    """What was found in a part of a log.

    `names` has the features of each model that decided, None for a model that is gone. `hashes` are those of the
    decided ids.
    """

    part: LogPart
    known: KnownOutcomes
    names: dict[str, tuple[str, ...] | None]
    erased: Erasures
    hashes: NDArray[np.uint64]
    decisions: int


def records_of(log: LogReader, begin: int, end: int, tell: Callable[[int], None]) -> Iterator[Sequence[Record]]:
    """The records from position `begin` on and before `end`, in pages; `tell` is told how far it is."""
    follower = Follower(log, begin)
    while follower.position < end:
        page = [one for one in follower.next(_PAGE) if one.position < end]
        if not page:
            return
        yield page
        tell(min(follower.position, end) - begin)


def survey(log: LogReader, part: LogPart, plan: FeaturePlan, registry: Registry, stage: Stage) -> Survey:
    """Read a part of a log once. Outcomes of all of the log are known, up to the end of the part."""
    known, names, erased = KnownOutcomes(plan.is_trusted), dict[str, tuple[str, ...] | None](), Erasures()
    hashes, decisions = [np.empty(0, np.uint64)], 0
    first = log.first
    for page in records_of(log, first, part.end, lambda done: stage("outcomes", done, part.end - first)):
        for record in page:
            known.take(record)
            erased.take(record)
            if record.kind == Kind.DECIDED and record.position >= part.begin:
                decided = decided_in(record)
                decisions += record.rows
                hashes.append(np.frombuffer(decided.hashes, "<u8"))
                for decider in decided.deciders:
                    if decider.model_version not in names:
                        names[decider.model_version] = _names_of(registry, decider.model_version)
    return Survey(part, known, names, erased, np.concatenate(hashes), decisions)


def _names_of(registry: Registry, version: str) -> tuple[str, ...] | None:
    try:
        return read_manifest(registry.path(version)).plan.names
    except BundleProblem:
        return None


class Ages(NamedTuple):
    """The delay of labels as the log shows it, and the newest moment that anything in it bears (`as_of_us`).

    `early` frauds became known before their transactions, by what their outcomes say: they are not looked at.
    """

    delay: LabelDelay
    as_of_us: int
    early: int


def ages(log: LogReader, known: KnownOutcomes, time_field: str, end: int, stage: Stage) -> Ages:
    """How long frauds took to become known, by the times that transactions and outcomes bear."""
    said = dict(known.frauds())
    taken: list[tuple[int, int]] = []
    early, newest = 0, known.newest_us
    timed: Any = msgspec.defstruct("Timed", [(time_field, int)])
    decode = msgspec.json.Decoder(list[timed]).decode
    first = log.first
    for page in records_of(log, first, end, lambda done: stage("delays", done, end - first)):
        for record in page:
            if record.kind != Kind.DECIDED:
                continue
            contents = decided_in(record).contents
            times = [getattr(one, time_field) for one in decode(b"[%b]" % b",".join(contents))]
            newest = max(newest, *times)
            for n, time_us in enumerate(times):
                known_us = said.get(record.position + n)
                if known_us is not None and known_us < time_us:
                    early += 1
                elif known_us is not None:
                    taken.append((time_us, known_us))
    transactions, outcomes = np.array(taken, np.int64).reshape(-1, 2).T
    delay = estimate_delay(outcomes - transactions, newest - transactions)
    return Ages(delay, newest, early)
