"""Sifting: which transactions of a batch are new, and the answers to those that are not."""

import operator
from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
from msgspec import UNSET

from sentinel.errors import InvalidInput, SentinelError
from sentinel.events.columns import hash_texts
from sentinel.events.reference_tables.lookup import Lookup
from sentinel.events.schema import Schema
from sentinel.events.times import FARTHEST_AHEAD_US, iso
from sentinel.events.wire import before_of, seal_what_waits
from sentinel.record.entries import DecisionRow
from sentinel.record.journal import Journal
from sentinel.serve.batch import Answer, Answered, Arrivals, Batch, Given, repeated, repeated_within, twin, unless_other
from sentinel.serve.timeless import assign_times

_NO_ANSWER = SentinelError("Something went wrong inside: this one got no answer; retry in a moment")


class Sifted:
    """What is new of some arrivals (`batch`), and a place for every answer."""

    def __init__(
        self, n: int, batch: Batch, places: Sequence[int] | None, given: Mapping[int, Given]
    ) -> None:  # fmt: skip
        self.batch = batch
        self._given = given  # by the places of the arrivals
        self._n = n
        self._places = places  # of the batch among the arrivals; None where all are new
        self.answers: dict[int, Answer] = {}
        self.repeats: list[tuple[int, int, bool]] = []
        """Repeats within the batch: the place, which of the batch it repeats, and whether the content is the same."""

        self.durable_from = 0

    def answered(self) -> Answered:
        """The answers to all arrivals, once those of the batch are there."""
        if self._places is None:
            return Answered(self.batch.answers, self.durable_from)
        answers: list[Answer] = [_NO_ANSWER] * self._n
        answer: Answer
        for place, answer in zip(self._places, self.batch.answers, strict=True):
            answers[place] = answer
        for place, first, same in self.repeats:
            answers[place] = unless_other(repeated_within(self.batch.answers[first], same), self._given.get(place))
        for place, answer in self.answers.items():
            answers[place] = unless_other(answer, self._given.get(place))
        return Answered(answers, self.durable_from)


class Sieve:
    """Sifts the transactions of one schema, and looks them up in its tables. `hash_keys`: see `Schema.is_same`."""

    def __init__(self, schema: Schema, lookup: Lookup, hash_keys: Set[str] | None = None) -> None:
        self._look_up = lookup.fill
        self._time = schema.time
        self._id_of: Any = operator.attrgetter(schema.id)
        self._time_of: Any = operator.attrgetter(schema.time)
        self._encode, self._is_same = schema.encode, partial(schema.is_same, hash_keys=hash_keys)
        self._id = schema.id
        self._sealed = tuple(schema.sealed.values())
        self._may_lack_time = schema.time in schema.optional

    def sift(self, arrivals: Arrivals, journal: Journal, now_us: int) -> Sifted:
        """Ask the journal what was decided before.

        Nothing is changed, but that what came without a time has this one, and what is personal in new ones is sealed.
        """
        events: Sequence[Any] = arrivals.events
        ids, last_us = list(map(self._id_of, events)), now_us + FARTHEST_AHEAD_US
        hashes = hash_texts(ids)
        stored, twins = journal.look_up(ids, hashes)
        stored |= self._found_before(events, journal)
        timeless = assign_times(events, self._time, now_us) if self._may_lack_time else ()
        self._look_up(events)
        contents = list(map(self._encode, events))
        times_ns = arrivals.received_ns, arrivals.due_ns
        keys = hashes.tolist()
        if not stored and not twins and len(set(keys)) == len(ids) and max(map(self._time_of, events)) <= last_us:
            self._seal(events, contents, journal)
            return Sifted(
                len(ids), Batch(events, ids, hashes, contents, times_ns, arrivals.given), None, arrivals.given
            )
        answers: dict[int, Answer] = {}
        repeats: list[tuple[int, int, bool]] = []
        places: list[int] = []
        first: dict[str, int] = {}
        taken = {*twins, *(key for key, name in zip(keys, ids, strict=True) if name in stored)}
        for i, name in enumerate(ids):
            ignoring = self._time if i in timeless else None
            if name in stored:
                answers[i] = repeated(stored[name], same=self._is_same(stored[name].content, contents[i], ignoring))
            elif name in first:
                repeats.append((i, first[name], self._is_same(contents[places[first[name]]], contents[i], ignoring)))
            elif keys[i] in taken:
                answers[i] = twin(name)
            elif self._time_of(events[i]) > last_us:
                answers[i] = self._too_early(self._time_of(events[i]), now_us)
            else:
                first[name] = len(places)
                taken.add(keys[i])
                places.append(i)
        new, kept = _at(places, events), _at(places, contents)
        self._seal(new, kept, journal)
        batch = Batch(
            new, _at(places, ids), hashes[np.array(places, np.int64)], kept,
            (_at(places, arrivals.received_ns), _at(places, arrivals.due_ns)),
            {n: arrivals.given[place] for n, place in enumerate(places) if place in arrivals.given},
        )  # fmt: skip
        sifted = Sifted(len(ids), batch, places, arrivals.given)
        sifted.answers, sifted.repeats = answers, repeats
        sifted.durable_from = max((row.position + 1 for row in stored.values()), default=0)
        return sifted

    def _seal(self, events: Sequence[Any], contents: list[bytes], journal: Journal) -> None:
        """Seal what is personal in events that will be recorded, in place: only they may leave a subject's key."""
        if self._sealed and journal.subjects is not None:
            for n, one in enumerate(events):
                if seal_what_waits(one, self._sealed, journal.subjects.sealed):
                    contents[n] = self._encode(one)

    def _found_before(self, events: Sequence[Any], journal: Journal) -> dict[str, DecisionRow]:
        """What is stored of ids with a card number in them, by their new ids, under what they were hashed to before."""
        hashed = [one for one in events if one.hashed_before is not UNSET]
        former = {name: self._id_of(one) for one in hashed if (name := before_of(one, self._id))}
        if not former:
            return {}
        names = list(former)
        return {former[name]: row for name, row in journal.find(names, hash_texts(names)).items()}

    def _too_early(self, time_us: int, now_us: int) -> InvalidInput:
        return InvalidInput(
            f"Expected a time at most a day ahead of now ({iso(now_us)}), got {iso(time_us)}", f"$.{self._time}"
        )


def _at(places: Sequence[int], column: Sequence[Any]) -> list[Any]:
    return [column[n] for n in places]
