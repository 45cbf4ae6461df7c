"""What was written stands before anyone is told: it is durable, and no other record took its place."""

import threading

import pytest

from sentinel.errors import StorageProblem
from sentinel.record.standing import wait_until_it_stands


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog(delayed=True)


def written(log, body):
    return log.at(log.write(0, 1, 5, body))


def test_it_is_waited_for(log):
    one = written(log, b"one")
    threading.Timer(0.1, log.advance).start()
    wait_until_it_stands(log, one)
    assert log.durable > one.position


def test_what_takes_too_long_is_not_known(log):
    with pytest.raises(StorageProblem, match="not known"):
        wait_until_it_stands(log, written(log, b"one"), patience_s=0.05)


@pytest.mark.parametrize("other", [b"other", b"one"], ids=["another", "the like after another"])
def test_another_record_in_its_place_is_not_taken_for_it(log, other):
    """The log failed and recovered between two looks."""
    written(log, b"before")
    one = written(log, b"one")
    log.fence()
    with pytest.raises(StorageProblem):
        written(log, b"two")
    log.recover()
    written(log, b"else")
    assert written(log, other).position == one.position
    log.advance(2)
    with pytest.raises(StorageProblem, match="goes on without it"):
        wait_until_it_stands(log, one)
