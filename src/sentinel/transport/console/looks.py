"""Looks have a rate: whoever opens receipts or searches faster than people read is told so, and has to wait."""

from sentinel.errors import RateLimited
from sentinel.transport.access.limits import InMinute


class Looks:
    """Counts how often each person looks at card data. From any thread; times are seconds of one clock.

    >>> looks = Looks(most=2)
    >>> [looks.wait_s("ana", now_s) for now_s in (0.0, 10.0, 20.0, 60.0)], looks.wait_s("ben", 20.0)
    ([0, 0, 41, 0], 0)
    """

    def __init__(self, most: int) -> None:
        self._counted = InMinute(most)
        self._told = InMinute(1)

    def wait_s(self, name: str, now_s: float) -> int:
        """For how long this person has to wait; 0 where this look is one of as many as there may be, and is counted."""
        return self._counted.wait_s(name, now_s)

    def is_news(self, name: str, now_s: float) -> bool:
        """Whether it is to be written down that this person has to wait: once a minute."""
        return self._told.wait_s(name, now_s) == 0

    def refusal(self, wait_s: int) -> RateLimited:
        """What people are told."""
        return RateLimited(
            f"You have opened more than {self._counted.most} receipts and searches within a minute, which is written "
            f"down; go on in {wait_s} s",
            wait_s,
        )
