"""Turns: what takes long, or is no decision for who was let in, is done a little in each turn of the event loop.

However many connections ask for such things, whoever waits for a decision waits for a little of them at most.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable


class Turn:
    """Something that will be done, unless it is cancelled before. It was first in its caller's line at `first_ns`."""

    __slots__ = ("call", "first_ns", "weight", "when_cancelled")

    def __init__(self, call: Callable[[], None], weight: int) -> None:
        self.call: Callable[[], None] | None = call
        self.weight = weight
        self.when_cancelled: Callable[[], None] | None = None
        self.first_ns = time.monotonic_ns()

    def cancel(self) -> None:
        """Do not do it; what was kept for it is given back."""
        self.call = None
        if self.when_cancelled is not None:
            self.when_cancelled()


class Turns:
    """Has things done soon, from the event loop's thread: of all who wait for theirs, one each, and so on."""

    def __init__(self, most: int) -> None:
        """In a turn of the loop things of this weight are done, or one more."""
        self._most = most
        self._lines: dict[str, deque[Turn]] = {}  # the next first
        self._is_due = False

    def take(self, who: str, call: Callable[[], None], weight: int = 1) -> Turn:
        """Have this done for that caller."""
        turn = Turn(call, weight)
        self._lines.setdefault(who, deque()).append(turn)
        self._begin_soon()
        return turn

    def _begin_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        done = 0
        while self._lines and done < self._most:
            who, line = next(iter(self._lines.items()))
            del self._lines[who]
            turn = line.popleft()
            if line:
                self._lines[who] = line  # behind the others
            if turn.call is not None:
                done += turn.weight
                turn.call()
            if line:
                line[0].first_ns = time.monotonic_ns()
        if self._lines:
            self._begin_soon()
