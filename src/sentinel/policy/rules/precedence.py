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
        self.is_off = np.array([rule.state == "off" for rule in rules], np.bool_)
        periods = np.array([rule.period_us for rule in rules], np.float64).reshape(-1, 2)
        self._begin, self._end = periods[:, 0], periods[:, 1]
        self.has_periods = bool(np.isfinite(periods).any())
        self._approves, self._blocks = (self._does(book, deed) for deed in (Deed.APPROVE, Deed.BLOCK))
        self._raises = np.zeros(len(rules), np.uint8)
        for action in (Action.CHALLENGE, Action.REVIEW):
            self._raises[self._does(book, Deed(action))] = _ORDER.index(action)
        self.decides = self._approves | self._blocks | (self._raises > 0)
        """Which rules may decide."""

    def _does(self, book: Book, deed: Deed) -> NDArray[np.bool_]:
        """Which rules do that, and are on."""
        return np.array([rule.do == deed for rule in book.all_rules], np.bool_) & self.is_on

    def in_time(self, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rules hold at all at these moments, (n, r)."""
        moments = times_us[:, None]
        found: NDArray[np.bool_] = (moments >= self._begin) & (moments < self._end)
        return found

    def levels(self, hits: NDArray[np.bool_], levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is decided (n,), by the levels of the model (n,) and where rules hold in their time (n, r)."""
        found = _STRICTNESS[levels]
        rows, which = np.nonzero(hits)
        np.maximum.at(found, rows, self._raises[which])
        found[rows[self._blocks[which]]] = _ORDER.index(Action.BLOCK)
        found[rows[self._approves[which]]] = _ORDER.index(Action.APPROVE)
        return _LEVEL_OF[found]
