"""What fails on the way is tried three times, 10 and 15 ms apart, and no longer than its caller waits."""

import pytest

from sentinel.retrying import retried


class Clock:
    def __init__(self):
        self.now, self.pauses = 100.0, []

    def sleep(self, seconds):
        self.now += seconds
        self.pauses.append(seconds)


def failing(times, fault=ConnectionError):
    left = iter(range(times))

    def call():
        calls.append(1)
        if next(left, None) is not None:
            raise fault("away")
        return "there"

    calls = []
    return call, calls


@pytest.mark.parametrize(("times", "pauses"), [(0, []), (1, [0.010]), (2, [0.010, 0.015])])
def test_it_is_tried_until_it_works(times, pauses):
    clock, (call, calls) = Clock(), failing(times)
    assert retried(call, ConnectionError, sleep=clock.sleep) == "there"
    assert (clock.pauses, len(calls)) == (pauses, times + 1)


def test_the_third_fault_is_raised():
    clock, (call, calls) = Clock(), failing(9)
    with pytest.raises(ConnectionError):
        retried(call, ConnectionError, sleep=clock.sleep)
    assert len(calls) == 3


@pytest.mark.parametrize(("patience_s", "tries"), [(0.0, 1), (0.010, 1), (0.011, 2), (0.0251, 3)])
def test_nothing_is_tried_after_the_deadline(patience_s, tries):
    clock, (call, calls) = Clock(), failing(9)
    with pytest.raises(ConnectionError):
        retried(call, ConnectionError, 100.0 + patience_s, now_s=lambda: clock.now, sleep=clock.sleep)
    assert len(calls) == tries


def test_other_faults_are_raised_at_once():
    call, calls = failing(9, ValueError)
    with pytest.raises(ValueError, match="away"):
        retried(call, ConnectionError, sleep=lambda _: None)
    assert len(calls) == 1
