"""Context events: which of a batch are new, and the answers to all of them."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import Conflict, InvalidInput
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import hash_texts
from sentinel.events.context import EventSchema
from sentinel.events.times import FARTHEST_AHEAD_US, iso
from sentinel.events.wire import EVENT_ID, ContextEvent, before_of, event_of, seal_what_waits
from sentinel.record.entries import ContextEvents, ContextRow
from sentinel.record.journal import Journal
from sentinel.serve.batch import Answer, Arrivals, Heard, Report
from sentinel.serve.timeless import assign_times


class NewContext(NamedTuple):
    """The context events of some arrivals that are to be recorded, with `hashes` of their ids (n,).

    `answers` are those to all arrivals; they rest on entries before the position `durable_from`.
    """

    answers: list[Answer]
    durable_from: int
    reports: list[Report]
    hashes: NDArray[np.uint64]
    contents: list[bytes]

    @property
    def events(self) -> list[ContextEvent]:
        """The events themselves."""
        return [one.event for one in self.reports]

    def entry(self, schema_id: str) -> ContextEvents:
        """What the log keeps of them."""
        return ContextEvents(
            schema_id=schema_id,
            ids=[_id_of(one.event) for one in self.reports],
            hashes=self.hashes.tobytes(),
            contents=self.contents,
            told_by=[one.told_by for one in self.reports],
        )


def new_context_in(
    arrivals: Arrivals, journal: Journal, schemas: Mapping[str, EventSchema], now_us: int,
    hash_keys: Set[str] | None = None,
) -> NewContext:  # fmt: skip
    """Ask the journal which of these events, of kinds with these schemas, are not known yet.

    Nothing is changed, but that what came without a time has this one, and what is personal in new ones is sealed.
    `hash_keys` are as for `Schema.is_same`.
    """
    reports: Sequence[Any] = arrivals.events
    time = next(one.time for one in schemas.values())
    timeless = assign_times([one.event for one in reports], time, now_us)
    ids = [_id_of(one.event) for one in reports]
    hashes = hash_texts(ids)
    known = _known(reports, ids, hashes, journal)
    first: dict[str, bytes] = {}
    answers: list[Answer] = []
    new: list[int] = []
    contents: list[bytes] = []
    for n, (one, name) in enumerate(zip(reports, ids, strict=True)):
        schema = schemas[event_of(one.event)]
        stored = first.get(name)
        if stored is None and name in known:
            stored = known[name].content
        content = schema.encode(one.event)
        if stored is not None:
            same = schema.is_same(stored, content, time if n in timeless else None, hash_keys)
            answers.append(Heard(name, event_of(one.event), replayed=True) if same else _conflict(name))
        elif getattr(one.event, time) > now_us + FARTHEST_AHEAD_US:
            answers.append(_too_early(time, getattr(one.event, time), now_us))
        else:
            answers.append(Heard(name, event_of(one.event), replayed=False))
            first[name] = content
            if journal.subjects is not None and seal_what_waits(
                one.event, schema.sealed.values(), journal.subjects.sealed
            ):
                content = schema.encode(one.event)
            contents.append(content)
            new.append(n)
    durable_from = max((row.position + 1 for row in known.values()), default=0)
    return NewContext(answers, durable_from, [reports[n] for n in new], hashes[np.array(new, np.int64)], contents)


def _known(
    reports: Sequence[Report], ids: Sequence[str], hashes: NDArray[np.uint64], journal: Journal
) -> dict[str, ContextRow]:
    """What is stored under these ids, or under what ids with a card number were hashed to before."""
    known = journal.context_of(ids, hashes)
    former = {before: _id_of(one.event) for one in reports if (before := before_of(one.event, EVENT_ID))}
    if former:
        found = journal.context_of(list(former), hash_texts(list(former)))
        known |= {former[name]: row for name, row in found.items() if former[name] not in known}
    return known


def _id_of(event: ContextEvent) -> str:
    return str(getattr(event, EVENT_ID))


def _conflict(event_id: str) -> Conflict:
    return Conflict(
        f"Event {quoted(event_id, 200)} was told before with other content; send the same content again, or a new id"
    )


def _too_early(field: str, time_us: int, now_us: int) -> InvalidInput:
    return InvalidInput(f"Expected a time at most a day ahead of now ({iso(now_us)}), got {iso(time_us)}", f"$.{field}")
