"""Looks have a rate: whoever opens receipts or searches faster than people read is told so, and has to wait."""

import threading
from collections import deque

from sentinel.errors import RateLimited

_WINDOW_S = 60.0


class Looks:
    """Counts how often each person looks at card data. From any thread; times are seconds of one clock.

    >>> looks = Looks(most=2)
    >>> [looks.wait_s("ana", now_s) for now_s in (0.0, 10.0, 20.0, 60.0)], looks.wait_s("ben", 20.0)
    ([0, 0, 41, 0], 0)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[str, deque[float]] = {}
        self._told_s: dict[str, float] = {}
        self._turn = threading.Lock()

    def wait_s(self, name: str, now_s: float) -> int:
        """For how long this person has to wait; 0 where this look is one of as many as there may be, and is counted."""
        with self._turn:
            seen = self._seen.setdefault(name, deque())
            while seen and now_s - seen[0] >= _WINDOW_S:
                seen.popleft()
            if len(seen) < self._most:
                seen.append(now_s)
                return 0
            return int(seen[0] + _WINDOW_S - now_s) + 1

    def is_news(self, name: str, now_s: float) -> bool:
        """Whether it is to be written down that this person has to wait: once a minute."""
        with self._turn:
            is_news = now_s - self._told_s.get(name, -_WINDOW_S) >= _WINDOW_S
            if is_news:
                self._told_s[name] = now_s
            return is_news

    def refusal(self, wait_s: int) -> RateLimited:
        """What people are told."""
        return RateLimited(
            f"You have opened more than {self._most} receipts and searches within a minute, which is written down; "
            f"go on in {wait_s} s",
            wait_s,
        )
