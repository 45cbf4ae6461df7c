"""The newest records of a writer, in memory: those that are not committed yet, and some that are."""

from collections import deque
from collections.abc import Sequence

from sentinel.record.kafka.message import Found
from sentinel.record.log import Record

RECENT_BYTES = 32 << 20
"""Of bodies of committed records that are kept."""


class Newest:
    """Keeps them in the order of their positions. It locks nothing: whoever has it does."""

    def __init__(self) -> None:
        self._pending: deque[Found] = deque()
        self._recent: deque[Found] = deque()
        self._recent_bytes = 0

    @property
    def pending(self) -> Found | None:
        """The newest that is not committed; None where all are."""
        return self._pending[-1] if self._pending else None

    @property
    def oldest(self) -> Found | None:
        """The oldest committed one that is kept."""
        return self._recent[0] if self._recent else None

    def put(self, found: Found) -> None:
        """Add one that is to be committed."""
        self._pending.append(found)

    def replace(self, found: Found) -> None:
        """Have this one in the place of the one that was put in last."""
        self._pending[-1] = found

    def commit(self, found: Found) -> None:
        """The oldest that was not committed is: this is it, with its offset."""
        self._pending.popleft()
        self._recent.append(found)
        self._recent_bytes += len(found.record.body)
        while self._recent_bytes > RECENT_BYTES:
            self._forget_oldest()

    def forget_before(self, position: int) -> None:
        """Forget the committed records that hold nothing but entries before this position."""
        while self._recent and self._recent[0].next <= position:
            self._forget_oldest()

    def clear(self) -> None:
        """Forget all."""
        self._pending.clear()
        self._recent.clear()
        self._recent_bytes = 0

    def page(self, position: int, limit: int) -> list[Record] | None:
        """Committed records from that of `position` on, `limit` entries or some more; None where that is not here."""
        if not self._recent or self._recent[0].record.position > position:
            return None
        found, rows = [], 0
        for one in self._recent:
            if one.next > position and rows < limit:
                found.append(one.record)
                rows += one.record.rows
        return found

    def at(self, position: int) -> Record | None:
        """The record that holds the entry at this position, committed or not; None where it is not here."""
        held: Sequence[Found] = self._pending
        if not self._pending or self._pending[0].record.position > position:
            held = self._recent
        for found in reversed(held):
            if found.record.position <= position < found.next:
                return found.record
        return None

    def _forget_oldest(self) -> None:
        self._recent_bytes -= len(self._recent.popleft().record.body)
