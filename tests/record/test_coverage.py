"""Coverage: what features look back on and nobody saw is told, with what to do; what little is missing is not."""

import msgspec
import pytest

from sentinel import Schema, count, field, seconds_since_last
from sentinel.features.plan import FeaturePlan
from sentinel.model.bundle import read_manifest
from sentinel.record import coverage
from sentinel.record.coverage import Coverage
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind

DAY_US = 86_400_000_000


@pytest.fixture
def log(tmp_path):
    log = FileLog(tmp_path / "log", 0)
    yield log
    log.close()


@pytest.fixture(scope="module")
def manifest(shop_home):
    return read_manifest(shop_home / "models" / "v1")


@pytest.fixture
def told(log, manifest, made):
    """What is told so many days after the end of the history; `decided` are days on which something was decided."""

    def telling(days, *decided, of=manifest):
        for n, day in enumerate(decided):
            body = made.decided([{"id": f"{day}-{n}"}])
            log.write(Kind.DECIDED, 1, of.history.last_us + int(day * DAY_US), body)
        return Coverage(log).gap(of, of.history.last_us + int(days * DAY_US))

    return telling


def test_a_history_that_has_just_ended_is_no_gap(told):
    assert told(0) is None
    assert told(0.9) is None


def test_a_tenth_of_the_window_may_be_missing_and_no_more(told):
    assert told(1.01) is not None
    assert "look back 8 days" in told(1.01)  # a week and the delay of a day


def test_what_is_missing_is_told_until_now_while_nothing_is_decided(told):
    found = told(300)
    assert "nothing was decided here since" in found
    assert "train on a history that reaches up to now" in found


def test_what_is_missing_ends_where_the_log_begins(told):
    found = told(5, 3)
    assert "the first decision here" in found
    assert "v1" in found


def test_a_log_that_goes_on_from_the_history_leaves_no_gap(told):
    assert told(300, 0.5, 200) is None


def test_a_gap_is_over_when_the_log_reaches_back_far_enough(told):
    assert told(10, 5) is not None
    assert told(12.3) is None


def test_entries_that_are_no_decisions_do_not_count(told, log, manifest):
    log.write(Kind.HEARTBEAT, 1, manifest.history.last_us + DAY_US // 2, b"")
    assert told(6) is not None


class Counted:
    """A log that counts what is read of it."""

    def __init__(self, log):
        self._log, self.reads = log, 0

    def __getattr__(self, name):
        return getattr(self._log, name)

    def read(self, position, limit):
        self.reads += 1
        return self._log.read(position, limit)


def test_a_long_log_is_read_on_at_each_call_and_unknown_until_that_is_done(log, manifest, made, monkeypatch):
    monkeypatch.setattr(coverage, "_MOST_PAGES", 2)
    last_us = manifest.history.last_us
    for n in range(5):
        log.write(Kind.HEARTBEAT, 5_000, last_us + DAY_US + n, b"")
    counted = Counted(log)
    asked = Coverage(counted)

    def told():
        return asked.gap(manifest, last_us + 10 * DAY_US)

    for _ in range(2):
        assert "it is unknown yet what the features of v1 lack" in told()
    assert "nothing was decided here since" in told()
    log.write(Kind.DECIDED, 1, last_us + 6 * DAY_US, made.decided([{"id": "first"}]))
    assert "the first decision here" in told()
    assert "the first decision here" in told()
    assert counted.reads == 6


@pytest.mark.parametrize(
    ("feature", "little", "much", "said"),
    [(seconds_since_last(by="card"), 5, 20, "91 days"), (count(by="card", over="10m"), 0.9, 1.1, "10 minutes")],
)
def test_the_longest_window_counts_or_how_long_keys_are_remembered(told, manifest, feature, little, much, said):
    plan = FeaturePlan(schema=Schema(keys=("card",)), features=(field("amount"), feature))
    other = msgspec.structs.replace(manifest, plan=plan)
    assert told(little, of=other) is None
    assert f"look back {said}" in told(much, of=other)
