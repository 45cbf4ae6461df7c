"""Sifting: what is new, what was decided before, what came twice, what cannot be; nothing is changed by it."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import Conflict, InvalidInput, SentinelError
from sentinel.events.columns import hash_texts
from sentinel.events.reference_tables.lookup import Lookup
from sentinel.events.reference_tables.versions import Tables
from sentinel.events.schema import Schema
from sentinel.events.times import FARTHEST_AHEAD_US
from sentinel.model.bundle import load_bundle
from sentinel.serve.batch import Arrivals, Decision
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.sift import Sieve

STORED = range(5)


@pytest.fixture(scope="module")
def lineup(shop_home):
    return Lineup(1, Contender(load_bundle(shop_home / "models" / "v1")))


@pytest.fixture
def home(home_of, fake_log, lineup):
    """One in which the transactions 0 to 4 are stored, two in one batch and three in another."""
    home = home_of(lineup, fake_log.FakeLog())
    home.open()
    home.pay(STORED[:2])
    home.pay(STORED[2:])
    return home


def sieve_of(schema):
    return Sieve(schema, Lookup(schema, Tables()))


def sift(home, events):
    arrivals = Arrivals(events, list(range(len(events))), [100 + n for n in range(len(events))])
    return sieve_of(home.engine.schema).sift(arrivals, home.engine.journal, home.now_us)


def decision(transaction_id):
    return Decision(
        transaction_id, "approve", 0.5, 0.5, None, "v1", "shop", "fresh", 1, 1, False, None, "closed", None, "model"
    )


def told(sifted):
    """What all are told, once each of the batch has an answer."""
    sifted.batch.answers = [decision(one) for one in sifted.batch.ids]
    return sifted.answered().answers


def test_when_all_are_new_the_batch_is_what_came(home):
    events = [home.payment(10), home.payment(11)]
    sifted = sift(home, events)
    batch = sifted.batch
    assert (batch.events, list(batch.ids)) == (events, ["t10", "t11"])
    assert batch.hashes.tolist() == hash_texts(["t10", "t11"]).tolist()
    assert [home.engine.schema.restore(one) for one in batch.contents] == events
    assert (list(batch.received_ns), list(batch.due_ns)) == ([0, 1], [100, 101])
    assert [one.transaction_id for one in told(sifted)] == ["t10", "t11"]
    assert sifted.durable_from == 0


def test_each_column_of_what_is_new_belongs_to_its_transaction(home):
    batch = sift(home, [home.payment(0), home.payment(10), home.payment(3), home.payment(11)]).batch
    assert list(batch.ids) == ["t10", "t11"]
    assert batch.hashes.tolist() == hash_texts(["t10", "t11"]).tolist()
    assert [home.engine.schema.restore(one) for one in batch.contents] == [home.payment(10), home.payment(11)]
    assert (list(batch.received_ns), list(batch.due_ns)) == ([1, 3], [101, 103])


def test_what_was_decided_before_keeps_its_answer_and_waits_for_the_newest_of_them(home):
    rows = {row.transaction_id: row for row in home.decisions()}
    sifted = sift(home, [home.payment(3), home.payment(0)])
    assert len(sifted.batch) == 0
    answers = told(sifted)
    assert [(one.transaction_id, one.replayed) for one in answers] == [("t3", True), ("t0", True)]
    assert [one.fraud_probability for one in answers] == [rows["t3"].fraud_probability, rows["t0"].fraud_probability]
    assert [one.batch_size for one in answers] == [3, 2]
    assert sifted.durable_from == rows["t3"].position + 1


def test_other_content_is_a_conflict_with_what_is_stored_and_with_what_came_first(home):
    events = [home.payment(0, amount=1.0), home.payment(10), home.payment(10, amount=1.0), home.payment(10)]
    sifted = sift(home, events)
    assert list(sifted.batch.ids) == ["t10"]
    answers = told(sifted)
    assert [type(one) for one in answers] == [Conflict, Decision, Conflict, Decision]
    assert [answers[1].replayed, answers[3].replayed] == [False, True]


def test_what_is_personal_may_be_sealed_otherwise_when_it_comes_twice(home):
    """The subject was erased in between: the second is sealed with another key, and is the same all the same."""
    schema = Schema(
        id="transaction_id", time="event_time", amount="amount", keys=("card", "channel"), personal={"channel": "card"}
    )
    sealed = schema.sealed["channel"]
    payment = {"transaction_id": "t10", "event_time": home.now_us, "amount": 1.5, "card": "c", "channel": "x"}
    events = [schema.decode(json.dumps(payment | {sealed: text, "card": card}).encode())
              for text, card in (("before", "c"), ("after", "c"), ("after", "d"))]  # fmt: skip
    arrivals = Arrivals(events, [0] * 3, [100] * 3)
    answers = told(sieve_of(schema).sift(arrivals, home.engine.journal, home.now_us))
    assert [type(one) for one in answers] == [Decision, Decision, Conflict]
    assert answers[1].replayed


def test_what_came_without_a_time_is_asked_again_without_one(home):
    """It has the time of its first arrival, which whoever repeats it does not know."""
    schema = Schema(keys=("card",), optional=("event_time",))

    def asked(**changes):
        return schema.decode(json.dumps({"transaction_id": "t10", "amount": 1.5, "card": "c"} | changes).encode())

    events = [asked(), asked(), asked(amount=1.51), asked(event_time=home.now_us), asked(event_time=home.now_us - 1)]
    sifted = sieve_of(schema).sift(Arrivals(events, [0] * 5, [100] * 5), home.engine.journal, home.now_us)
    assert [one.event_time for one in sifted.batch.events] == [home.now_us]
    assert [type(one) for one in told(sifted)] == [Decision, Decision, Conflict, Decision, Conflict]


TWINS = [("order-00044490-0000000000", "liH9wXJC"), ("order-00078591-0000000000", "bsrjb9Eg")]
"""Ids with one hash: it has no key, so whoever knows one id can make the other."""


def test_an_id_with_the_hash_of_another_one_is_refused_for_ever(home):
    (one, other), (late, later) = TWINS
    assert hash_texts([one, late]).tolist() == hash_texts([other, later]).tolist()
    home.answered([home.payment(20, transaction_id=one, card="a")])
    for events in (
        [home.payment(21, transaction_id=other)],
        [home.payment(20, transaction_id=one, card="a"), home.payment(21, transaction_id=other)],
        [home.payment(21, transaction_id=other), home.payment(10)],
        [home.payment(22, transaction_id=late), home.payment(21, transaction_id=later), home.payment(21, transaction_id=other)],
    ):  # fmt: skip
        sifted = sift(home, events)
        answers = {event.transaction_id: answer for event, answer in zip(events, told(sifted), strict=True)}
        refused = {name for name, answer in answers.items() if isinstance(answer, Conflict)}
        assert refused == {name for name in answers if name in (other, later)}
        assert "64-bit hash" in str(answers[other])


def test_a_time_is_too_early_from_more_than_a_day_ahead_on(home):
    last_us = home.now_us + FARTHEST_AHEAD_US
    sifted = sift(home, [home.payment(10, event_time=last_us), home.payment(11, event_time=last_us + 1)])
    assert list(sifted.batch.ids) == ["t10"]
    _, error = told(sifted)
    assert isinstance(error, InvalidInput)
    assert error.path == "$.event_time"
    assert "at most a day ahead" in str(error)


def test_a_repeat_of_one_that_was_too_early_is_decided_when_it_is_right(home):
    wrong = home.payment(10, event_time=home.now_us + FARTHEST_AHEAD_US + 1)
    answers = told(sift(home, [wrong, home.payment(10), wrong]))
    assert [type(one) for one in answers] == [InvalidInput, Decision, Conflict]


def test_who_is_forgotten_by_the_steps_that_follow_is_told_so(home):
    """A place without an answer would shift the answers of all others."""
    sifted = sift(home, [home.payment(0), home.payment(10)])
    with pytest.raises(ValueError, match="shorter"):
        sifted.answered()


events = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["same", "other", "too early"])), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events)
def test_every_place_has_the_answer_to_its_own_transaction(home, asked):
    changes = {"same": {}, "other": {"amount": 1.0}, "too early": {"event_time": home.now_us + FARTHEST_AHEAD_US + 1}}
    before = len(home.log.records)
    sifted = sift(home, [home.payment(i, **changes[how]) for i, how in asked])
    answers = told(sifted)
    first = dict.fromkeys(STORED, "same")  # by number, with which content it was decided
    for (i, how), answer in zip(asked, answers, strict=True):
        if i not in first and how == "too early":
            assert isinstance(answer, InvalidInput)
        elif first.setdefault(i, how) != how:
            assert isinstance(answer, Conflict)
        else:
            assert answer.transaction_id == f"t{i}"
    assert not any(type(one) is SentinelError for one in answers)
    assert len(set(sifted.batch.ids)) == len(sifted.batch) == len(np.unique(sifted.batch.hashes))
    assert len(home.log.records) == before
