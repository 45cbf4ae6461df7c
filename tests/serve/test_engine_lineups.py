"""The engine while its lineup changes under traffic: features and counts as if nothing had ever changed."""

import time

import msgspec
import numpy as np
import polars as pl
import pytest

from sentinel.errors import JournalProblem
from sentinel.events.files import history_of_frame
from sentinel.events.log import Outcome
from sentinel.events.replay import log_of_frame
from sentinel.model.registry import Registry
from sentinel.policy.breaker import BreakerSettings
from sentinel.policy.deployment import Deployment, Experiment
from sentinel.policy.experiment import variant_of
from sentinel.policy.fallback import Condition, Fallback, Rule
from sentinel.policy.judge import CIRCUIT_OPEN, FAILED, FALLBACK_ONLY, OVERLOADED, TOO_SLOW, Limits
from sentinel.policy.thresholds import Thresholds
from sentinel.record.journal import Journal
from sentinel.record.journal_reader import DecisionRow
from sentinel.record.snapshots import Snapshots
from sentinel.serve.decisions import Arrivals
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import load_lineup
from sentinel.telemetry.counters import Slot

NOW_US = 1_738_400_000_000_000  # after the history of v1, v2 and v4, before the end of that of v3
LATER = NOW_US + 10**12
STEP_US = 60_000_000
PATIENT = Limits(deadline_s=10.0)


class Home:
    """A folder in which engines come and go, and the lineup that its record would name."""

    def __init__(self, folder, models):
        self.folder = folder
        self.registry = Registry(models)
        self.deployment = Deployment().with_champion("v1")
        self.lineup = load_lineup(self.deployment, self.registry)
        self.engine = None
        self.open()

    def open(self, limits=PATIENT):
        journal = Journal(self.folder / "journal.db")
        self.engine = Engine(self.lineup, journal, Snapshots(self.folder / "snapshots"), NOW_US, limits)
        return self.engine

    def crash(self):
        """Go without a snapshot."""
        self.engine.judge.stop()
        self.engine.snapshots.close()
        self.engine.overflow.close()
        self.engine.journal.close()
        self.engine = None

    def close(self):
        self.engine.close()
        self.engine = None

    def reopen(self, limits=PATIENT):
        self.crash()
        return self.open(limits)

    def load(self, deployment):
        self.deployment = msgspec.structs.replace(deployment, revision=self.deployment.revision + 1)
        self.lineup = load_lineup(self.deployment, self.registry, self.lineup)
        return self.lineup

    def switch(self, deployment):
        lineup = self.load(deployment)
        self.engine.switch(lineup, self.engine.prepare(lineup), NOW_US)

    def bundle(self, variant="a"):
        return self.lineup.contender(variant).bundle

    def try_out(self, version, percent=50.0):
        trying = Experiment("spring", version, percent, "")
        self.switch(msgspec.structs.replace(self.deployment, experiment=trying))


@pytest.fixture
def home(tmp_path, four_models_home):
    home = Home(tmp_path, four_models_home / "models")
    yield home
    if home.engine:
        home.crash()


def payment(engine, i, **changes):
    fields = {"transaction_id": f"t{i}", "event_time": NOW_US + i * STEP_US, "amount": 5.25 + i * 37 % 290, "card": f"card-{i % 23}",
              "shop": f"shop-{i % 3}", "channel": ("web", "chip", None)[i % 3], "risk": 0.5 - i % 11}  # fmt: skip
    return engine.schema.wire_type(**fields | changes)


def outcome(i, *, is_fraud=True):
    return Outcome(f"t{i}", is_fraud, NOW_US + i * STEP_US)


def handle(engine, events, due_ns=2**62):
    now_ns = time.monotonic_ns()
    return engine.handle(Arrivals(events, [now_ns] * len(events), [due_ns] * len(events)), LATER)


def pay(home, numbers, at_once=7):
    """Payments in batches, and their answers."""
    numbers, answers = list(numbers), []
    for begin in range(0, len(numbers), at_once):
        answers += handle(home.engine, [payment(home.engine, i) for i in numbers[begin : begin + at_once]])
    return answers


def stored(home):
    rows = [row for page in home.engine.journal.events_after(0) for row in page]
    return [row for row in rows if isinstance(row, DecisionRow)]


def replayed(home, bundle, numbers):
    """The features of these payments from a file of them, in one go."""
    schema = bundle.manifest.plan.schema
    events = [payment(home.engine, i) for i in numbers]
    frame = pl.DataFrame([{name: getattr(event, name) for name in schema.fields} for event in events])
    rows = bundle.new_store().advance(log_of_frame(schema, history_of_frame(frame, schema).frame)).rows
    return [row.tobytes() for row in np.ascontiguousarray(rows)]


def scored(bundle, rows):
    """What the model says to stored features."""
    return [float(bundle.scorer.score(np.frombuffer(row.features)[np.newaxis])[0]) for row in rows]


# switches


def test_a_model_of_the_same_history_goes_on_with_the_same_state(home):
    pay(home, range(60))
    (state,) = home.engine.states.values()
    home.switch(home.deployment.with_champion("v2"))
    assert list(home.engine.states.values()) == [state]
    answers = pay(home, range(60, 120))
    assert {one.model_version for one in answers} == {"v2"}
    rows = stored(home)
    assert [row.features for row in rows] == replayed(home, home.bundle(), range(120))
    assert [row.fraud_probability for row in rows[60:]] == scored(home.bundle(), rows[60:])


def test_a_model_of_other_features_knows_what_the_journal_holds(home):
    pay(home, range(60))
    home.switch(home.deployment.with_champion("v4"))
    pay(home, range(60, 120))
    rows = stored(home)
    assert [row.features for row in rows[60:]] == replayed(home, home.bundle(), range(120))[60:]
    assert [row.fraud_probability for row in rows[60:]] == scored(home.bundle(), rows[60:])


def test_a_model_of_a_later_history_does_not_count_twice_what_it_learned_from(home):
    pay(home, range(60))
    home.switch(home.deployment.with_champion("v3"))
    assert home.bundle().manifest.history.last_us > NOW_US + 60 * STEP_US
    pay(home, range(60, 120))
    rows = stored(home)[60:]
    assert [row.features for row in rows] == replayed(home, home.bundle(), range(60, 120))
    home.reopen()
    pay(home, range(120, 130))
    assert [row.features for row in stored(home)[60:]] == replayed(home, home.bundle(), range(60, 130))


def test_payments_between_loading_and_switching_are_not_missed(home):
    pay(home, range(30))
    lineup = home.load(home.deployment.with_champion("v4"))
    fresh = home.engine.prepare(lineup)
    answers = pay(home, range(30, 60))
    assert {one.model_version for one in answers} == {"v1"}
    home.engine.switch(lineup, fresh, NOW_US)
    pay(home, range(60, 90))
    assert [row.features for row in stored(home)[60:]] == replayed(home, home.bundle(), range(90))[60:]


def test_payments_between_loading_and_switching_are_new_to_a_later_history(home):
    pay(home, range(30))
    lineup = home.load(home.deployment.with_champion("v3"))
    fresh = home.engine.prepare(lineup)
    pay(home, range(30, 60))
    home.engine.switch(lineup, fresh, NOW_US)
    for _ in range(2):
        pay(home, range(60, 90))
        home.reopen()
    assert [row.features for row in stored(home)[60:]] == replayed(home, home.bundle(), range(30, 90))[30:]


def test_there_and_back_again_is_as_never_having_left(home):
    order = ["v4", "v2", "v3", "v1", "v4", "v1"]
    for turn, version in enumerate(order):
        pay(home, range(turn * 20, turn * 20 + 20))
        home.switch(home.deployment.with_champion(version))
        if turn % 2:
            home.close()
            home.open()
    pay(home, range(120, 140))
    assert [row.model_version for row in stored(home)[::20]] == ["v1", *order]
    assert [row.features for row in stored(home)[120:]] == replayed(home, home.bundle(), range(140))[120:]
    assert len(home.engine.states) == 1


def test_outcomes_told_to_another_model_are_known_on_the_way_back(home):
    pay(home, range(60))
    home.switch(home.deployment.with_champion("v4"))
    handle(home.engine, [outcome(i, is_fraud=i % 4 == 0) for i in range(60)])
    home.switch(home.deployment.with_champion("v1"))
    probes = [payment(home.engine, i, event_time=NOW_US + 3 * 86_400_000_000 + i) for i in range(60, 66)]
    handle(home.engine, probes)
    state, journal = home.engine.states[home.bundle().state_id], home.engine.journal.page_after(0)
    events = [state.restore(row) for row in journal]
    rows = home.bundle().new_store().advance(state.log_of(events)).rows
    blind = (
        home.bundle().new_store().advance(state.log_of([one for one in events if not isinstance(one, Outcome)])).rows
    )
    assert (rows[-6:, -1] != blind[-6:, -1]).any()
    assert [row.features for row in stored(home)[-6:]] == [row.tobytes() for row in rows[-6:]]


def test_a_repeat_after_a_switch_gets_the_answer_of_its_time(home):
    (first,) = pay(home, [1])
    home.switch(home.deployment.with_champion("v2"))
    (again,) = pay(home, [1])
    assert again == msgspec.structs.replace(first, replayed=True)


def test_thresholds_of_the_record_decide_and_are_stored(home):
    home.switch(home.deployment.with_thresholds(Thresholds(0.0, 0.0), "a"))
    assert {one.decision for one in pay(home, range(10))} == {"block"}
    home.switch(home.deployment.with_thresholds(Thresholds(1.0, None), "a"))
    assert {one.decision for one in pay(home, range(10, 20))} == {"approve"}
    assert [(row.review_threshold, row.block_threshold) for row in stored(home)[::10]] == [(0.0, 0.0), (1.0, None)]


# experiments


@pytest.mark.parametrize("challenger", ["v2", "v4"])
def test_each_variant_is_decided_by_its_model_on_its_own_features(home, challenger):
    pay(home, range(40))
    home.try_out(challenger)
    answers = pay(home, range(40, 200))
    rows = stored(home)
    expected = {
        name: replayed(home, home.bundle(name), range(200)) for name in ("a", "b")
    }  # each state has seen every payment, whoever decided it
    for variant, version in (("a", "v1"), ("b", challenger)):
        mine = [n for n in range(40, 200) if rows[n].variant == variant]
        assert len(mine) > 30
        assert {(rows[n].model_version, rows[n].experiment) for n in mine} == {(version, "spring")}
        assert [rows[n].features for n in mine] == [expected[variant][n] for n in mine]
        assert [rows[n].fraud_probability for n in mine] == scored(home.bundle(variant), [rows[n] for n in mine])
    assert [one.variant for one in answers] == [row.variant for row in rows[40:]]
    assert {(row.variant, row.experiment) for row in rows[:40]} == {(None, None)}


def test_a_card_keeps_its_variant_through_restarts_and_a_wider_split(home):
    home.try_out("v2", 30.0)
    pay(home, range(60))
    home.reopen()
    pay(home, range(60, 120))
    home.try_out("v2", 70.0)
    pay(home, range(120, 200))
    for n, row in enumerate(stored(home)):
        assert row.variant == variant_of(f"card-{n % 23}", "spring", 30.0 if n < 120 else 70.0)


def test_each_variant_has_its_thresholds(home):
    home.try_out("v2")
    home.switch(home.deployment.with_thresholds(Thresholds(1.0, None), "a").with_thresholds(Thresholds(0.0, 0.0), "b"))
    answers = pay(home, range(60))
    assert {(one.variant, one.decision) for one in answers} == {("a", "approve"), ("b", "block")}


def assert_tallies_are_those_of_a_recount(home):
    before = [msgspec.to_builtins(one) for one in (home.engine.experiment.a, home.engine.experiment.b)]
    home.reopen()
    after = [msgspec.to_builtins(one) for one in (home.engine.experiment.a, home.engine.experiment.b)]
    assert [pytest.approx(one) for one in before] == after
    return before


def test_tallies_after_a_restart_are_those_before(home):
    pay(home, range(20))
    home.try_out("v2")
    home.switch(home.deployment.with_thresholds(Thresholds(0.02, 0.2), "b"))
    for i in range(20, 120):
        handle(home.engine, [payment(home.engine, i), *([outcome(i - 5, is_fraud=i % 3 == 0)] if i % 2 else [])])
    a, b = assert_tallies_are_those_of_a_recount(home)
    assert a["decisions"] + b["decisions"] == 100
    assert a["outcomes_known"] + b["outcomes_known"] == 48  # those of payments before the experiment are left out
    assert min(a["cost_sum"], b["cost_sum"]) > 0


@pytest.mark.parametrize(
    "batches",
    [
        [["pay"], ["fraud"], ["honest"]],
        [["pay"], ["fraud", "honest"]],
        [["pay"], ["fraud", "honest", "fraud"]],
        [["pay", "fraud", "honest"]],
        [["pay", "honest"], ["honest", "fraud"]],
        [["fraud", "pay"]],
        [["pay"], ["fraud"], ["fraud"], ["honest", "fraud"]],
    ],
    ids=lambda batches: " / ".join(" ".join(batch) for batch in batches),
)
def test_a_payment_counts_with_its_first_outcome_however_they_come(home, batches):
    home.try_out("v2")
    made = {"pay": payment(home.engine, 1), "fraud": outcome(1), "honest": outcome(1, is_fraud=False)}
    for batch in batches:
        handle(home.engine, [made[one] for one in batch])
    a, b = assert_tallies_are_those_of_a_recount(home)
    assert (a["decisions"] + b["decisions"], a["outcomes_known"] + b["outcomes_known"]) == (1, 1)
    first = next(one for batch in batches for one in batch if one != "pay")
    assert (a["missed_fraud"] + a["flagged_fraud"] + b["missed_fraud"] + b["flagged_fraud"]) == (first == "fraud")


def test_tallies_go_on_when_the_split_changes_and_begin_anew_with_another_experiment(home):
    home.try_out("v2", 50.0)
    pay(home, range(30))
    home.try_out("v2", 80.0)
    pay(home, range(30, 60))
    assert home.engine.experiment.a.decisions + home.engine.experiment.b.decisions == 60
    home.switch(msgspec.structs.replace(home.deployment, experiment=Experiment("summer", "v4", 50.0, "")))
    pay(home, range(60, 70))
    assert home.engine.experiment.a.decisions + home.engine.experiment.b.decisions == 10
    assert_tallies_are_those_of_a_recount(home)


def test_what_was_shed_leaves_the_experiment_as_a_recount_finds_it(home):
    home.try_out("v2")
    for i in range(40):
        (answer,) = handle(home.engine, [payment(home.engine, i)], 1 if i % 3 == 0 else 2**62)
        assert answer.degraded == (OVERLOADED if i % 3 == 0 else None)
        assert answer.variant in (None, variant_of(f"card-{i % 23}", "spring", 50.0))
    while home.engine.overflow:
        home.engine.catch_up()
    assert len(stored(home)) == 40
    assert_tallies_are_those_of_a_recount(home)


# failures


def refuse_once(engine, batch):
    """A disk that refuses one commit, after the features have moved on."""
    append = engine.journal.append

    def refuse(*_rows):
        raise JournalProblem("no space left on device")

    engine.journal.append = refuse
    try:
        with pytest.raises(JournalProblem):
            handle(engine, batch)
    finally:
        engine.journal.append = append


def test_a_failed_commit_leaves_no_trace_in_either_state(home):
    pay(home, range(30))
    home.try_out("v4")
    for i in range(30, 90):
        if i % 9 == 0:
            refuse_once(home.engine, [payment(home.engine, n) for n in (i, i + 500)])
        pay(home, [i])
    rows = stored(home)
    assert len(rows) == 90
    for variant in ("a", "b"):
        expected = replayed(home, home.bundle(variant), range(90))
        assert all(rows[n].features == expected[n] for n in range(30, 90) if rows[n].variant == variant)
    assert_tallies_are_those_of_a_recount(home)


def test_a_switch_right_after_a_failed_commit_leaves_no_trace_either(home):
    pay(home, range(30))
    refuse_once(home.engine, [payment(home.engine, 500), payment(home.engine, 501)])
    home.switch(home.deployment.with_champion("v2").with_experiment("v4").with_split(50.0))
    pay(home, range(30, 60))
    rows = stored(home)
    for variant in ("a", "b"):
        expected = replayed(home, home.bundle(variant), range(60))
        assert all(rows[n].features == expected[n] for n in range(30, 60) if rows[n].variant == variant)


RULES = Fallback(base=0.1, rules=(Rule((Condition("amount", ">", 100.0),), 0.5, "large"),), review_at=0.3, block_at=0.6)


def test_what_the_rules_decide_is_stored_with_their_score_and_the_reason(home):
    home.lineup.champion.fallback = RULES.compile(home.lineup.champion.names)
    engine = home.reopen(Limits(deadline_s=10.0, force_open=True))
    answers = pay(home, range(40))
    rows = stored(home)
    assert {(row.degraded, row.circuit) for row in rows} == {(CIRCUIT_OPEN, "open")}
    for i, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        large = 5.25 + i * 37 % 290 > 100
        assert (row.fraud_probability, row.decision) == ((0.6, "block") if large else (0.1, "approve"))
        assert (row.review_threshold, row.block_threshold, row.model_version) == (0.3, 0.6, "v1")
        assert (answer.fraud_probability, answer.degraded) == (row.fraud_probability, CIRCUIT_OPEN)
        assert answer.thresholds == Thresholds(0.3, 0.6)
    assert [row.features for row in rows] == replayed(home, home.bundle(), range(40))
    assert engine.counters._cells[Slot.SHED_BREAKER_OPEN] == 40
    (again,) = pay(home, [3])
    assert again == msgspec.structs.replace(answers[3], replayed=True)


class Moody:
    """The model of a bundle, which fails or is slow as it is told."""

    def __init__(self, scorer):
        self.scorer = scorer
        self.mood = "well"

    def score(self, rows):
        if self.mood == "broken":
            raise RuntimeError("out of sorts")
        if self.mood == "slow":
            time.sleep(0.2)
        return self.scorer.score(rows)


@pytest.mark.parametrize(("mood", "reason"), [("broken", FAILED), ("slow", TOO_SLOW)])
def test_a_model_that_fails_is_left_alone_and_asked_again_when_it_is_well(home, mood, reason):
    moody = home.lineup.champion.scorer = Moody(home.lineup.champion.scorer)
    breaker = BreakerSettings(open_s=0.3, probes=1)
    home.reopen(Limits(deadline_s=0.1, breaker=breaker))
    moody.mood = mood
    pay(home, range(4), at_once=1)
    moody.mood = "well"
    time.sleep(0.35)
    pay(home, range(4, 8), at_once=1)
    rows = stored(home)
    assert [row.degraded for row in rows] == [reason] * 3 + [CIRCUIT_OPEN] + [None] * 4
    assert [row.circuit for row in rows] == ["closed", "closed", "open", "open"] + ["closed"] * 4
    assert [row.features for row in rows] == replayed(home, home.bundle(), range(8))
    assert home.engine.counters._cells[Slot.BREAKER_OPENINGS] == 1


def test_failures_of_the_challenger_are_counted_against_it_and_the_champion_goes_on(home):
    home.try_out("v2")
    moody = home.lineup.challenger.scorer = Moody(home.lineup.challenger.scorer)
    moody.mood = "broken"
    pay(home, range(200), at_once=10)
    of = {name: {row.degraded for row in stored(home) if row.variant == name} for name in ("a", "b")}
    assert of == {"a": {None}, "b": {FAILED, CIRCUIT_OPEN}}
    assert home.engine.experiment.a.errors == 0
    assert_tallies_are_those_of_a_recount(home)


def test_the_rules_alone_ask_no_model(home):
    home.switch(msgspec.structs.replace(home.deployment, fallback_only=True))
    moody = home.lineup.champion.scorer = Moody(home.lineup.champion.scorer)
    moody.mood = "broken"
    pay(home, range(10))
    assert {(row.degraded, row.circuit) for row in stored(home)} == {(FALLBACK_ONLY, "closed")}
