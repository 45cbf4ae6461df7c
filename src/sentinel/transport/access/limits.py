"""Limits: how often a key may ask, and how often an address may try one that is wrong."""

import threading
from collections import OrderedDict, deque

from sentinel.errors import RateLimited
from sentinel.events.card_numbers import quoted

MOST_TRIES = 10
"""Wrong keys a minute from one address, before the answer is 429."""

_WINDOW_S = 60.0
_MOST_ADDRESSES = 4_096


class Limiter:
    """A rate in transactions a second, with a second's worth at once (one at least). Times are seconds of one clock.

    >>> limiter = Limiter("shop", 2.0, now_s=0.0)
    >>> [limiter.try_take(0.0) for _ in range(3)], limiter.try_take(0.5)
    ([True, True, False], True)
    """

    __slots__ = ("_ahead_s", "_cost_s", "_due_s", "name", "rate")

    def __init__(self, name: str, rate: float, now_s: float) -> None:
        self.name = name
        self.rate = rate
        self._cost_s = 1.0 / rate
        self._ahead_s = (max(rate, 1.0) - 0.999) * self._cost_s  # a thousandth less than one: sums are rounded
        self._due_s = now_s
        """When all that was taken would have been taken at an even pace."""

    def try_take(self, now_s: float) -> bool:
        """Take one, if there is one."""
        due_s = self._due_s
        if due_s < now_s:  # not `max`: every request of the key comes by
            due_s = now_s
        if due_s - now_s > self._ahead_s:
            return False
        self._due_s = due_s + self._cost_s
        return True

    def refusal(self, now_s: float) -> RateLimited:
        """The answer to who may not take one now."""
        wait_s = max(int(self._due_s - now_s - self._ahead_s) + 1, 1)
        return RateLimited(
            f"The key {quoted(self.name, 80)} may send {self.rate:g} transactions a second; come again in {wait_s} s",
            wait_s,
        )

    def charge(self, more: int) -> None:
        """Take more for a batch that was let in: whoever comes next waits for it."""
        self._due_s += more * self._cost_s


class InMinute:
    """Counts what each of some has done in the last minute. From any thread; times are seconds of one clock.

    >>> drafts = InMinute(most=2)
    >>> [drafts.wait_s("ana", now_s) for now_s in (0.0, 10.0, 20.0, 60.0)], drafts.wait_s("ben", 20.0)
    ([0, 0, 41, 0], 0)
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._turn = threading.Lock()

    def wait_s(self, name: str, now_s: float) -> int:
        """For how long this one has to wait; 0 where it is one of as many as there may be, and is counted."""
        with self._turn:
            seen = self._seen.pop(name, deque())
            while seen and now_s - seen[0] >= _WINDOW_S:
                seen.popleft()
            self._seen[name] = seen
            if len(self._seen) > _MOST_ADDRESSES:
                self._seen.popitem(last=False)
            if len(seen) < self.most:
                seen.append(now_s)
                return 0
            return int(seen[0] + _WINDOW_S - now_s) + 1


class WrongKeys:
    """Counts wrong keys by network for a minute each, of the 4,096 networks that tried last."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def count(self, network: str, now_s: float) -> int:
        """Count one more; how many there were in this minute."""
        tries, since_s = self._tries.pop(network, (0, now_s))
        if now_s - since_s >= _WINDOW_S:
            tries, since_s = 0, now_s
        self._tries[network] = tries + 1, since_s
        if len(self._tries) > _MOST_ADDRESSES:
            self._tries.popitem(last=False)
        return tries + 1

    def wait_s(self, network: str, now_s: float) -> int:
        """For how long this network is over its tries; 0 when it is not."""
        tries, since_s = self._tries.get(network, (0, 0.0))
        return 0 if tries < MOST_TRIES else max(int(since_s + _WINDOW_S - now_s) + 1, 0)
