"""Ruling: the rules in force are asked about a judged batch, and may decide otherwise than its model."""

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
    precedence, names = hits.precedence, hits.names
    by_row: dict[int, list[int]] = {}
    for row, which in zip(*map(np.ndarray.tolist, np.nonzero(found)), strict=True):
        by_row.setdefault(row, []).append(which)
    on, decides = precedence.is_on.tolist(), precedence.decides.tolist()
    return [
        Ruled(
            places[row], int(own[row]),
            tuple(names[one] for one in which if on[one]),
            tuple(names[one] for one in which if not on[one]),
            any(decides[one] for one in which),
        )
        for row, which in by_row.items()
    ]  # fmt: skip


def say_ruled(batch: Batch) -> None:
    """Have the answers say which rules fired, and what would have been decided without them where that differs."""
    for one in batch.ruled:
        answer = batch.answers[one.place]
        batch.answers[one.place] = with_rules(answer, one)
