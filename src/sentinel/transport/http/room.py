"""Room: what all connections of a process share, so that no caller can take all of it."""

from sentinel.errors import Crowded

MOST_UNFINISHED_BYTES = 256 * 2**20
"""Bytes of requests that are not whole, of all connections together."""

SPARE_CONNECTIONS, SPARE_FOR_HEALTH = 64, 16
"""Beyond the most: so many hear in peace that there are too many, and of these the first may be a health check."""


class Room:
    """How many connections there may be, and what they hold together."""

    def __init__(self, most_connections: int) -> None:
        self.most_connections = most_connections
        self.unfinished_bytes = 0
        """Of requests that are not whole."""

    @property
    def is_full(self) -> bool:
        """Whether requests that are not whole hold as much as they may."""
        return self.unfinished_bytes > MOST_UNFINISHED_BYTES

    def crowded(self) -> Crowded:
        """The answer to one connection too many."""
        return Crowded(
            f"{self.most_connections} connections are open, and no more may be (SENTINEL_MAX_CONNECTIONS); "
            "close those that are idle, or retry in a second"
        )
