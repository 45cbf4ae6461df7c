"""What fronts have answered is the decision; beside it the log has what exact features call for, bit for bit."""

import time

import msgspec
import numpy as np
import pytest

from sentinel.errors import Conflict, InvalidInput
from sentinel.model.bundle import load_bundle
from sentinel.policy.thresholds import Thresholds
from sentinel.record.entries import Decided, body_of, decided_in, decision_rows, with_exact
from sentinel.record.log import Kind
from sentinel.serve.batch import Arrivals, Given, GivenDecision
from sentinel.serve.lineup import Contender, Lineup
from sentinel.transport.kafka.contents import check_fits
from tests.serve.conftest import NEVER_NS

WIDTH = 12


@pytest.fixture
def open_home(home_of, shop_home):
    def make(folder="home"):
        home = home_of(Lineup(4, Contender(load_bundle(shop_home / "models" / "v1"))), folder=folder)
        home.open()
        return home

    return make


def given(name, decision="review", rng=None, **changes):
    rng = rng or np.random.default_rng(len(name))
    usual = {
        "transaction_id": name, "decision": decision, "fraud_probability": float(rng.random()), "threshold": 0.25,
        "thresholds": Thresholds(0.25, 0.75), "model_version": "v1", "detector": "shop", "features_state": "as_of",
        "batch_size": 3, "latency_us": 4_321, "replayed": False, "degraded": None, "circuit_breaker_state": "closed",
        "variant": None, "decided_by": "model", "profiles_age_ms": 17.5,
    }  # fmt: skip
    features = [None if rng.random() < 0.2 else float(rng.normal()) for _ in range(WIDTH)]
    return Given(GivenDecision(**usual | changes), features, revision=3)


def decide(home, events, answers):
    n = len(events)
    arrivals = Arrivals(events, [time.monotonic_ns()] * n, [NEVER_NS] * n, answers)
    return home.engine.decide(arrivals, home.now_us).answers


def decided(home):
    return [(one, decided_in(one)) for one in home.records() if one.kind == Kind.DECIDED]


def test_what_was_given_is_the_decision_and_exact_is_what_is_decided_without_it(open_home):
    home, twin, rng = open_home(), open_home("twin"), np.random.default_rng(5)
    for begin in range(0, 200, 20):
        places = sorted(rng.choice(20, rng.integers(1, 21), replace=False).tolist())
        names = [f"t{begin + n}" for n in range(20)]
        kinds = [
            {"decision": "block", "would_be": "review", "rules": ("large",)}, {"decision": "approve"},
            {"degraded": "profiles unavailable", "decided_by": "rules", "profiles_age_ms": None},
            {"thresholds": Thresholds(0.1, None, 0.05)},
        ]  # fmt: skip
        answers = {n: given(names[n], rng=rng, **kinds[rng.integers(4)]) for n in places}
        found = decide(home, [home.payment(begin + n) for n in range(20)], answers)
        decide(twin, [twin.payment(begin + n) for n in range(20)], {})
        assert all(found[n] == one.answer for n, one in answers.items())
        record, stored = decided(home)[-1]
        _, alone = decided(twin)[-1]
        rows, exact = decision_rows(record), decision_rows(record, with_exact(stored))
        for n, (row, without, other) in enumerate(zip(rows, exact, decision_rows(record, alone), strict=True)):
            assert (without.fraud_probability, without.decision) == (other.fraud_probability, other.decision)
            assert without.features.tobytes() == other.features.tobytes() == row.exact_features.tobytes()
            assert (without.decider, row.late) == (other.decider, other.late)
            if n not in answers:
                assert row.exact is None
                assert row.features.tobytes() == other.features.tobytes()
                continue
            answer = answers[n].answer
            assert (row.decision, row.fraud_probability) == (answer.decision, answer.fraud_probability)
            assert (row.exact.decision, row.exact.fraud_probability) == (other.decision, other.fraud_probability)
            assert (row.exact.profiles_age_ms, row.revision, row.exact.revision) == (answer.profiles_age_ms, 3, 4)
            assert [None if np.isnan(one) else one for one in row.features] == answers[n].features
            assert (row.decider.degraded, row.decider.decided_by) == (answer.degraded, answer.decided_by)
            assert row.latency_us == 4_321
    home.assert_states_are_those_of_a_replay()
    assert home.held() == twin.held()


def test_it_is_repeated_as_it_was_given_also_after_a_start(open_home):
    home = open_home()
    first = given("t1", "block", would_be="review", rules=("large",))
    without = given(
        "t2", profiles_age_ms=None, degraded="profiles unavailable", features_state="none", decided_by="rules"
    )
    decide(home, [home.payment(1), home.payment(2), home.payment(3)], {0: first, 1: without})
    home.reopen()
    again = decide(home, [home.payment(n) for n in (1, 2, 3)], {})
    for answer, one in zip(again, (first, without), strict=False):
        told = msgspec.structs.replace(one.answer, replayed=True, batch_size=3)
        assert msgspec.to_builtins(answer) == msgspec.to_builtins(told)
    assert not isinstance(again[2], GivenDecision)


def test_the_first_answer_of_an_id_holds_and_another_one_is_told(open_home):
    home = open_home()
    block, review, other = given("t1", "block"), given("t1", "review"), given("t2", "challenge")
    events = [home.payment(1), home.payment(1), home.payment(1), home.payment(1, amount=99.0)]
    answers = decide(home, events, {0: block, 1: review, 2: block, 3: block})
    assert answers[0] == block.answer
    assert answers[2] == msgspec.structs.replace(block.answer, replayed=True)
    assert [type(answers[n]) for n in (1, 3)] == [Conflict, Conflict]
    assert "block holds" in str(answers[1])
    assert "other content" in str(answers[3])
    decide(home, [home.payment(2)], {})  # over HTTP, by nobody's answer
    [own] = decide(home, [home.payment(2)], {})
    [said] = decide(home, [home.payment(2)], {0: other})
    assert f"{own.decision} holds" in str(said)
    [same] = decide(home, [home.payment(2)], {0: given("t2", own.decision)})
    assert same == own
    assert [row.decision for row in home.decisions()] == ["block", own.decision]


def test_a_log_from_before_there_were_fronts_is_read(open_home):
    home = open_home()
    home.pay(range(5))
    record, stored = decided(home)[-1]
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(body_of(stored))[: Decided.__struct_fields__.index("exact")])
    rows = decision_rows(record._replace(body=older))
    assert [row.exact for row in rows] == [None] * 5
    assert with_exact(stored) is stored


def test_features_that_a_model_cannot_have_had_are_refused(open_home):
    home, said = open_home(), given("t1")
    check_fits(home.engine, said)
    check_fits(home.engine, msgspec.structs.replace(given("t1", model_version="v9"), features=[1.0]))
    for features in ([1.0], [1.0] * (WIDTH + 1)):
        with pytest.raises(InvalidInput, match="Expected the 12 features of v1"):
            check_fits(home.engine, msgspec.structs.replace(said, features=features))
