"""The breaker against a model that remembers everything and works it out anew each time."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition
from sentinel.policy.breaker import Breaker, BreakerSettings, Circuit

CALM = BreakerSettings(trip_in_a_row=3, trip_share=0.5, remembered=8, open_s=1.0, longest_open_s=8.0, probes=2)
NEVER_IN_A_ROW = msgspec.structs.replace(CALM, trip_in_a_row=1_000)


class Remembering:
    """What the breaker should say: from lists of all calls, without counters."""

    def __init__(self, settings):
        self.settings = settings
        self.since_closed = []
        self.since_half_open = []
        self.failed_probes = 0
        self.circuit = Circuit.CLOSED
        self.opened_at = self.openings = 0

    @property
    def period(self):
        return min(self.settings.open_s * 2**self.failed_probes, self.settings.longest_open_s)

    def allows(self, now):
        if self.circuit is Circuit.OPEN and now - self.opened_at >= self.period:
            self.circuit, self.since_half_open = Circuit.HALF_OPEN, []
        return self.circuit is not Circuit.OPEN

    def called(self, good, now):
        self.since_closed.append(good)
        self.since_half_open.append(good)
        if self.circuit is Circuit.HALF_OPEN:
            if not good:
                self.failed_probes += 1
                self.open(now)
            elif len(self.since_half_open) == self.settings.probes:
                self.circuit, self.since_closed, self.failed_probes = Circuit.CLOSED, [], 0
        elif not good and self.is_too_much():
            self.open(now)

    def is_too_much(self):
        s, calls = self.settings, self.since_closed
        in_a_row = len(calls) >= s.trip_in_a_row and not any(calls[-s.trip_in_a_row :])
        newest = calls[-s.remembered :]
        return in_a_row or (len(newest) == s.remembered and newest.count(False) >= s.trip_share * s.remembered)

    def open(self, now):
        self.circuit, self.opened_at, self.openings = Circuit.OPEN, now, self.openings + 1


settings_of_any_kind = st.builds(
    BreakerSettings,
    trip_in_a_row=st.integers(1, 6),
    trip_share=st.sampled_from([0.125, 0.25, 0.5, 0.75, 1.0]),
    remembered=st.sampled_from([1, 4, 8]),
    open_s=st.sampled_from([0.5, 1.0]),
    longest_open_s=st.sampled_from([1.0, 3.0, 8.0]),
    probes=st.integers(1, 4),
)
NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trip_in_a_row": 0}, "trip_in_a_row is 0; give 1 or more"),
        ({"remembered": 0}, "remembered is 0"),
        ({"remembered": -5}, "remembered is -5"),
        ({"probes": 0}, "probes is 0"),
        ({"trip_share": 0.0}, "trip_share is 0.0; give a share above 0"),
        ({"trip_share": -0.5}, "trip_share is -0.5"),
        ({"trip_share": 1.01}, "trip_share is 1.01"),
        ({"trip_share": NAN}, "trip_share is nan"),
        ({"open_s": 0.0}, "open_s is 0.0 and longest_open_s 8.0; give seconds above 0"),
        ({"open_s": -1.0}, "open_s is -1.0"),
        ({"open_s": NAN}, "open_s is nan"),
        ({"open_s": 8.5}, "open_s is 8.5 and longest_open_s 8.0"),
        ({"longest_open_s": float("inf")}, "longest_open_s inf"),
        ({"longest_open_s": NAN}, "longest_open_s nan"),
    ],
)
def test_settings_that_no_breaker_could_go_by_are_refused(changes, words):
    with pytest.raises(InvalidDefinition, match=f"breaker: .*{words}"):
        msgspec.structs.replace(CALM, **changes)


def test_the_ends_of_each_range_are_allowed():
    BreakerSettings(trip_in_a_row=1, trip_share=1.0, remembered=1, open_s=0.001, longest_open_s=0.001, probes=1)


calls = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), st.booleans()), max_size=80)


@given(settings_of_any_kind, calls)
def test_it_does_what_a_model_that_remembers_every_call_does(settings, steps):
    breaker, model, now = Breaker(settings), Remembering(settings), 100.0
    for wait, good in steps:
        now += wait
        assert breaker.allows(now) == model.allows(now)
        if model.circuit is not Circuit.OPEN:
            breaker.succeeded() if good else breaker.failed(now)
            model.called(good, now)
        assert (breaker.circuit, breaker.openings) == (model.circuit, model.openings)


def fail(breaker, times, now=0.0):
    for _ in range(times):
        assert breaker.allows(now)
        breaker.failed(now)


def succeed(breaker, times, now=0.0):
    for _ in range(times):
        assert breaker.allows(now)
        breaker.succeeded()


def test_it_opens_at_the_last_of_so_many_failures_in_a_row():
    breaker = Breaker(CALM)
    fail(breaker, 2)
    assert breaker.circuit is Circuit.CLOSED
    fail(breaker, 1)
    assert breaker.circuit is Circuit.OPEN
    assert not breaker.allows(0.999)


def test_a_good_call_begins_the_row_anew():
    breaker = Breaker(CALM)
    for _ in range(2):
        fail(breaker, 2)
        succeed(breaker, 2)
    assert (breaker.circuit, breaker.openings) == (Circuit.CLOSED, 0)


def test_it_opens_for_its_share_of_the_last_calls_only_once_it_has_seen_so_many():
    breaker = Breaker(NEVER_IN_A_ROW)
    fail(breaker, 7)
    assert breaker.circuit is Circuit.CLOSED
    fail(breaker, 1)
    assert breaker.circuit is Circuit.OPEN


def test_calls_older_than_the_memory_count_no_more():
    breaker = Breaker(NEVER_IN_A_ROW)
    fail(breaker, 3)
    succeed(breaker, 8)
    fail(breaker, 3)
    assert breaker.circuit is Circuit.CLOSED
    fail(breaker, 1)
    assert breaker.circuit is Circuit.OPEN


def test_it_stays_open_for_its_time_and_not_a_moment_longer():
    breaker = Breaker(CALM)
    fail(breaker, 3, now=10.0)
    assert not breaker.allows(10.9999)
    assert breaker.circuit is Circuit.OPEN
    assert breaker.allows(11.0)
    assert breaker.circuit is Circuit.HALF_OPEN


def test_it_closes_after_its_probes_and_has_forgotten_what_was_before():
    breaker = Breaker(CALM)
    fail(breaker, 3)
    succeed(breaker, 1, now=1.0)
    assert breaker.circuit is Circuit.HALF_OPEN
    succeed(breaker, 1, now=1.0)
    assert breaker.circuit is Circuit.CLOSED
    fail(breaker, 2, now=1.0)
    succeed(breaker, 5, now=1.0)
    assert breaker.circuit is Circuit.CLOSED


def test_one_bad_probe_opens_it_again_whatever_came_before():
    breaker = Breaker(CALM)
    fail(breaker, 3)
    succeed(breaker, 1, now=1.0)
    fail(breaker, 1, now=1.0)
    assert (breaker.circuit, breaker.openings) == (Circuit.OPEN, 2)
    succeed(breaker, 1, now=3.0)
    assert breaker.circuit is Circuit.HALF_OPEN  # the probe of last time does not count


def test_it_waits_twice_as_long_after_each_bad_probe_and_never_longer_than_its_limit():
    breaker, now, waited = Breaker(CALM), 0.0, []
    fail(breaker, 3)
    for _ in range(6):
        wait = next(tenths / 10 for tenths in range(1, 1_000) if breaker.allows(now + tenths / 10))
        waited.append(wait)
        now += wait
        fail(breaker, 1, now)
    assert waited == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_recovery_forgets_how_long_it_waited():
    breaker = Breaker(CALM)
    fail(breaker, 3)
    fail(breaker, 1, now=1.0)
    succeed(breaker, 2, now=3.0)
    fail(breaker, 3, now=3.0)
    assert not breaker.allows(3.9)
    assert breaker.allows(4.0)


@pytest.mark.parametrize("openings", [0, 1, 4])
def test_it_counts_how_often_it_opened(openings):
    breaker, now = Breaker(CALM), 0.0
    for _ in range(openings):
        now += 100.0
        succeed(breaker, 2, now)
        fail(breaker, 3, now)
    assert breaker.openings == openings
