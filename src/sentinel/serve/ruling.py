"""Ruling: the rules in force are asked about a judged batch, and may decide otherwise than its model."""

import itertools
import operator
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from sentinel.events.reference_tables.versions import Tables
from sentinel.policy.rules.hits import BookHits
from sentinel.record.entries import Ruled
from sentinel.serve.batch import Batch, Group, with_rules
from sentinel.serve.lineup import Lineup
from sentinel.serve.rule_counts import RuleCounts


def rule(batch: Batch, lineup: Lineup, tables: Tables, now_us: int, counts: RuleCounts) -> None:
    """Have the rules decide, at the moment that the entry of the batch bears; it notes where rules hold (`ruled`)."""
    assert lineup.rules is not None  # noqa: S101 - nobody rules otherwise
    for group in batch.groups:
        hits = lineup.contender(group.decider.variant or "a").hits
        if hits is not None:
            counts.add(lineup.rules.draft, hits.names, _rule_group(batch, group, hits, tables, now_us))
    if len(batch.groups) > 1:
        batch.ruled.sort(key=lambda one: one.place)


def _rule_group(batch: Batch, group: Group, hits: BookHits, tables: Tables, now_us: int) -> NDArray[np.bool_]:
    """Where the rules hold for a group (n, r), once they have decided."""
    n = len(group.levels)
    places: list[int] = np.arange(len(batch))[group.where].tolist()
    scores = group.scores if group.decider.degraded is None else np.full(n, np.nan)
    found = hits.of([batch.events[place] for place in places], group.values, scores, tables, np.full(n, now_us))
    if found.any():
        own = group.levels.copy()
        group.levels[:] = hits.precedence.levels(found, own)
        batch.ruled += ruled_of(hits, found, own, places)
    return found


def ruled_of(hits: BookHits, found: NDArray[np.bool_], own: NDArray[np.uint8], places: list[int]) -> list[Ruled]:
    """What the log keeps of where rules hold (n, r), for transactions that the model gave these levels (n,)."""
    is_on, name_of = hits.precedence.is_on, hits.names.__getitem__
    where, which = np.nonzero(found)
    acted = set(where[hits.precedence.decides[which]].tolist())
    rows, held, on, levels = where.tolist(), which.tolist(), is_on[which].tolist(), own.tolist()
    has_shadows, ruled, begin = not all(on), [], 0
    while begin < len(rows):
        row, end = rows[begin], bisect_right(rows, rows[begin], begin)
        names: tuple[str, ...] = tuple(map(name_of, held[begin:end]))
        shadow: tuple[str, ...] = ()
        if has_shadows:
            fired = on[begin:end]
            shadow = tuple(itertools.compress(names, map(operator.not_, fired)))
            names = tuple(itertools.compress(names, fired))
        ruled.append(Ruled(places[row], levels[row], names, shadow, row in acted))
        begin = end
    return ruled


def say_ruled(batch: Batch) -> None:
    """Have the answers say which rules fired, and what would have been decided without them where that differs."""
    for one in batch.ruled:
        answer = batch.answers[one.place]
        batch.answers[one.place] = with_rules(answer, one)
