"""Turns: one act at a time on each case, a bounded number on all of them, and of results a few at a time.

Whoever waits for a case is served in the order of coming, and keeps nobody from another one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sentinel.errors import Overloaded

MOST = 64
"""Acts that are begun and not done."""

MOST_OF_CASE = 8
"""Acts on one case that are begun and not done: who sends many to one keeps nobody from the others."""

RESULTS_AT_ONCE = 2
"""Results that wait for the log's writer: decisions have their turn between any two."""


class CaseTurns:
    """Gives turns; from the event loop."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._begun = 0
        self._locks: dict[int, asyncio.Lock] = {}
        self._waiting: dict[int, int] = {}
        self.result = asyncio.Semaphore(RESULTS_AT_ONCE)
        """Whoever records a result holds it: of several who record many, each has its turn."""

    @asynccontextmanager
    async def any(self) -> AsyncIterator[None]:
        """One of the acts that there may be at once. Raises Overloaded where there are as many as that."""
        if self._begun >= self._most:
            raise Overloaded(f"{self._most} acts on cases are not done yet; nothing of yours was done: try again")
        self._begun += 1
        try:
            yield
        finally:
            self._begun -= 1

    @asynccontextmanager
    async def on(self, number: int) -> AsyncIterator[None]:
        """The same, when no other act on this case is under way."""
        if self._waiting.get(number, 0) >= MOST_OF_CASE:
            raise Overloaded(
                f"{MOST_OF_CASE} acts on case {number} are not done yet; nothing of yours was done: try again"
            )
        async with self.any():
            lock = self._locks.setdefault(number, asyncio.Lock())
            self._waiting[number] = self._waiting.get(number, 0) + 1
            try:
                async with lock:
                    yield
            finally:
                self._waiting[number] -= 1
                if not self._waiting[number]:
                    del self._waiting[number], self._locks[number]
