"""The engine on a real log and a real model: the same answers whatever happens to it."""

import errno
import itertools
import shutil
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.detectors import load_detector
from sentinel.errors import Conflict, InvalidInput, StorageProblem
from sentinel.events.columns import Outcome, columns_of_outcomes
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.model_call import OVERLOADED
from sentinel.record.entries import Revocation
from sentinel.record.file_log import FileLog
from sentinel.serve.batch import Decision, Noted
from sentinel.serve.ledger import SETTLE_ROWS
from sentinel.serve.lineup import Contender, Lineup
from sentinel.telemetry.counters import Slot
from sentinel.train.pipeline import train

DAY_US = 86_400_000_000
IN_TIME, TOO_LATE = 2**62, 1


@pytest.fixture(scope="module")
def lineup(shop_home):
    return Lineup(1, Contender(load_bundle(shop_home / "models" / "v1")))


@pytest.fixture
def home(home_of, lineup):
    home = home_of(lineup)
    home.open()
    return home


def features(home):
    return [(row.transaction_id, row.features.tobytes()) for row in home.decisions()]


# transactions


def test_a_new_transaction_is_decided_and_stored(home):
    (answer,) = home.handle([home.payment(1)])
    assert isinstance(answer, Decision)
    assert (answer.replayed, answer.batch_size, answer.features_state, answer.degraded) == (False, 1, "fresh", None)
    assert answer.model_version == "v1"
    assert 0 <= answer.fraud_probability <= 1
    (row,) = home.decisions()
    assert row.features[0] == home.payment(1).amount
    assert (row.fraud_probability, row.decision) == (answer.fraud_probability, answer.decision)
    assert (row.transaction_id, row.received_us) == ("t1", home.now_us)


def test_decisions_are_counted_many_at_once_and_when_the_ledger_is_settled(home):
    requests = lambda: home.counters.totals()[Slot.REQUESTS]  # noqa: E731
    home.handle([home.payment(i) for i in range(10)])
    assert requests() == 0
    home.engine.ledger.settle()
    assert requests() == 10
    home.handle([home.payment(10 + i) for i in range(SETTLE_ROWS)])
    assert requests() == 10 + SETTLE_ROWS
    home.engine.ledger.settle()
    assert requests() == 10 + SETTLE_ROWS


def test_the_same_again_gets_the_stored_answer_and_counts_once(home):
    (first,) = home.handle([home.payment(1)])
    before = home.held()
    again = home.handle([home.payment(1), home.payment(1)])
    assert [one.replayed for one in again] == [True, True]
    assert {one.fraud_probability for one in again} == {first.fraud_probability}
    assert home.held() == before
    assert len(home.decisions()) == 1


def test_a_repeat_within_the_batch_counts_once_too(home):
    answers = home.handle([home.payment(1), home.payment(1), home.payment(1, amount=99.0), home.payment(2)])
    assert [type(one) for one in answers] == [Decision, Decision, Conflict, Decision]
    assert [answers[0].replayed, answers[1].replayed] == [False, True]
    assert len(home.decisions()) == 2


def test_other_content_under_the_same_id_is_a_conflict_and_changes_nothing(home):
    home.handle([home.payment(1)])
    before = home.held()
    (answer,) = home.handle([home.payment(1, amount=11.5)])
    assert isinstance(answer, Conflict)
    assert home.held() == before


def test_who_has_waited_too_long_is_decided_by_the_rules_in_the_same_place_and_order(home):
    home.handle([home.payment(0)])
    batch = [home.payment(0), home.payment(1), home.payment(2), home.payment(2), home.payment(3),
             home.payment(4, event_time=home.now_us + 2 * DAY_US), home.payment(1, amount=99.0)]  # fmt: skip
    answers = home.handle(batch, [TOO_LATE if i in (1, 4) else IN_TIME for i in range(len(batch))])
    kinds = [Decision, Decision, Decision, Decision, Decision, InvalidInput, Conflict]
    assert [type(one) for one in answers] == kinds
    assert [one.transaction_id for one in answers[:5]] == ["t0", "t1", "t2", "t2", "t3"]
    assert [one.replayed for one in answers[:5]] == [True, False, False, True, False]
    assert [one.degraded for one in answers[:5]] == [None, OVERLOADED, None, None, OVERLOADED]
    assert [row.transaction_id for row in home.decisions()] == ["t0", "t1", "t2", "t3"]
    assert [row.decider.degraded for row in home.decisions()] == [None, OVERLOADED, None, OVERLOADED]


def test_what_the_rules_decide_is_stored_with_full_features_and_found_again(home, home_of, lineup):
    calm = home_of(lineup, folder="calm")
    calm.open()
    calm.pay(range(20))
    shed = [home.handle([home.payment(i)], [TOO_LATE if i % 2 else IN_TIME])[0] for i in range(20)]
    assert features(home) == features(calm)
    assert [one.degraded for one in shed] == [None, OVERLOADED] * 10
    again = home.handle([home.payment(i) for i in range(20)])
    assert [one.fraud_probability for one in again] == [one.fraud_probability for one in shed]
    assert [one.degraded for one in again] == [one.degraded for one in shed]
    assert home.counters.totals()[Slot.SHED_OVERLOAD] == 10


def test_every_answer_of_a_mixed_batch_is_what_is_stored_under_its_id(home):
    answers = home.handle([home.payment(i) for i in range(6)], [TOO_LATE if i in (1, 5) else IN_TIME for i in range(6)])
    told = {one.transaction_id: (one.fraud_probability, one.decision, one.latency_us) for one in answers}
    stored = {row.transaction_id: (row.fraud_probability, row.decision, row.latency_us) for row in home.decisions()}
    assert stored == told
    again = home.handle([home.payment(i) for i in range(6)])
    assert {one.transaction_id: (one.fraud_probability, one.decision, one.latency_us) for one in again} == told


def test_a_time_far_ahead_is_refused_and_its_neighbours_are_not(home):
    answers = home.handle([home.payment(1), home.payment(2, event_time=home.now_us + 2 * DAY_US), home.payment(3)])
    assert [type(one) for one in answers] == [Decision, InvalidInput, Decision]
    assert answers[1].path == "$.event_time"
    assert [row.transaction_id for row in home.decisions()] == ["t1", "t3"]


def test_a_late_transaction_says_so(home):
    answers = home.handle([home.payment(23), home.payment(0)])
    assert [one.features_state for one in answers] == ["fresh", "late"]
    assert [one.features_state for one in home.handle([home.payment(23), home.payment(0)])] == ["fresh", "late"]


def test_live_features_are_those_of_a_replay_of_the_file(home, lineup):
    batch = [home.payment(i) for i in range(200)]
    home.handle(batch)
    schema, bundle = home.engine.schema, lineup.champion.bundle
    fields = [{name: getattr(one, name) for name in schema.fields} for one in batch]
    history = history_of_frame(pl.DataFrame(fields), schema)
    offline = bundle.new_store().advance(columns_of_frame(schema, history.frame)).rows
    assert [row.features.tobytes() for row in home.decisions()] == [row.tobytes() for row in offline]


# outcomes


def test_outcomes_are_noted_once_and_can_be_corrected(home):
    home.pay([1])
    answers = home.handle([home.outcome(1), home.outcome(1), home.outcome(1, is_fraud=False), home.outcome(77)])
    assert [one.known for one in answers] == [True, True, True, False]
    assert [one.replayed for one in answers] == [False, True, False, False]
    (decision,) = home.decisions()
    assert [(row.is_fraud, row.about) for row in home.outcomes()] == [
        (True, decision.position),
        (False, decision.position),
    ]
    (again,) = home.handle([home.outcome(1, is_fraud=False)])
    assert again.replayed
    assert len(home.outcomes()) == 2


@pytest.fixture(scope="module")
def unfinished(shop_file, shop_detector, tmp_path_factory):
    """A model whose history has transactions that still wait for their outcomes, the last of them `h1-5999`."""
    shop, registry = load_detector(shop_detector), Registry(tmp_path_factory.mktemp("unfinished"))
    frame = pl.read_csv(shop_file)
    of_the_last_day = pl.col("event_time") > frame["event_time"].max() - DAY_US
    frame = frame.with_columns(pl.when(of_the_last_day).then(None).otherwise(pl.col("is_fraud")).alias("is_fraud"))
    manifest = train(shop, history_of_frame(frame, shop.schema), registry, lambda *_: None)
    return Lineup(1, Contender(load_bundle(registry.path(manifest.version))))


def test_an_outcome_that_only_the_history_can_place_changes_no_state(home_of, unfinished):
    """The features remember such a transaction, but it was not decided here."""
    home, calm = home_of(unfinished), home_of(unfinished, folder="calm")
    told = Outcome("h1-5999", True, home.now_us)
    store = unfinished.champion.bundle.new_store()
    assert store.advance(columns_of_outcomes(home.open().schema, [told], home.now_us)).known[0]
    calm.open()
    for one in home, calm:
        one.pay(range(30))
    assert home.handle([told]) == [Noted("h1-5999", True, replayed=False, known=False)]
    assert home.held() == calm.held()
    answers = home.handle([home.outcome(3), told, home.outcome(5)])
    assert [(one.known, one.replayed) for one in answers] == [(True, False), (False, True), (True, False)]
    calm.handle([home.outcome(3), home.outcome(5)])
    assert home.held() == calm.held()
    assert [row.transaction_id for row in home.outcomes()] == ["t3", "t5"]
    home.assert_states_are_those_of_a_replay()


def test_outcomes_that_are_taken_back_change_what_comes_and_nothing_that_was_decided(home):
    home.pay(range(30))
    told = [msgspec.structs.replace(home.outcome(i), told_by="k", source="bank") for i in range(0, 30, 2)]
    home.handle(told)
    home.now_us += 3 * DAY_US
    home.pay(range(30, 60))
    decided = features(home)
    revocation = Revocation("k", "stolen", 0, home.now_us + 1, home.log.durable)
    rows = home.outcomes()
    taken = [home.engine.revoke(revocation, rows[begin : begin + 7], home.now_us) for begin in (0, 7, 14)]
    assert [one.transactions for one in taken] == [7, 7, 1]
    assert home.engine.revoke(revocation, rows, home.now_us).entry is None
    home.assert_states_are_those_of_a_replay()
    home.pay(range(60, 70))
    assert features(home)[:60] == decided
    before = home.held()
    home.reopen()
    assert home.held() == before
    home.save()
    home.reopen()
    assert home.held() == before


def test_an_outcome_of_an_unknown_transaction_changes_no_state(home):
    home.pay(range(30))
    before, end = home.held(), home.log.durable
    (answer,) = home.handle([home.outcome(77)])
    assert not answer.known
    assert home.held() == before
    assert home.log.durable == end + 1


def test_an_outcome_among_unknown_ones_counts_alone(home, home_of, lineup):
    calm = home_of(lineup, folder="calm")
    calm.open()
    among = [home.outcome(3), home.outcome(99), home.outcome(5), home.outcome(77), home.outcome(3)]
    for one, told in ((home, among), (calm, [home.outcome(3), home.outcome(5)])):
        one.pay(range(30))
        one.handle(told)
    assert [row.transaction_id for row in home.outcomes()] == ["t3", "t5"]
    assert home.held() == calm.held()
    home.assert_states_are_those_of_a_replay()


# failures and restarts


HOMES = itertools.count()

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


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events)
def test_restarts_and_failed_writes_leave_no_trace(home_of, fake_log, lineup, steps):
    tried, calm = (home_of(lineup, fake_log.FakeLog(), f"{next(HOMES)}") for _ in range(2))
    tried.open()
    calm.open()
    for kind, value in steps:
        if kind == "restart":
            if value:
                tried.save()
            tried.close()
            tried.open()
        elif kind == "fail":
            fail(tried, [tried.payment(value + 100)])
            fail(tried, [tried.outcome(value)])
        else:
            event = calm.payment(value) if kind == "pay" else calm.outcome(value, is_fraud=kind == "fraud")
            assert answer_to(tried, event) == answer_to(calm, event)
    probe = [calm.payment(i) for i in range(200, 210)]
    assert [one.fraud_probability for one in tried.handle(probe)] == [
        one.fraud_probability for one in calm.handle(probe)
    ]
    assert features(tried) == features(calm)
    tried.assert_states_are_those_of_a_replay()
    tried.close()
    calm.close()


def answer_to(home, event):
    (answer,) = home.handle([event])
    if isinstance(answer, Decision):
        return (answer.fraud_probability, answer.features_state, answer.replayed)
    return str(answer)


def fail(home, batch):
    """The log refuses a batch that has something to write, after the features have moved on."""
    home.log.fence()
    try:
        home.handle(batch)
    except StorageProblem:
        home.recover()
    home.log._fenced = False  # when there was nothing to write


def refusing_disk(simulated_disk):
    """A disk that has all the data on its platters and says that it has not."""

    class Refusing(simulated_disk.SimulatedDisk):
        refuses = False

        def sync(self, inode):
            super().sync(inode)
            if self.refuses:
                raise OSError(errno.EIO, "Input/output error")

    return Refusing(1)


@pytest.mark.parametrize("power_is_cut", [False, True])
def test_a_failed_write_leaves_nothing(home_of, simulated_disk, lineup, power_is_cut):
    disk, folder = refusing_disk(simulated_disk), Path("/simulated/log")
    home = home_of(lineup, FileLog(folder, 1, disk, 1 << 20))
    home.open()
    home.pay(range(20))
    before, end = home.held(), home.log.durable
    for batch in [home.payment(n) for n in (30, 31)], [home.outcome(3)]:
        disk.refuses = True
        with pytest.raises(StorageProblem, match="Input/output error"):
            home.handle(batch)
        with pytest.raises(StorageProblem):
            home.handle([home.payment(40)])
        disk.refuses = False
        home.recover()
        assert home.log.durable == end + 1  # a heartbeat
        end = home.log.durable
        assert home.held() == before
    if power_is_cut:
        home.close()
        disk.cut_power()
        home._given = FileLog(folder, 1, disk, 1 << 20)
        home.open()
    assert [row.transaction_id for row in home.decisions()] == [f"t{i}" for i in range(20)]
    assert home.outcomes() == []
    assert [one.replayed for one in home.pay(range(28, 32))] == [False] * 4
    assert not home.handle([home.outcome(3)])[0].replayed
    home.assert_states_are_those_of_a_replay()


# snapshots


def snapshots(home):
    return sorted((home.folder / "snapshots").glob("*.npz"))


def test_a_state_from_a_snapshot_is_the_one_that_never_ended(home):
    home.pay(range(20))
    home.save()
    home.pay(range(10, 30))
    home.handle([home.outcome(3)])
    before = home.held()
    assert len(snapshots(home)) == 1
    home.reopen()
    assert home.held() == before
    home.assert_states_are_those_of_a_replay()


def test_a_damaged_snapshot_is_passed_over(home, caplog):
    home.pay(range(20))
    before = home.held()
    home.save()
    (snapshot,) = snapshots(home)
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 0xFF
    snapshot.write_bytes(bytes(data))
    home.reopen()
    assert "cannot be used" in caplog.text
    assert home.held() == before


def test_a_snapshot_of_another_log_is_passed_over(home):
    home.pay(range(20))
    home.save()
    home.close()
    shutil.rmtree(home.folder / "log")
    home.open()
    (answer,) = home.handle([home.payment(1)])
    assert not answer.replayed
    home.assert_states_are_those_of_a_replay()


def test_an_engine_saves_nothing(home):
    home.pay(range(25))
    home.close()
    assert snapshots(home) == []


# what comes late


def test_answers_wait_for_what_they_rest_on(home_of, fake_log, lineup):
    log = fake_log.FakeLog(delayed=True)
    home = home_of(lineup, log)
    home.open()
    decided = home.answered([home.payment(i) for i in range(3)])
    assert decided.durable_from == log.end > log.durable
    noted = home.answered([home.outcome(1)])
    assert noted.durable_from == log.end == decided.durable_from + 1
    home.answered([home.payment(5)])
    again = home.answered([home.payment(1), home.payment(1, amount=1.0)])
    assert again.answers[0].replayed
    assert again.durable_from == decided.durable_from - 1, "up to the one that is repeated"
    assert home.answered([home.outcome(1)]).durable_from == noted.durable_from
    mixed = home.answered([home.payment(0), home.payment(6)])
    assert mixed.durable_from == log.end


def test_what_comes_in_waits_for_nothing_that_it_does_not_rest_on(home):
    assert home.answered([home.payment(7, event_time=home.now_us + 2 * DAY_US)]).durable_from == 0


def test_a_machine_clock_that_goes_back_is_not_followed(home):
    home.pay([1])
    home.now_us -= DAY_US
    home.pay([2])
    first, second = home.decisions()
    assert first.received_us == second.received_us
    home.handle([home.outcome(1)])
    home.reopen()
    home.pay([3])
    home.assert_states_are_those_of_a_replay()
