"""Room: what all connections of a process share, so that no caller can take all of it."""

from typing import Protocol

from sentinel.errors import Crowded
from sentinel.serve.shares import Shares
from sentinel.transport.http.wire.turns import Turns

MOST_UNFINISHED_BYTES = 256 * 2**20
"""Bytes of requests that are not whole, or were sent ahead of the answers to others, of all connections together."""

MOST_CALLS = 2
"""Calls that are no decisions, or refusals of strangers, in a turn of the event loop; a large body counts as more."""

LARGE, MOST_LARGE, MOST_LARGE_BYTES = 16_384, 49_152, 64 * 2**20
"""Bytes of a body that waits for its turn, of those that are read in one turn, or one body more, and of those that
wait."""

SPARE_CONNECTIONS, SPARE_FOR_HEALTH = 64, 16
"""Beyond the most: so many hear in peace that there are too many, and of these the first may be a health check."""


class Holder(Protocol):
    """A connection that keeps a request that is not whole."""

    who: str | None
    """Whom the request's key was made for; None as long as nobody is known."""

    def give_way(self) -> None:
        """Drop it."""


class Room:
    """How many connections there may be, what they hold together, and whose turn it is.

    `known` and `strangers` are the turns of calls that are no decisions: of callers who were let in, and of others.
    `large` are those of large bodies, in bytes.
    """

    def __init__(self, most_connections: int) -> None:
        self.most_connections = most_connections
        self.known, self.strangers, self.large = Turns(MOST_CALLS), Turns(MOST_CALLS), Turns(MOST_LARGE)
        self.large_bytes = Shares(MOST_LARGE_BYTES, "bytes")
        """Of large bodies that wait for their turn."""
        self.unfinished_bytes = 0
        """Of requests that are not whole, or not taken yet."""
        self._kept: dict[Holder, int] = {}

    def keep(self, holder: Holder, kept: int) -> None:
        """Note how many bytes a connection keeps.

        Is it too much of all together, the one with the most gives way: of those that nobody is known for, else of the
        caller who has the most.
        """
        self.unfinished_bytes += kept - self._kept.pop(holder, 0)
        if kept:
            self._kept[holder] = kept
        while self.is_full and self._kept:
            largest = self._largest()
            self.keep(largest, 0)
            largest.give_way()

    def _largest(self) -> Holder:
        held: dict[str | None, int] = {}
        for holder, kept in self._kept.items():
            held[holder.who] = held.get(holder.who, 0) + kept
        who = None if None in held else max(held, key=held.__getitem__)
        return max((one for one in self._kept if one.who == who), key=self._kept.__getitem__)

    @property
    def is_full(self) -> bool:
        """Whether requests that are not taken yet hold as much as they may."""
        return self.unfinished_bytes > MOST_UNFINISHED_BYTES

    def crowded(self) -> Crowded:
        """The answer to one connection too many."""
        return Crowded(
            f"{self.most_connections} connections are open, and no more may be (SENTINEL_MAX_CONNECTIONS); "
            "close those that are idle, or retry in a second"
        )
