"""Surroundings: what a key was part of, which other keys stand beside it there, and who shares those with it.

A card leads to the devices and merchants that it was used with, and over them to other cards. It reads a view alone,
with a number of searches that has a bound, whatever the key.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from sentinel.events.schema import Schema
from sentinel.policy.thresholds import Action
from sentinel.record.views import DecisionQuery, ListedDecision, Page, View, merged
from sentinel.review.whereabouts import Journey, Moment, journeys, moments_of

ROWS = 200
"""Decisions of the key that are looked at, the newest, unless another number is asked for."""

EACH = 200
"""Decisions of each linked key that are looked at, the newest."""

MOST_LINKED = 8
"""Values of each other key of the schema that are followed: those with which it was seen last."""

MOST_SHARING = 30
"""A linked key that more values share than this says nothing about any of them: a supermarket, not a device."""

MOST_NEIGHBOURS = 24


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Around which key, and when: `texts` as it may be stored, at least one; received in [from_us, to_us)."""

    key: str
    texts: tuple[str, ...]
    from_us: int | None = None
    to_us: int | None = None
    limit: int = ROWS


class Tally(msgspec.Struct, frozen=True):
    """Of some decisions: how many, how many were not approved, and how many turned out to be fraud or legitimate."""

    decisions: int
    not_approved: int
    frauds: int
    legitimate: int


class Linked(msgspec.Struct, frozen=True):
    """A key that stands beside the one that was asked for.

    - `together`: decisions in which both stand, of those that were looked at.
    - `tally`: of its own newest decisions, whoever's; `has_more` when it has more than those.
    - `shared_by`: the values of the asked key in these, the newest first, itself among them.
    - `first_us`, `last_us`: when the oldest and the newest of these was received.
    """

    key: str
    value: str
    together: int
    tally: Tally
    has_more: bool
    shared_by: tuple[str, ...]
    first_us: int
    last_us: int

    @property
    def tells(self) -> bool:
        """Whether so few share it that it ties them to each other."""
        return not self.has_more and len(self.shared_by) <= MOST_SHARING


class Neighbour(msgspec.Struct, frozen=True):
    """Another value of the asked key, the linked keys over which one gets there, and what those saw of it."""

    value: str
    over: tuple[tuple[str, str], ...]
    tally: Tally


class Surroundings(msgspec.Struct, frozen=True):
    """What is around a key.

    - `values`: under which texts it is stored.  `page`: its newest decisions.  `tally`: of these.
    - `frauds`: position -> whether it was fraud, of those that are known.  `moments`: when and where each happened.
    - `journeys`: between these, of one value of the schema's first key each: two cards of a shop are no traveller.
    - `linked`: the keys beside it, the most telling first; `linked_left_out` were not followed.
    - `neighbours`: who shares some of those that tell, the closest first; `neighbours_left_out` more do.
    """

    key: str
    values: tuple[str, ...]
    page: Page
    tally: Tally
    frauds: Mapping[int, bool]
    moments: Mapping[int, Moment]
    journeys: list[Journey]
    linked: list[Linked]
    linked_left_out: int
    neighbours: list[Neighbour]
    neighbours_left_out: int


class _Followed(NamedTuple):
    """A linked key with the decisions that it has."""

    linked: Linked
    rows: list[ListedDecision]


def surroundings(view: View, asked: Asked, schema: Schema) -> Surroundings:
    """What is around a key of the schema. Raises InvalidInput for a wrong limit, StorageProblem."""
    page = _newest(view, asked.key, asked.texts, asked, asked.limit)
    beside = {name: _beside(page.rows, name) for name in schema.keys if name != asked.key}
    followed_names = [(name, value, n) for name, found in beside.items() for value, n in found[:MOST_LINKED]]
    pages = [_newest(view, name, (value,), asked, EACH) for name, value, _ in followed_names]
    every = {one.position for page_ in (page, *pages) for one in page_.rows}
    frauds = view.outcomes_about(sorted(every))
    followed = [
        _Followed(_linked(name, value, n, found, asked.key, frauds), found.rows)
        for (name, value, n), found in zip(followed_names, pages, strict=True)
        if found.rows
    ]
    neighbours = _neighbours(followed, asked, frauds)
    positions = [one.position for one in page.rows]
    received_us = {one.position: one.received_us for one in page.rows}
    moments = moments_of(view.contents_at(positions), received_us, schema)
    return Surroundings(
        key=asked.key,
        values=tuple(dict.fromkeys(one.keys[asked.key] for one in page.rows)) or asked.texts,
        page=page,
        tally=_tally(page.rows, frauds),
        frauds={position: frauds[position] for position in positions if position in frauds},
        moments=moments,
        journeys=_journeys(page.rows, moments, schema.keys[0]),
        linked=sorted((one.linked for one in followed), key=_telling),
        linked_left_out=sum(max(len(found) - MOST_LINKED, 0) for found in beside.values()),
        neighbours=neighbours[:MOST_NEIGHBOURS],
        neighbours_left_out=max(len(neighbours) - MOST_NEIGHBOURS, 0),
    )


def _journeys(rows: Sequence[ListedDecision], moments: Mapping[int, Moment], bearer: str) -> list[Journey]:
    """The journeys of each value of a key, in the order in which they end."""
    whose: dict[str, list[Moment]] = {}
    for one in rows:
        if bearer in one.keys:
            whose.setdefault(one.keys[bearer], []).append(moments[one.position])
    found = [one for those in whose.values() for one in journeys(those)]
    return sorted(found, key=lambda one: (one.end.at_us, one.end.position))


def _newest(view: View, key: str, texts: Sequence[str], asked: Asked, limit: int) -> Page:
    queries = [DecisionQuery(keys={key: text}, from_us=asked.from_us, to_us=asked.to_us, limit=limit) for text in texts]
    return merged([view.search(one) for one in queries], limit)


def _beside(rows: Sequence[ListedDecision], name: str) -> list[tuple[str, int]]:
    """The values of a key in some decisions, those of the newest first, and in how many each stands."""
    return list(Counter(one.keys[name] for one in rows if name in one.keys).items())


def _linked(name: str, value: str, together: int, page: Page, asked: str, frauds: Mapping[int, bool]) -> Linked:
    rows = page.rows
    shared_by = tuple(dict.fromkeys(one.keys[asked] for one in rows if asked in one.keys))
    has_more = page.next is not None
    return Linked(
        name, value, together, _tally(rows, frauds), has_more, shared_by, rows[-1].received_us, rows[0].received_us
    )


def _neighbours(followed: Sequence[_Followed], asked: Asked, frauds: Mapping[int, bool]) -> list[Neighbour]:
    over: dict[str, list[tuple[str, str]]] = {}
    seen: dict[str, dict[int, ListedDecision]] = {}
    for linked, rows in followed:
        if not linked.tells:
            continue
        for one in rows:
            value = one.keys.get(asked.key)
            if value is not None and value not in asked.texts:
                ways = over.setdefault(value, [])
                if (linked.key, linked.value) not in ways:
                    ways.append((linked.key, linked.value))
                seen.setdefault(value, {})[one.position] = one
    found = [Neighbour(value, tuple(ways), _tally(list(seen[value].values()), frauds)) for value, ways in over.items()]
    return sorted(found, key=lambda one: (-len(one.over), -one.tally.frauds, -one.tally.not_approved, one.value))


def _telling(one: Linked) -> tuple[bool, int, int, int, str, str]:
    """The order of linked keys: those that few share first, of these the worst, then those that most share."""
    worst = (-one.tally.frauds, -one.tally.not_approved)
    return not one.tells, *worst, -len(one.shared_by), one.key, one.value


def _tally(rows: Sequence[ListedDecision], frauds: Mapping[int, bool]) -> Tally:
    known = [frauds[one.position] for one in rows if one.position in frauds]
    refused = sum(one.decision != Action.APPROVE for one in rows)
    return Tally(len(rows), refused, sum(known), len(known) - sum(known))
