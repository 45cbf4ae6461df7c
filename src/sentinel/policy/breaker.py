"""The circuit breaker: when a model has been slow or has failed too often, it is left alone for a while."""

import math
from collections import deque
from enum import StrEnum

import msgspec

from sentinel.errors import InvalidDefinition


class Circuit(StrEnum):
    """Whether the model is asked: always, never, or one call at a time to see whether it has recovered."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class BreakerSettings(msgspec.Struct, frozen=True):
    """When it opens, and how it closes again.

    It opens when `trip_in_a_row` calls fail one after the other, or `trip_share` of the last `remembered` calls. It
    stays open for `open_s` seconds, twice as long after each failed probe and never longer than `longest_open_s`, and
    closes after `probes` good calls in a row. Raises InvalidDefinition for what no breaker could go by.
    """

    trip_in_a_row: int = 3
    trip_share: float = 0.5
    remembered: int = 20
    open_s: float = 1.0
    longest_open_s: float = 30.0
    probes: int = 3

    def __post_init__(self) -> None:
        for name in ("trip_in_a_row", "remembered", "probes"):
            if getattr(self, name) < 1:
                raise InvalidDefinition(f"breaker: {name} is {getattr(self, name)}; give 1 or more")
        if not 0 < self.trip_share <= 1:
            raise InvalidDefinition(f"breaker: trip_share is {self.trip_share}; give a share above 0, and 1 at most")
        if not 0 < self.open_s <= self.longest_open_s < math.inf:
            raise InvalidDefinition(
                f"breaker: open_s is {self.open_s} and longest_open_s {self.longest_open_s}; give seconds above 0, "
                "the longest at least as long as the first"
            )


class Breaker:
    """The state machine; time (seconds of any monotonic clock) is an argument. Use it from one thread."""

    def __init__(self, settings: BreakerSettings | None = None) -> None:
        self.settings = settings = settings or BreakerSettings()
        self.openings = 0
        self.circuit = Circuit.CLOSED
        """The state as it was after the last call."""

        self._failures: deque[bool] = deque(maxlen=settings.remembered)
        self._in_a_row = 0
        self._probes_left = 0
        self._open_until = 0.0
        self._open_s = settings.open_s

    def allows(self, now: float) -> bool:
        """Whether the model may be asked at `now`; the end of an open period makes it half-open."""
        if self.circuit is Circuit.OPEN and now >= self._open_until:
            self.circuit, self._probes_left = Circuit.HALF_OPEN, self.settings.probes
        return self.circuit is not Circuit.OPEN

    def succeeded(self) -> None:
        """A call came back in time with probabilities."""
        self._in_a_row = 0
        if self.circuit is Circuit.HALF_OPEN:
            self._probes_left -= 1
            if self._probes_left == 0:
                self.circuit, self._open_s = Circuit.CLOSED, self.settings.open_s
                self._failures.clear()
        else:
            self._failures.append(False)

    def failed(self, now: float) -> None:
        """A call was too slow, raised, or gave no probabilities."""
        self._in_a_row += 1
        self._failures.append(True)
        if self.circuit is Circuit.HALF_OPEN:
            self._open_s = min(2 * self._open_s, self.settings.longest_open_s)
            self._open(now)
        elif self.circuit is Circuit.CLOSED and self._is_too_much():
            self._open(now)

    def _is_too_much(self) -> bool:
        full = len(self._failures) == self.settings.remembered
        share = sum(self._failures) / self.settings.remembered
        return self._in_a_row >= self.settings.trip_in_a_row or (full and share >= self.settings.trip_share)

    def _open(self, now: float) -> None:
        self.openings += 1
        self.circuit, self._open_until, self._in_a_row = Circuit.OPEN, now + self._open_s, 0
