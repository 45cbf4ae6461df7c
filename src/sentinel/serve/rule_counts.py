"""How often each rule holds of late: what tells a rule that has gone wrong from one that does its work."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentinel.policy.deployment import RulesInForce

WINDOW = 2_000
"""Decisions after which the counting begins anew."""
FEWEST = 200
"""Decisions before anything is concluded."""
_SURE = 3.0  # standard deviations of a count


class RuleCounts:
    """Counts the decisions of a window, and how many of them each rule holds for; and all since the book came in force.

    Of one thread.
    """

    def __init__(self) -> None:
        self.decisions = 0
        self.hits: dict[str, int] = {}
        """By rule, since this book is in force."""

        self._draft = 0
        self._names: Sequence[str] = ()
        self._in_window = 0
        self._hits: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, draft: int, names: Sequence[str], found: NDArray[np.bool_]) -> None:
        """Decisions, and which rules of these names of a draft hold for them (n, r)."""
        if draft != self._draft:
            self._draft, self._names = draft, names
            self.decisions, self.hits = 0, dict.fromkeys(names, 0)
            self._in_window, self._hits = 0, np.zeros(len(names), np.int64)
        if self._in_window >= WINDOW:
            self._in_window, self._hits = 0, np.zeros(len(names), np.int64)
        self._in_window += len(found)
        self.decisions += len(found)
        if found.any():
            each = found.sum(axis=0)
            self._hits += each
            for place in np.flatnonzero(each).tolist():
                self.hits[names[place]] += int(each[place])

    def runaway(self, rules: RulesInForce) -> tuple[str, str] | None:
        """A rule that surely holds for more of the window than it should, and the sentence about it; or None."""
        n = self._in_window
        if n < FEWEST or rules.draft != self._draft:
            return None
        shadows = {one.name for one in rules.acting.all_rules if one.state != "on"}
        for name, hits in zip(self._names, self._hits.tolist(), strict=True):
            most = rules.most_of(name)
            if most is None or name in shadows or (hits - _SURE * math.sqrt(hits)) / n <= most:
                continue
            return name, (
                f"held for {hits:,} of {n:,} decisions ({hits / n:.2%}), more than {rules.book.demote_at:g} times the "
                f"highest share of its band ({most / rules.book.demote_at:.2%})"
            )
        return None
