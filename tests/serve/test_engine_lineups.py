"""The engine while its lineup changes under traffic: features and counts as if nothing had ever changed."""

import itertools
import time
from dataclasses import replace

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import StorageProblem
from sentinel.events.columns import Outcome
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.model.registry import Registry
from sentinel.policy.breaker import BreakerSettings
from sentinel.policy.deployment import Deployment, Experiment
from sentinel.policy.experiment import variant_of
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fallback import Fallback, Rule
from sentinel.policy.model_call import CIRCUIT_OPEN, FAILED, FALLBACK_ONLY, OVERLOADED, TOO_SLOW, Limits
from sentinel.policy.stand_ins import CompiledFailPolicy
from sentinel.policy.thresholds import Thresholds
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.review.experiment_tallies import ExperimentTallies
from sentinel.serve.engine import MOST_TO_FOLLOW
from sentinel.serve.lineup import Contender, load_lineup
from sentinel.telemetry.counters import Slot

DAY_US = 86_400_000_000
BEGAN_AT = "2025-01-31T00:00:00Z"


@pytest.fixture(scope="module")
def registry(four_models_home):
    return Registry(four_models_home / "models")


@pytest.fixture(scope="module")
def loaded(registry):
    """Every model once, so that no test waits for it."""
    return load_lineup(Deployment().with_champion("v1"), registry)


@pytest.fixture
def home(home_of, registry, loaded):
    return opened(home_of(loaded), registry)


def opened(home, registry):
    home.registry, home.deployment = registry, Deployment().with_champion("v1")
    home.open()
    return home


def load(home, deployment):
    home.deployment = msgspec.structs.replace(deployment, revision=home.deployment.revision + 1)
    home.lineup = load_lineup(home.deployment, home.registry, home.lineup)
    return home.lineup


def switch(home, deployment):
    lineup = load(home, deployment)
    home.engine.switch(lineup, home.engine.prepare(lineup), home.now_us)


def try_out(home, version, percent=50.0):
    trying = Experiment("spring", version, percent, BEGAN_AT)
    switch(home, msgspec.structs.replace(home.deployment, experiment=trying))


def bundle_of(home, variant="a"):
    return home.lineup.contender(variant).bundle


def replayed(home, bundle, numbers, received_us=None):
    """The features of these payments from a file of them, in one go."""
    schema = bundle.manifest.plan.schema
    events = [home.payment(i) for i in numbers]
    frame = pl.DataFrame([{name: getattr(event, name) for name in schema.fields} for event in events])
    events = columns_of_frame(schema, history_of_frame(frame, schema).frame)
    if received_us is not None:
        events = replace(events, received_us=np.full(len(events), received_us))
    rows = bundle.new_store().advance(events).rows
    return [row.tobytes() for row in np.ascontiguousarray(rows)]


def stored(home):
    """The features of all that is stored."""
    return [row.features.tobytes() for row in home.decisions()]


def scored(bundle, rows):
    """What the model says to stored features."""
    return [float(bundle.scorer.score(row.features[np.newaxis])[0]) for row in rows]


# switches


def test_a_model_of_the_same_history_goes_on_with_the_same_state(home):
    home.pay(range(60))
    (state,) = home.engine.states.values()
    switch(home, home.deployment.with_champion("v2"))
    assert list(home.engine.states.values()) == [state]
    answers = home.pay(range(60, 120))
    assert {one.model_version for one in answers} == {"v2"}
    assert stored(home) == replayed(home, bundle_of(home), range(120))
    rows = home.decisions()[60:]
    assert [row.fraud_probability for row in rows] == scored(bundle_of(home), rows)


def test_a_model_of_other_features_knows_what_the_log_holds(home):
    home.pay(range(60))
    switch(home, home.deployment.with_champion("v4"))
    home.pay(range(60, 120))
    assert stored(home)[60:] == replayed(home, bundle_of(home), range(120))[60:]
    rows = home.decisions()[60:]
    assert [row.fraud_probability for row in rows] == scored(bundle_of(home), rows)


def test_a_model_of_a_later_history_does_not_count_twice_what_it_learned_from(home):
    home.pay(range(60))
    switch(home, home.deployment.with_champion("v3"))
    assert bundle_of(home).manifest.history.last_us > home.now_us
    home.pay(range(60, 120))
    assert stored(home)[60:] == replayed(home, bundle_of(home), range(60, 120))
    home.reopen()
    home.pay(range(120, 130))
    assert stored(home)[60:] == replayed(home, bundle_of(home), range(60, 130))


def test_what_came_in_after_a_history_is_new_to_its_model_however_old_it_says_it_is(home):
    """Whether an entry belongs to a history is by the clock of its arrival, never by the time of the event."""
    home.pay(range(30))
    home.now_us += 20 * DAY_US  # after the history of v3
    home.pay(range(30, 60))
    switch(home, home.deployment.with_champion("v3"))
    assert home.payment(59).event_time < bundle_of(home).manifest.history.last_us < home.now_us
    home.pay(range(60, 90))
    assert stored(home)[60:] == replayed(home, bundle_of(home), range(30, 90), home.now_us)[30:]


def test_payments_between_loading_and_switching_are_not_missed(home):
    home.pay(range(30))
    lineup = load(home, home.deployment.with_champion("v4"))
    fresh = home.engine.prepare(lineup)
    answers = home.pay(range(30, 60))
    assert {one.model_version for one in answers} == {"v1"}
    home.engine.switch(lineup, fresh, home.now_us)
    home.pay(range(60, 90))
    assert stored(home)[60:] == replayed(home, bundle_of(home), range(90))[60:]


def test_a_state_of_which_most_is_forgotten_is_loaded_anew_and_goes_on_with_the_same_bits(home, monkeypatch):
    home.pay(range(200))
    assert home.engine.renew() == {}
    home.now_us += 200 * DAY_US
    home.pay(range(200, 230))
    (before,) = home.engine.states.values()
    home.save()
    monkeypatch.setattr(FeatureState, "is_wasteful", True)
    (after,) = home.engine.renew().values()
    home.engine.switch(home.engine.lineup, {after.id: after}, home.now_us)
    assert list(home.engine.states.values()) == [after]
    assert after.store.keys() < before.store.keys()
    home.pay(range(230, 260))
    home.assert_states_are_those_of_a_replay()


def test_payments_between_loading_and_switching_are_new_to_a_later_history(home):
    home.pay(range(30))
    lineup = load(home, home.deployment.with_champion("v3"))
    fresh = home.engine.prepare(lineup)
    home.pay(range(30, 60))
    home.engine.switch(lineup, fresh, home.now_us)
    for _ in range(2):
        home.pay(range(60, 90))
        home.reopen()
    assert stored(home)[60:] == replayed(home, bundle_of(home), range(30, 90))[30:]


def test_a_state_is_close_when_a_turn_is_enough_for_what_it_lacks(home):
    fresh = home.engine.prepare(load(home, home.deployment.with_champion("v4")))
    assert home.engine.is_close(fresh)
    home.pay(range(MOST_TO_FOLLOW + 10), at_once=256)
    assert not home.engine.is_close(fresh)
    for state in fresh.values():
        state.follow(home.log)
    assert home.engine.is_close(fresh)


def test_there_and_back_again_is_as_never_having_left(home):
    order = ["v4", "v2", "v3", "v1", "v4", "v1"]
    for turn, version in enumerate(order):
        home.pay(range(turn * 20, turn * 20 + 20))
        switch(home, home.deployment.with_champion(version))
        if turn % 2:
            home.close()
            home.open()
    home.pay(range(120, 140))
    assert [row.decider.model_version for row in home.decisions()[::20]] == ["v1", *order]
    assert stored(home)[120:] == replayed(home, bundle_of(home), range(140))[120:]
    assert len(home.engine.states) == 1
    home.assert_states_are_those_of_a_replay()


def test_outcomes_told_to_another_model_are_known_on_the_way_back(home):
    home.pay(range(60))
    switch(home, home.deployment.with_champion("v4"))
    home.handle([home.outcome(i, is_fraud=i % 4 == 0) for i in range(60)])
    switch(home, home.deployment.with_champion("v1"))
    home.assert_states_are_those_of_a_replay()
    blind = replayed(home, bundle_of(home), range(60))
    home.now_us += 3 * DAY_US  # what was known a day ago is what counts
    home.handle([home.payment(i, event_time=home.now_us + i) for i in range(60, 66)])
    fraud_rates = [row.features[-1] for row in home.decisions()]
    assert [np.frombuffer(row)[-1] for row in blind] == fraud_rates[:60]
    assert max(fraud_rates[60:]) > max(fraud_rates[:60])
    home.assert_states_are_those_of_a_replay()


def test_a_repeat_after_a_switch_gets_the_answer_of_its_time(home):
    (first,) = home.pay([1])
    switch(home, home.deployment.with_champion("v2"))
    (again,) = home.pay([1])
    assert again == msgspec.structs.replace(first, replayed=True)


def test_thresholds_of_the_deployment_decide_and_are_stored(home):
    switch(home, home.deployment.with_thresholds(Thresholds(0.0, 0.0), "a"))
    assert {one.decision for one in home.pay(range(10))} == {"block"}
    switch(home, home.deployment.with_thresholds(Thresholds(1.0, None), "a"))
    assert {one.decision for one in home.pay(range(10, 20))} == {"approve"}
    deciders = [row.decider for row in home.decisions()[::10]]
    assert [(one.review, one.block) for one in deciders] == [(0.0, 0.0), (1.0, None)]


# experiments


@pytest.mark.parametrize("challenger", ["v2", "v4"])
def test_each_variant_is_decided_by_its_model_on_its_own_features(home, challenger):
    home.pay(range(40))
    try_out(home, challenger)
    answers = home.pay(range(40, 200))
    rows = home.decisions()
    # each state has seen every payment, whoever decided it
    expected = {name: replayed(home, bundle_of(home, name), range(200)) for name in ("a", "b")}
    for variant, version in (("a", "v1"), ("b", challenger)):
        mine = [n for n in range(40, 200) if rows[n].decider.variant == variant]
        assert len(mine) > 30
        assert {(rows[n].decider.model_version, rows[n].decider.experiment) for n in mine} == {(version, "spring")}
        assert [rows[n].features.tobytes() for n in mine] == [expected[variant][n] for n in mine]
        assert [rows[n].fraud_probability for n in mine] == scored(bundle_of(home, variant), [rows[n] for n in mine])
    assert [one.variant for one in answers] == [row.decider.variant for row in rows[40:]]
    assert [one.fraud_probability for one in answers] == [row.fraud_probability for row in rows[40:]]
    assert {(row.decider.variant, row.decider.experiment) for row in rows[:40]} == {(None, None)}


def test_a_card_keeps_its_variant_through_restarts_and_a_wider_split(home):
    try_out(home, "v2", 30.0)
    home.pay(range(60))
    home.reopen()
    home.pay(range(60, 120))
    try_out(home, "v2", 70.0)
    home.pay(range(120, 200))
    for n, row in enumerate(home.decisions()):
        assert row.decider.variant == variant_of(f"card-{n % 23}", "spring", 30.0 if n < 120 else 70.0)


def test_a_card_keeps_its_variant_while_the_hash_key_is_rotated(home):
    try_out(home, "v2", 50.0)
    before = home.pay(range(23))
    rotated = [home.payment(100 + n, card=f"new {n}") for n in range(23)]
    for n, one in enumerate(rotated):
        one.hashed_before = {"card": f"card-{(100 + n) % 23}"}
    answers = home.handle(rotated)
    assert [one.variant for one in answers] == [before[(100 + n) % 23].variant for n in range(23)]


def test_each_variant_has_its_thresholds(home):
    try_out(home, "v2")
    switch(home, home.deployment.with_thresholds(Thresholds(1.0, None), "a").with_thresholds(Thresholds(0.0, 0.0), "b"))
    answers = home.pay(range(60))
    assert {(one.variant, one.decision) for one in answers} == {("a", "approve"), ("b", "block")}


def test_who_has_waited_too_long_keeps_the_variant_and_its_features(home):
    try_out(home, "v4")
    home.handle([home.payment(i) for i in range(120)], [1 if i % 3 == 0 else 2**62 for i in range(120)])
    expected = {name: replayed(home, bundle_of(home, name), range(120)) for name in ("a", "b")}
    for i, row in enumerate(home.decisions()):
        variant = variant_of(f"card-{i % 23}", "spring", 50.0)
        assert (row.transaction_id, row.decider.variant) == (f"t{i}", variant)
        assert row.decider.degraded == (OVERLOADED if i % 3 == 0 else None)
        assert row.features.tobytes() == expected[variant][i]
    home.engine.ledger.settle()
    assert home.counters.totals()[Slot.SHED_OVERLOAD] == 40


def test_an_outcome_of_an_unknown_transaction_changes_neither_state(home):
    home.pay(range(30))
    try_out(home, "v4")
    home.pay(range(30, 60))
    before = home.held()
    answers = home.handle([Outcome(name, True, home.now_us) for name in ("t77", "h1-5999", "h1-5990")])
    assert [one.known for one in answers] == [False, False, False]
    assert home.held() == before
    assert home.outcomes() == []


HOMES = itertools.count()

steps = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.lists(st.integers(0, 40), min_size=1, max_size=8)),
        st.tuples(st.just("learn"), st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=6)),
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.5, 3, 20])),
        st.tuples(st.just("restart"), st.booleans()),
    ),
    max_size=20,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_states_are_those_of_a_replay_in_whatever_batches_all_came(home_of, fake_log, registry, loaded, steps):
    together, alone = (opened(home_of(loaded, fake_log.FakeLog(), f"{next(HOMES)}"), registry) for _ in range(2))
    for home in together, alone:
        try_out(home, "v4")
    for kind, value in steps:
        if kind == "wait":
            together.now_us = alone.now_us = together.now_us + round(value * DAY_US)
        elif kind == "restart":
            if value:
                together.save()
            together.close()
            together.open()
        else:
            batch = [event_of(together, kind, one) for one in value]
            together.handle(batch)
            for event in batch:
                alone.handle([event])
    assert together.held() == alone.held()
    for home in together, alone:
        home.assert_states_are_those_of_a_replay()
        home.close()


def event_of(home, kind, value):
    """A payment, or an outcome; every third payment is older than what its card has paid before."""
    if kind == "learn":
        return home.outcome(value[0], is_fraud=value[1])
    return home.payment(value, event_time=home.now_us - value % 3 * 3_600_000_000 * 8)


# what an experiment has seen


class Counting:
    """The tallies of an experiment that follow a home from its beginning on."""

    def __init__(self, home):
        self.home = home
        self.tallies = self.begun()

    def begun(self):
        schema = bundle_of(self.home).manifest.plan.schema
        return ExperimentTallies(self.home.log, self.home.deployment.experiment, schema, 10.0, 5.0)

    def follow(self):
        while self.tallies.follow():
            pass

    def variants(self):
        """Both, equal to a recount of the log."""
        self.follow()
        before, self.tallies = self.tallies, self.begun()
        self.follow()
        for one, again in ((before.a, self.tallies.a), (before.b, self.tallies.b)):
            assert pytest.approx(msgspec.to_builtins(one)) == msgspec.to_builtins(again)
        return before.a, before.b


def test_an_experiment_is_counted_from_its_beginning_and_all_of_it(home):
    home.pay(range(20))
    try_out(home, "v2")
    counting = Counting(home)
    switch(home, home.deployment.with_thresholds(Thresholds(0.02, 0.2), "b"))
    for i in range(20, 120):
        home.pay([i])
        if i % 2:
            home.handle([home.outcome(i - 5, is_fraud=i % 3 == 0)])
        if i % 10 == 0:
            counting.follow()
    a, b = counting.variants()
    assert a.decisions + b.decisions == 100
    assert a.outcomes_known + b.outcomes_known == 48  # those of payments before the experiment are left out
    assert min(a.cost_sum, b.cost_sum) > 0


@pytest.mark.parametrize(
    "batches",
    [
        [["pay"], ["fraud"], ["honest"]],
        [["pay"], ["fraud", "honest"]],
        [["pay"], ["fraud", "honest", "fraud"]],
        [["pay", "pay"], ["honest"], ["honest", "fraud"]],
        [["fraud"], ["pay"], ["honest"], ["fraud"]],
        [["pay"], ["fraud"], ["pay"], ["fraud"], ["honest", "fraud"]],
    ],
    ids=lambda batches: " / ".join(" ".join(batch) for batch in batches),
)
def test_a_payment_counts_with_its_newest_outcome_however_they_come(home, batches):
    try_out(home, "v2")
    counting = Counting(home)
    made = {"pay": home.payment(1), "fraud": home.outcome(1), "honest": home.outcome(1, is_fraud=False)}
    for batch in batches:
        home.handle([made[one] for one in batch])
    a, b = counting.variants()
    assert (a.decisions + b.decisions, a.outcomes_known + b.outcomes_known) == (1, 1)
    paid = batches.index(next(batch for batch in batches if "pay" in batch))
    newest = [one for batch in batches[paid:] for one in batch if one != "pay"][-1]
    assert (a.missed_fraud + a.flagged_fraud + b.missed_fraud + b.flagged_fraud) == (newest == "fraud")


def test_tallies_go_on_when_the_split_changes_and_begin_anew_with_another_experiment(home):
    try_out(home, "v2", 50.0)
    counting = Counting(home)
    home.pay(range(30))
    try_out(home, "v2", 80.0)
    home.pay(range(30, 60))
    assert sum(one.decisions for one in counting.variants()) == 60
    switch(home, msgspec.structs.replace(home.deployment, experiment=Experiment("summer", "v4", 50.0, BEGAN_AT)))
    home.pay(range(60, 70))
    assert sum(one.decisions for one in Counting(home).variants()) == 10
    counting.follow()
    assert counting.tallies.a.decisions + counting.tallies.b.decisions == 60


# failures


def test_a_failed_write_leaves_no_trace_in_either_state(home_of, fake_log, registry, loaded):
    home = opened(home_of(loaded, fake_log.FakeLog()), registry)
    home.pay(range(30))
    try_out(home, "v4")
    for i in range(30, 90):
        if i % 9 == 0:
            home.log.fence()
            with pytest.raises(StorageProblem):
                home.handle([home.payment(n) for n in (i, i + 500)])
            home.recover()
        home.pay([i])
    rows = home.decisions()
    assert [row.transaction_id for row in rows] == [f"t{i}" for i in range(90)]
    for variant in ("a", "b"):
        expected = replayed(home, bundle_of(home, variant), range(90))
        assert all(
            rows[n].features.tobytes() == expected[n] for n in range(30, 90) if rows[n].decider.variant == variant
        )
    home.assert_states_are_those_of_a_replay()


def test_a_switch_that_cannot_be_written_changes_nothing(home_of, fake_log, registry, loaded):
    home = opened(home_of(loaded, fake_log.FakeLog()), registry)
    home.pay(range(30))
    before = home.engine.lineup
    lineup = load(home, home.deployment.with_champion("v4"))
    fresh = home.engine.prepare(lineup)
    home.log.fence()
    with pytest.raises(StorageProblem):
        home.engine.switch(lineup, fresh, home.now_us)
    assert home.engine.lineup is before
    assert activation_of(home.log, lineup.champion.bundle.state_id) is None
    home.log.recover()
    home.engine.switch(lineup, fresh, home.now_us)
    home.pay(range(30, 60))
    assert stored(home)[30:] == replayed(home, bundle_of(home), range(60))[30:]


RULES = Fallback(base=0.1, rules=(Rule("amount > 100.0", 0.5, "large"),), review_at=0.3, block_at=0.6)


def with_champion(home, **changes):
    """The lineup with a champion of its own, which has these attributes."""
    champion = Contender(bundle_of(home))
    for name, value in changes.items():
        setattr(champion, name, value)
    home.lineup = home.lineup._replace(champion=champion)
    return champion


def test_what_the_rules_decide_is_stored_with_their_score_and_the_reason(home):
    with_champion(home, on_fault=CompiledFailPolicy(FailPolicy(), RULES, home.lineup.champion.names))
    home.reopen(Limits(deadline_s=10.0, force_open=True))
    answers = home.pay(range(40))
    rows = home.decisions()
    assert {(row.decider.degraded, row.decider.circuit) for row in rows} == {(CIRCUIT_OPEN, "open")}
    for i, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        large = home.payment(i).amount > 100
        assert (row.fraud_probability, row.decision) == ((0.6, "block") if large else (0.1, "approve"))
        assert (row.decider.review, row.decider.block, row.decider.model_version) == (0.3, 0.6, "v1")
        assert (answer.fraud_probability, answer.degraded) == (row.fraud_probability, CIRCUIT_OPEN)
        assert answer.thresholds == Thresholds(0.3, 0.6)
    assert stored(home) == replayed(home, bundle_of(home), range(40))
    assert home.counters.totals()[Slot.SHED_BREAKER_OPEN] == 40
    (again,) = home.pay([3])
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
    moody = Moody(home.lineup.champion.scorer)
    with_champion(home, scorer=moody)
    breaker = BreakerSettings(open_s=0.3, probes=1)
    home.reopen(Limits(deadline_s=0.1, breaker=breaker))
    moody.mood = mood
    home.pay(range(4), at_once=1)
    moody.mood = "well"
    time.sleep(0.35)
    home.pay(range(4, 8), at_once=1)
    deciders = [row.decider for row in home.decisions()]
    assert [one.degraded for one in deciders] == [reason] * 3 + [CIRCUIT_OPEN] + [None] * 4
    assert [one.circuit for one in deciders] == ["closed", "closed", "open", "open"] + ["closed"] * 4
    assert stored(home) == replayed(home, bundle_of(home), range(8))
    assert home.counters.totals()[Slot.BREAKER_OPENINGS] == 1


def test_failures_of_the_challenger_are_counted_against_it_and_the_champion_goes_on(home):
    try_out(home, "v2")
    counting = Counting(home)
    moody = home.lineup.challenger.scorer = Moody(home.lineup.challenger.scorer)
    moody.mood = "broken"
    home.pay(range(200), at_once=10)
    deciders = [row.decider for row in home.decisions()]
    of = {name: {one.degraded for one in deciders if one.variant == name} for name in ("a", "b")}
    assert of == {"a": {None}, "b": {FAILED, CIRCUIT_OPEN}}
    a, b = counting.variants()
    assert (a.errors, b.errors) == (0, b.decisions)


def test_the_rules_alone_ask_no_model(home):
    moody = with_champion(home, scorer=Moody(home.lineup.champion.scorer)).scorer
    moody.mood = "broken"
    home.lineup = home.lineup._replace(fallback_only=True)
    home.reopen()
    home.pay(range(10))
    deciders = {row.decider for row in home.decisions()}
    assert {(one.degraded, one.circuit) for one in deciders} == {(FALLBACK_ONLY, "closed")}
