"""The engine on a real journal and a real model: the same answers whatever happens to it."""

import os
import shutil

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import Conflict, InvalidInput, JournalProblem, NotFound
from sentinel.events.files import history_of_frame
from sentinel.events.log import Outcome
from sentinel.events.replay import log_of_frame
from sentinel.features.store import pack
from sentinel.model.bundle import load_bundle
from sentinel.policy.judge import OVERLOADED
from sentinel.record.journal import Journal
from sentinel.record.journal_reader import DecisionRow
from sentinel.record.snapshots import Snapshots
from sentinel.review import overflow
from sentinel.serve.counting import SETTLE_ROWS
from sentinel.serve.decisions import Arrivals, Decision, Noted
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import Contender, Lineup
from sentinel.telemetry.counters import Slot

NOW_US = 1_738_400_000_000_000  # just after the history
STEP_US = 60_000_000


@pytest.fixture(scope="module")
def bundle(shop_home):
    return load_bundle(shop_home / "models" / "v1")


class Home:
    """A folder in which engines come and go."""

    def __init__(self, folder, bundle):
        self.folder = folder
        self.bundle = bundle
        self.engine = None

    def open(self):
        journal = Journal(self.folder / "journal.db")
        self.engine = Engine(Lineup(1, Contender(self.bundle)), journal, Snapshots(self.folder / "snapshots"), NOW_US)
        return self.engine

    def close(self):
        self.engine.snapshot()
        self.crash()

    def crash(self):
        """Go without a snapshot. (What a kill does to a process is tested in tests/scenarios.)"""
        self.engine.judge.stop()
        self.engine.snapshots.close()
        self.engine.journal.close()
        self.engine = None


@pytest.fixture
def home(tmp_path, bundle):
    home = Home(tmp_path, bundle)
    yield home
    if home.engine:
        home.crash()


def payment(engine, i, **changes):
    fields = {"transaction_id": f"t{i}", "event_time": NOW_US + i * STEP_US, "amount": 10.0 + i % 7, "card": f"card-{i % 5}",
              "shop": f"shop-{i % 3}", "channel": "web", "risk": 0.5}  # fmt: skip
    return engine.schema.wire_type(**fields | changes)


def outcome(i, *, is_fraud=True):
    return Outcome(f"t{i}", is_fraud, NOW_US)


def state(engine):
    (kept,) = engine.states.values()
    return pack(kept.store.snapshot())


LATER = NOW_US + 10**12


IN_TIME, TOO_LATE = 2**62, 1


def handle(engine, events, due_ns=None):
    return engine.handle(Arrivals(events, [0] * len(events), due_ns or [IN_TIME] * len(events)), LATER)


def test_a_new_transaction_is_decided_and_stored(home):
    engine = home.open()
    (answer,) = handle(engine, [payment(engine, 1)])
    assert isinstance(answer, Decision)
    assert (answer.replayed, answer.batch_size, answer.features_state, answer.degraded) == (False, 1, "fresh", None)
    assert answer.model_version == "v1"
    assert 0 <= answer.fraud_probability <= 1
    row, _ = engine.journal.find_one("t1")
    assert np.frombuffer(row.features)[0] == 11.0
    assert row.fraud_probability == answer.fraud_probability


def test_decisions_are_counted_many_at_once_and_before_anyone_reads(home):
    engine = home.open()
    seen = []
    engine._observe = lambda rows, scores: seen.append((rows.shape, scores.shape))
    requests = lambda: engine.counters.totals()[Slot.REQUESTS]  # noqa: E731
    handle(engine, [payment(engine, i) for i in range(10)])
    assert (requests(), seen) == (0, [])
    engine.settle()
    assert (requests(), seen) == (10, [((10, 12), (10,))])
    handle(engine, [payment(engine, 10 + i) for i in range(SETTLE_ROWS)])
    assert (requests(), seen[1:]) == (10 + SETTLE_ROWS, [((SETTLE_ROWS, 12), (SETTLE_ROWS,))])
    engine.settle()
    assert (requests(), len(seen)) == (10 + SETTLE_ROWS, 2)


def test_what_cannot_be_observed_is_decided_and_stored(home, caplog):
    def fail(_rows, _scores):
        raise ZeroDivisionError

    engine = home.open()
    engine._observe = fail
    answers = handle(engine, [payment(engine, i) for i in range(SETTLE_ROWS)])
    assert {type(one) for one in answers} == {Decision}
    assert engine.journal.counts()["decisions"] == SETTLE_ROWS
    assert "could not be observed" in caplog.text
    assert handle(engine, [payment(engine, 1)])[0].replayed


def test_what_was_refused_and_came_again_is_stored_once_and_nothing_before_it_is_lost(home, monkeypatch):
    """To make a postponed decision durable fails when its bytes, and those of older ones, are in the file already."""
    engine = home.open()
    told = handle(engine, [payment(engine, i) for i in range(3)], [TOO_LATE] * 3)
    zeros_too = lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error"))  # noqa: E731
    write = overflow._write
    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", zeros_too)
        failing.setattr(overflow, "_write", lambda file, data, at: write(file, data, at) if any(data) else zeros_too())
        with pytest.raises(JournalProblem):
            handle(engine, [payment(engine, 9)], [TOO_LATE])
    assert handle(engine, [payment(engine, 9)])[0].degraded is None
    engine.overflow.close()
    home.crash()
    engine = home.open()
    assert len(engine.overflow) == 3
    while engine.overflow:
        engine.catch_up()
    again = handle(engine, [payment(engine, i) for i in (0, 1, 2, 9)])
    assert [one.replayed for one in again] == [True] * 4
    assert [one.latency_us for one in again[:3]] == [one.latency_us for one in told]
    assert engine.journal.counts()["decisions"] == 4


def test_the_same_again_gets_the_stored_answer_and_counts_once(home):
    engine = home.open()
    (first,) = handle(engine, [payment(engine, 1)])
    before = state(engine)
    again = handle(engine, [payment(engine, 1), payment(engine, 1)])
    assert [one.replayed for one in again] == [True, True]
    assert {one.fraud_probability for one in again} == {first.fraud_probability}
    assert state(engine) == before


def test_a_repeat_within_the_batch_counts_once_too(home):
    engine = home.open()
    answers = handle(
        engine, [payment(engine, 1), payment(engine, 1), payment(engine, 1, amount=99.0), payment(engine, 2)]
    )
    assert [type(one) for one in answers] == [Decision, Decision, Conflict, Decision]
    assert [answers[0].replayed, answers[1].replayed] == [False, True]
    assert engine.journal.counts()["decisions"] == 2


def test_other_content_under_the_same_id_is_a_conflict_and_changes_nothing(home):
    engine = home.open()
    handle(engine, [payment(engine, 1)])
    before = state(engine)
    (answer,) = handle(engine, [payment(engine, 1, amount=11.5)])
    assert isinstance(answer, Conflict)
    assert state(engine) == before


def test_late_ones_are_told_in_their_places_among_others(home):
    engine = home.open()
    handle(engine, [payment(engine, 0)])
    batch = [payment(engine, 0), payment(engine, 1), payment(engine, 2), payment(engine, 2), payment(engine, 3),
             payment(engine, 4, event_time=LATER + 2 * 86_400_000_000), outcome(2), payment(engine, 1, amount=99.0)]  # fmt: skip
    late = {1, 4}
    answers = handle(engine, batch, [TOO_LATE if i in late else IN_TIME for i in range(len(batch))])
    kinds = [Decision, Decision, Decision, Decision, Decision, InvalidInput, Noted, Conflict]
    assert [type(one) for one in answers] == kinds
    assert [one.transaction_id for one in answers[:5]] == ["t0", "t1", "t2", "t2", "t3"]
    assert [one.replayed for one in answers[:5]] == [True, False, False, True, False]
    assert [one.degraded for one in answers[:5]] == [None, OVERLOADED, None, None, OVERLOADED]
    while engine.overflow:
        engine.catch_up()
    rows = [row for page in engine.journal.events_after(0) for row in page if isinstance(row, DecisionRow)]
    assert {row.transaction_id: msgspec.json.decode(row.content)["transaction_id"] for row in rows} == {
        name: name for name in ("t0", "t1", "t2", "t3")
    }
    told = {one.transaction_id: one for one in answers[:5]}
    assert all(told[row.transaction_id].fraud_probability == row.fraud_probability for row in rows)


def test_every_one_of_a_mixed_batch_is_found_again_by_its_id(home):
    """An outcome among payments, some of them late: what is stored of each has its own hash and its own answer."""
    engine = home.open()
    batch = [payment(engine, 0), payment(engine, 1), payment(engine, 2), outcome(0), payment(engine, 3), payment(engine, 4)]  # fmt: skip
    answers = handle(engine, batch, [TOO_LATE if i in (1, 5) else IN_TIME for i in range(6)])
    assert [one.transaction_id for one in answers] == ["t0", "t1", "t2", "t0", "t3", "t4"]
    assert [type(one) for one in answers] == [Decision, Decision, Decision, Noted, Decision, Decision]
    told = {one.transaction_id: one for one in answers if isinstance(one, Decision)}
    for _ in ("some are postponed", "all are in the journal"):
        for i in range(5):
            (again,) = handle(engine, [payment(engine, i)])
            assert (again.replayed, again.fraud_probability) == (True, told[f"t{i}"].fraud_probability)
        while engine.overflow:
            engine.catch_up()


def test_a_time_far_ahead_is_refused_and_its_neighbours_are_not(home):
    engine = home.open()
    answers = handle(
        engine, [payment(engine, 1), payment(engine, 2, event_time=LATER + 2 * 86_400_000_000), payment(engine, 3)]
    )
    assert [type(one) for one in answers] == [Decision, InvalidInput, Decision]
    assert answers[1].path == "$.event_time"
    assert engine.journal.counts()["decisions"] == 2


def test_a_late_transaction_says_so(home):
    engine = home.open()
    answers = handle(engine, [payment(engine, 5), payment(engine, 0)])
    assert [one.features_state for one in answers] == ["fresh", "late"]


def test_outcomes_are_noted_once_and_can_be_corrected(home):
    engine = home.open()
    answers = handle(engine, [payment(engine, 1), outcome(1), outcome(1), outcome(1, is_fraud=False), outcome(77)])
    assert [type(one) for one in answers] == [Decision, Noted, Noted, Noted, NotFound]
    assert [one.replayed for one in answers[1:4]] == [False, True, False]
    assert [one.is_fraud for one in engine.journal.find_one("t1")[1]] == [True, False]
    (again,) = handle(engine, [outcome(1, is_fraud=False)])
    assert again.replayed


def test_live_features_are_those_of_a_replay_of_the_file(home, bundle):
    engine = home.open()
    batch = [payment(engine, i) for i in range(200)]
    handle(engine, batch)
    fields = [{name: getattr(one, name) for name in engine.schema.fields} for one in batch]
    history = history_of_frame(pl.DataFrame(fields), engine.schema)
    offline = bundle.new_store().advance(log_of_frame(engine.schema, history.frame)).rows
    stored = [row for page in engine.journal.events_after(0) for row in page]
    online = np.frombuffer(b"".join(row.features for row in stored)).reshape(offline.shape)
    assert (online.view(np.int64) == np.ascontiguousarray(offline).view(np.int64)).all()


events = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.integers(0, 30)),
        st.tuples(st.just("fraud"), st.integers(0, 30)),
        st.tuples(st.just("honest"), st.integers(0, 30)),
        st.tuples(st.just("restart"), st.booleans()),
        st.tuples(st.just("fail"), st.integers(0, 30)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events)
def test_restarts_and_failed_commits_leave_no_trace(tmp_path, bundle, steps):
    shutil.rmtree(tmp_path, ignore_errors=True)
    tried, calm = Home(tmp_path / "tried", bundle), Home(tmp_path / "calm", bundle)
    tried.open()
    calm.open()
    for kind, value in steps:
        if kind == "restart":
            tried.close() if value else tried.crash()
            tried.open()
        elif kind == "fail":
            fail_once(tried.engine, [payment(tried.engine, value + 100), outcome(value)])
        else:
            event = payment(calm.engine, value) if kind == "pay" else outcome(value, is_fraud=kind == "fraud")
            assert answer_of(tried.engine, event) == answer_of(calm.engine, event)
    probe = [payment(calm.engine, i) for i in range(200, 210)]
    assert [one.fraud_probability for one in handle(tried.engine, probe)] == [
        one.fraud_probability for one in handle(calm.engine, probe)
    ]
    assert features_of(tried) == features_of(calm)
    tried.crash()
    calm.crash()


def answer_of(engine, event):
    (answer,) = handle(engine, [event])
    if isinstance(answer, Decision):
        return (answer.fraud_probability, answer.features_state, answer.replayed)
    return str(answer)


def features_of(home):
    rows = [row for page in home.engine.journal.events_after(0) for row in page]
    return [(row.transaction_id, row.features if isinstance(row, DecisionRow) else row.is_fraud) for row in rows]


def fail_once(engine, batch):
    """A disk that refuses one commit, after the features have moved on."""
    append = engine.journal.append

    def refuse(*_rows):
        engine.journal.append = append
        raise JournalProblem("no space left on device")

    engine.journal.append = refuse
    try:
        handle(engine, batch)
    except JournalProblem:
        pass
    finally:
        engine.journal.append = append


def test_a_damaged_snapshot_is_passed_over(home):
    engine = home.open()
    handle(engine, [payment(engine, i) for i in range(20)])
    home.close()
    (snapshot,) = (home.folder / "snapshots").glob("*.npz")
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 0xFF
    snapshot.write_bytes(bytes(data))
    engine = home.open()
    (answer,) = handle(engine, [payment(engine, 20)])
    calm = Home(home.folder / "calm", home.bundle)
    fresh = calm.open()
    expected = handle(fresh, [payment(fresh, i) for i in range(21)])[-1]
    assert answer.fraud_probability == expected.fraud_probability
    assert features_of(home)[-1][1] == fresh.journal.find_one("t20")[0].features
    calm.crash()


def test_a_snapshot_ahead_of_the_journal_is_passed_over(home):
    engine = home.open()
    handle(engine, [payment(engine, i) for i in range(20)])
    home.close()
    for file in home.folder.glob("journal.db*"):
        file.unlink()
    engine = home.open()
    (answer,) = handle(engine, [payment(engine, 1)])
    assert not answer.replayed


def test_a_snapshot_is_taken_when_enough_has_happened(home, monkeypatch):
    monkeypatch.setattr("sentinel.serve.engine.SNAPSHOT_EVERY", 10)
    engine = home.open()
    for i in range(25):
        handle(engine, [payment(engine, i)])
        engine.keep_up()
    home.crash()
    assert len(list((home.folder / "snapshots").glob("*.npz"))) >= 1
    engine = home.open()
    assert engine.journal.last_seq == 25
