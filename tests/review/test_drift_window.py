"""The drift window, which follows the log, reports what a monitor says that is given the same rows."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.model.reference import Reference
from sentinel.record.log import Kind
from sentinel.review.drift import DriftMonitor, DriftSettings
from sentinel.review.drift_window import DriftWindow

SMALL = DriftSettings(window=40, least_rows=5, stride=1)
DECISIONS = st.fixed_dictionaries(
    {
        "amount": st.sampled_from([1.0, 2.5, 80.0]),
        "score": st.sampled_from([0.0, 0.25, 1.0]),
        "version": st.sampled_from(["v1", "v1", "v2"]),
        "degraded": st.sampled_from([None, None, "slow"]),
        "variant": st.sampled_from([None, "a"]),
    }
)
BATCHES = st.lists(st.lists(DECISIONS, max_size=12), min_size=1, max_size=12)
"""An empty one is a heartbeat."""


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(1)
    return Reference.learn(("amount",), ("numeric",), rng.normal(10, 2, (900, 1)), rng.random(900).astype(np.float32))


def write(log, made, batch):
    named = [row | {"id": str(n)} for n, row in enumerate(batch)]
    if batch:
        log.write(Kind.DECIDED, len(batch), 1, made.decided(named))
    else:
        log.write(Kind.HEARTBEAT, 1, 1, b"")


def of_model(batches, version="v1"):
    """The rows of this model that it decided itself, in the order of the log; within a batch, decider by decider."""
    rows = [row for batch in batches for row in batch if row["version"] == version and row["degraded"] is None]
    return np.array([[row["amount"]] for row in rows]).reshape(-1, 1), np.array([row["score"] for row in rows])


def caught_up(window):
    while window.follow():
        pass
    return window.report(0.0)


def report_of(reference, batches, settings=SMALL):
    monitor = DriftMonitor(reference, settings)
    monitor.observe(*of_model(batches))
    return monitor.report(0.0)


@settings(max_examples=60, deadline=None)
@given(batches=BATCHES, data=st.data())
def test_what_is_decided_from_now_on_is_counted_as_by_hand(made, fake_log, reference, batches, data):
    """The rows of another model and those that the rules decided do not count. The order in a window does not either."""
    log, wide = fake_log.FakeLog(), msgspec.structs.replace(SMALL, window=1_000)
    window = DriftWindow(reference, "v1", wide, log)
    for batch in batches:
        write(log, made, batch)
        if data.draw(st.booleans()):
            window.follow()
    assert caught_up(window) == report_of(reference, batches, wide)


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_it_begins_as_far_back_as_the_window_is_long(made, fake_log, reference, rows):
    """Also where that is in the middle of a batch: of the oldest rows only the newest ones are kept."""
    log, rng = fake_log.FakeLog(), np.random.default_rng(2)
    batches = [
        [{"amount": float(x), "score": 0.5, "version": "v1", "degraded": None} for x in rng.normal(10, 2, rows)]
        for _ in range(200 // rows)
    ]
    for batch in batches:
        write(log, made, batch)
    assert caught_up(DriftWindow(reference, "v1", SMALL, log)) == report_of(reference, batches)


def test_only_what_is_durable_counts(made, fake_log, reference):
    log = fake_log.FakeLog(delayed=True)
    window = DriftWindow(reference, "v1", SMALL, log)
    write(log, made, [{}, {}])
    assert (window.follow(), window.report(0.0).current_count) == (False, 0)
    log.advance()
    assert (window.follow(), window.report(0.0).current_count) == (True, 2)


def test_after_a_reset_only_later_decisions_count(made, fake_log, reference):
    log = fake_log.FakeLog()
    window = DriftWindow(reference, "v1", SMALL, log)
    write(log, made, [{}] * 3)
    window.reset()
    write(log, made, [{}] * 2)
    assert caught_up(window).current_count == 2
    window.reset()
    assert caught_up(window).current_count == 0


def test_vectors_that_are_in_no_log_count_where_there_is_one_and_where_there_is_none(made, fake_log, reference):
    log, vectors, scores = fake_log.FakeLog(), np.full((3, 1), 9.0), np.full(3, 0.5)
    for window in (DriftWindow(reference, "v1", SMALL, log), DriftWindow(reference, "v1", SMALL, None)):
        window.observe(vectors, scores)
        window.observe(np.full((3, 2), 9.0), scores)  # of another model
        assert caught_up(window).current_count == 3
        window.reset()
        assert caught_up(window).current_count == 0
