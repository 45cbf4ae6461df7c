"""Shares: room that callers share, so that none takes all of it."""

from sentinel.errors import Overloaded

SHARE = 4
"""A caller who has something waiting may have so many times what it leaves free: alone four fifths."""


class Shares:
    """Who has how much of a room of this size. The next caller always finds some, the less the more there are."""

    def __init__(self, most: int, what: str) -> None:
        """`what` waits, in words."""
        self._most = most
        self._what = what
        self._held: dict[str, int] = {}
        self.taken = 0
        """Of all callers together."""

    def of(self, caller: str) -> int:
        """What a caller has of it."""
        return self._held.get(caller, 0)

    def take(self, caller: str, n: int) -> int:
        """Take so much; what the caller had before.

        Raises Overloaded when there is no room, or the caller has its share already.
        """
        held = self._held.get(caller, 0)
        free = self._most - self.taken - n
        if free < 0:
            raise Overloaded(f"{self.taken} {self._what} are waiting already; retry in a second")
        if held and held + n > SHARE * free:
            raise Overloaded(
                f"{held} {self._what} of your own requests are waiting already, and others need room; retry in a second"
            )
        self.taken += n
        self._held[caller] = held + n
        return held

    def give_back(self, caller: str, n: int) -> None:
        """Give back so much of what the caller has."""
        self.taken -= n
        held = self._held[caller] - n
        if held:
            self._held[caller] = held
        else:
            del self._held[caller]

    def clear(self) -> None:
        """Everyone gives back everything."""
        self._held.clear()
        self.taken = 0
