"""Precedence: which of the rules that hold for a transaction decides.

1. a rule that approves holds, as that of an allow list: it is approved;
2. else one that blocks holds, as that of a deny list: it is blocked;
3. else what the model decided, made as strict as the strictest `challenge` or `review` rule that holds.

Tags decide nothing, and neither do rules in `shadow`, nor any outside of its time.
"""

import numpy as np
from numpy.typing import NDArray

from sentinel.policy.rules.book import Book, Deed
from sentinel.policy.thresholds import ACTIONS, Action

_ORDER = tuple(Action)
_STRICTNESS = np.array([_ORDER.index(action) for action in ACTIONS], np.uint8)
_LEVEL_OF = np.array([ACTIONS.index(action) for action in Action], np.uint8)


class Precedence:
    """The rules of a book, r of them, as what they do and when."""

    def __init__(self, book: Book) -> None:
        rules = book.all_rules
        self.is_on = np.array([rule.state == "on" for rule in rules], np.bool_)
        self.is_shadow = np.array([rule.state == "shadow" for rule in rules], np.bool_)
        periods = np.array([rule.period_us for rule in rules], np.float64).reshape(-1, 2)
        self._begin, self._end = periods[:, 0], periods[:, 1]
        self._of = {deed: np.array([rule.do == deed for rule in rules], np.bool_) for deed in Deed}
        self.decides = self.is_on & ~self._of[Deed.TAG]
        """Which rules may decide."""

    def in_time(self, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rules hold at all at these moments, (n, r)."""
        moments = times_us[:, None]
        found: NDArray[np.bool_] = (moments >= self._begin) & (moments < self._end)
        return found

    def levels(self, hits: NDArray[np.bool_], levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is decided (n,), by the levels of the model (n,) and where rules hold in their time (n, r)."""
        acts, found = hits & self.is_on, _STRICTNESS[levels]
        for action in (Action.CHALLENGE, Action.REVIEW):
            strictness = _ORDER.index(action)
            found[acts[:, self._of[Deed(action)]].any(axis=1) & (found < strictness)] = strictness
        found[acts[:, self._of[Deed.BLOCK]].any(axis=1)] = _ORDER.index(Action.BLOCK)
        found[acts[:, self._of[Deed.APPROVE]].any(axis=1)] = _ORDER.index(Action.APPROVE)
        return _LEVEL_OF[found]
