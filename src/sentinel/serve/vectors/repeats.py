"""Bodies that came twice: they are not read again while their score is good."""

import time

import msgspec

from sentinel.policy.breaker import Circuit

MOST_REPEATS, LONGEST_REPEAT, MOST_REPEATED_BYTES = 4096, 16_384, 2**24
"""So many bodies are kept, of so many bytes at most, and of so many together."""


class Repeat(msgspec.Struct, gc=False):
    """A body that came before: until when its score is good, what was decided in which state, and the answer to it."""

    until_ns: int
    level: int
    circuit: Circuit
    answer: bytes
    score: bytes


class Repeats(dict[bytes, Repeat]):
    """What belongs to bodies that came twice; all are forgotten when none has come again for a while."""

    used_ns = 0
    """When one of them came last, by the monotonic clock."""

    _bytes = 0

    def keep(self, body: bytes, repeat: Repeat, now_ns: int) -> None:
        """Keep this one unless it is long; when there are too many, all others make room."""
        if len(body) > LONGEST_REPEAT:
            return
        if len(self) >= MOST_REPEATS or self._bytes > MOST_REPEATED_BYTES:
            self.clear()
        self[body] = repeat
        self._bytes += len(body)
        self.used_ns = now_ns

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self._bytes = 0

    def forget_idle(self, after_ns: int) -> None:
        """Forget all when none has come for so long."""
        if self and time.monotonic_ns() - self.used_ns > after_ns:
            self.clear()
