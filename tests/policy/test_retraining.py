"""When to retrain."""

from datetime import UTC, datetime, timedelta

import pytest

from sentinel.errors import InvalidDefinition
from sentinel.policy.retraining import Triggers

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize("reason", ["drifts", "labels", "labels:", "labels:0", "labels:-1", "labels:1.5", ""])
def test_a_reason_that_is_none(reason):
    with pytest.raises(InvalidDefinition, match=r"write drift, or labels:500"):
        Triggers.of(None, [reason])


@pytest.mark.parametrize("cron", ["", "3", "0 25 * * *", "* * * *", "0 0 31 2 *", "@daily"])
def test_a_time_that_is_none(cron):
    with pytest.raises(InvalidDefinition, match=r"as 0 3 \* \* \*"):
        Triggers.of(cron, [])


def test_nothing_is_wanted_without_a_reason():
    assert not Triggers.of(None, []).wanted
    assert Triggers.of("0 3 * * *", []).wanted


@pytest.mark.parametrize(
    ("due", "paused", "drifted", "labels", "reason"),
    [
        (NOON, True, True, 99, "schedule"),
        (NOON + timedelta(seconds=1), False, False, 4, None),
        (None, False, True, 0, "drift"),
        (None, True, True, 99, None),
        (None, False, False, 5, "labels"),
        (None, False, True, 5, "drift"),
    ],
)
def test_the_reason(due, paused, drifted, labels, reason):
    triggers = Triggers.of("0 3 * * *", ["drift", "labels:5"])
    assert triggers.reason(due, NOON, paused, drifted, labels) == reason


def test_what_is_not_asked_for_is_no_reason():
    assert Triggers.of("0 3 * * *", []).reason(None, NOON, paused=False, drifted=True, new_labels=10**6) is None
