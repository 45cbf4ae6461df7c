"""Which offset has a position: some places are known, and between them it is searched."""

from bisect import bisect_right
from collections.abc import Callable
from threading import Lock

from sentinel.record.kafka.message import Found

_SPACING = 32  # offsets from one known place to the next
_NEAR = 64  # offsets that are rather read than searched
Look = Callable[[int], Found | None]


class Places:
    """Where records are; for any thread."""

    def __init__(self) -> None:
        self._known: list[tuple[int, int]] = []
        self._adding = Lock()

    def add(self, position: int, offset: int) -> None:
        """A record begins at this position and has this offset."""
        with self._adding:
            at = bisect_right(self._known, (position, offset))
            before = self._known[at - 1][1] if at else -_SPACING
            after = self._known[at][1] if at < len(self._known) else offset + _SPACING
            if offset - before >= _SPACING and after - offset >= _SPACING:
                self._known.insert(at, (position, offset))

    def offset_before(self, position: int, low: tuple[int, int], end: tuple[int, int], look: Look) -> int:
        """An offset from which on little has to be read until the record that holds this position.

        `low` and `end` are position and offset of the oldest record and behind the newest; `look` has the first record
        at an offset or behind it, or None.
        """
        (low_at, low_offset), (high_at, high_offset) = self._around(position, low, end)
        halve = False
        while high_offset - low_offset > _NEAR:
            share = 0.5 if halve else (position - low_at) / max(high_at - low_at, 1)
            guess = min(max(low_offset + int(share * (high_offset - low_offset)) - 8, low_offset + 1), high_offset - 1)
            halve = not halve
            found = look(guess)
            if found is None or found.record.position > position:
                high_at, high_offset = high_at if found is None else found.record.position, guess
            else:
                low_at, low_offset = found.record.position, found.offset
                self.add(low_at, low_offset)
        return low_offset

    def _around(
        self, position: int, low: tuple[int, int], end: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        with self._adding:
            at = bisect_right(self._known, (position, 1 << 63))
            before = max(self._known[at - 1], low) if at else low
            return before, self._known[at] if at < len(self._known) else end
