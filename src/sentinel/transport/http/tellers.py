"""Tellers: who tells outcomes and context events, how many a minute, and whether unusually many outcomes say fraud.

Time is an argument.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from sentinel.errors import RateLimited
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import OPERATOR
from sentinel.serve.batch import Answers, Heard, Noted
from sentinel.telemetry.prometheus import Gauge

MINUTE_S = 60.0
USUAL_MINUTES = 60
"""Minutes before the current one that say what is usual for a source."""

LEAST_BURST = 20
"""Outcomes that say fraud in a minute that are no burst, whatever is usual."""

_TIMES_USUAL = 5
_MOST_TELLERS, _MOST_SOURCES = 1_024, 64
_OTHERS = "others"
_log = logging.getLogger(__name__)


class Teller(msgspec.Struct, frozen=True):
    """Who tells outcomes: the name of the API key, and where its outcomes come from."""

    name: str = OPERATOR
    source: str = OPERATOR


WITHOUT_KEY = Teller()
"""The operator of this machine, who says with each outcome where it comes from, and is not limited."""


class _Minutes:
    """How many of something, `what`, each key has told in its minute, `a_minute` at most. Use it from one thread.

    `setting` is where an operator says how many.
    """

    def __init__(self, a_minute: int, what: str, setting: str) -> None:
        self._a_minute, self._what, self._setting = a_minute, what, setting
        self._minutes: dict[str, tuple[float, int]] = {}  # by key: when its minute began, and what it has told in it

    def admit(self, teller: Teller, some: int, now_s: float) -> None:
        """Have a key tell so many. Raises RateLimited when it may not in this minute; then none counts."""
        if teller is WITHOUT_KEY:
            return
        began_s, told = self._minutes.pop(teller.name, (now_s, 0))
        if now_s - began_s >= MINUTE_S:
            began_s, told = now_s, 0
        is_too_much = told + some > self._a_minute
        self._minutes[teller.name] = began_s, told if is_too_much else told + some
        if len(self._minutes) > _MOST_TELLERS:
            del self._minutes[next(iter(self._minutes))]  # of the key that was silent for longest
        if is_too_much:
            wait_s = max(int(began_s + MINUTE_S - now_s) + 1, 1)
            raise RateLimited(
                f"{quoted(teller.name, 80)} may tell {self._a_minute} {self._what} a minute, has told {told} in this "
                f"one, and now {some} more; nothing of it was stored. Send at most {self._a_minute - told} now and the "
                f"rest in {wait_s} s, or raise {self._setting}",
                wait_s,
            )


class Tellers:
    """What each key may still tell in its minute, and what was told by each source. Use it from one thread.

    `outcomes` and `events` are how many of them a key may tell in a minute. Sources beyond the first 64 are counted as
    `others`.
    """

    def __init__(self, outcomes: int, events: int) -> None:
        self._outcomes = _Minutes(outcomes, "outcomes", "SENTINEL_OUTCOMES_PER_MINUTE")
        self._events = _Minutes(events, "context events", "SENTINEL_EVENTS_PER_MINUTE")
        self._sources: dict[str, _Source] = {}
        self._kinds: dict[str, int] = {}  # context events since the start, by kind

    def admit(self, teller: Teller, outcomes: int, now_s: float) -> None:
        """Have a key tell so many outcomes. Raises RateLimited when it may not in this minute; then none counts."""
        self._outcomes.admit(teller, outcomes, now_s)

    def admit_events(self, teller: Teller, events: int, now_s: float) -> None:
        """The same with context events."""
        self._events.admit(teller, events, now_s)

    def note_events(self, answers: Answers) -> None:
        """Count the context events that were new, by their answers."""
        for answer in answers:
            if isinstance(answer, Heard) and not answer.replayed:
                self._kinds[answer.event] = self._kinds.get(answer.event, 0) + 1

    def note(self, outcomes: Sequence[Any], answers: Answers, now_s: float) -> None:
        """Count the outcomes (`Outcome`) that were new, by their answers."""
        for one, answer in zip(outcomes, answers, strict=True):
            if isinstance(answer, Noted) and not answer.replayed:
                is_known = one.source in self._sources or len(self._sources) < _MOST_SOURCES
                name = one.source if is_known else _OTHERS
                if name not in self._sources:
                    self._sources[name] = _Source(name, now_s)
                self._sources[name].note(one.is_fraud, now_s)

    def gauges(self, now_s: float) -> Iterator[Gauge]:
        """What every source has told since the start, and whether it is unusual."""
        for name, one in self._sources.items():
            one.move(now_s)
            by = {"source": name}
            told = "Outcomes told since the start, by source"
            yield Gauge("sentinel_outcomes_told", told, one.frauds, by | {"says": "fraud"})
            yield Gauge("sentinel_outcomes_told", told, one.outcomes - one.frauds, by | {"says": "legitimate"})
            yield Gauge("sentinel_outcome_frauds_this_minute", "Outcomes that say fraud, this minute", one.now, by)
            yield Gauge("sentinel_outcome_frauds_usual", "The same a minute, in the hour before", one.usual, by)
            burst = "1 while far more outcomes than usual say fraud"
            yield Gauge("sentinel_outcome_fraud_burst", burst, float(one.is_burst), by)
        for kind, n in self._kinds.items():
            yield Gauge("sentinel_events_told", "Context events told since the start, by kind", n, {"event": kind})


class _Source:
    """What one source has told: in all, in the minute that runs, and in each of those before."""

    def __init__(self, name: str, now_s: float) -> None:
        self._name = name
        self.outcomes = self.frauds = self.now = 0
        self._began_s = now_s
        self._before: deque[int] = deque(maxlen=USUAL_MINUTES)

    @property
    def usual(self) -> float:
        """Frauds a minute in the last hour, or since the first outcome; 0 in the first minute."""
        return sum(self._before) / len(self._before) if self._before else 0.0

    @property
    def is_burst(self) -> bool:
        """Whether this minute has far more of them than usual."""
        return self.now > max(LEAST_BURST, _TIMES_USUAL * self.usual)

    def move(self, now_s: float) -> None:
        """Begin the minute that is now."""
        passed = int((now_s - self._began_s) // MINUTE_S)
        for n in range(min(passed, USUAL_MINUTES + 1)):
            self._before.append(self.now if n == 0 else 0)
            self.now = 0
        self._began_s += passed * MINUTE_S

    def note(self, is_fraud: bool, now_s: float) -> None:
        """Count an outcome."""
        self.move(now_s)
        was_burst = self.is_burst
        self.outcomes += 1
        self.frauds += is_fraud
        self.now += is_fraud
        if self.is_burst and not was_burst:
            _log.warning(
                "%s says fraud of %d transactions this minute, %.1f are usual; if its key is not in good hands, "
                "`sentinel outcomes revoke` takes back what it told", self._name, self.now, self.usual,
            )  # fmt: skip
