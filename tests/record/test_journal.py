"""The journal finds what was written, at once and by id, and nothing else."""

import contextlib
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import StorageProblem
from sentinel.events.columns import hash_text, hash_texts
from sentinel.record.entries import decided_in, outcome_keys, outcomes_in
from sentinel.record.feature_state import activation_of
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal


class Writing:
    """A journal over a log, and what to write into it."""

    def __init__(self, folder, log, made):
        self.log, self._made = log, made
        self.journal = Journal(log, IdIndex(folder, log))

    def decide(self, *names, **changes):
        body = decided_in(self._made.decided_record(1, [{"id": name, **changes} for name in names]))
        return self.journal.append_decided(body, hash_texts(names), now_us=7)

    def learn(self, *told):
        names = [name for name, _ in told]
        rows = [
            {"id": name, "is_fraud": is_fraud, "about": self.journal.position_of(name, hash_text(name))}
            for name, is_fraud in told
        ]
        body = outcomes_in(self._made.outcomes_record(1, rows))
        return self.journal.append_outcomes(body, hash_texts(names), now_us=7)

    def find(self, *names):
        return self.journal.find(names, hash_texts(names))

    def outcomes_of(self, name):
        return [(one.position, one.is_fraud) for one in self.journal.outcomes_of(name, hash_text(name))]

    def position_of(self, name):
        return self.journal.position_of(name, hash_text(name))


@pytest.fixture
def write_to(tmp_path, made):
    """Opens journals over a log; they end with the test."""
    with contextlib.ExitStack() as opened:

        def open_one(log, folder="ids"):
            writing = Writing(tmp_path / folder, log, made)
            opened.callback(writing.journal.close)
            return writing

        yield open_one


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog()


@pytest.fixture
def writing(write_to, log):
    return write_to(log)


def test_what_was_decided_is_found_by_its_id(writing):
    assert writing.decide("a", "b", amount=2.5, action="block", score=0.75) == 1
    assert writing.decide("c", late=True) == 3
    found = writing.find("c", "b", "nobody")
    assert found.keys() == {"b", "c"}
    row = found["b"]
    assert (row.position, row.transaction_id, row.decision, row.fraud_probability) == (2, "b", "block", 0.75)
    assert (row.batch_size, row.received_us, row.late, row.decider.model_version) == (2, 7, False, "v1")
    assert (found["c"].position, found["c"].late, found["c"].batch_size) == (3, True, 1)


def test_of_two_decisions_of_one_id_the_newest_is_meant(writing):
    """The first was forgotten when the second was made, and found again when ids were remembered for longer."""
    writing.decide("a", amount=1.0)
    newest = writing.decide("a", amount=2.0)
    assert writing.position_of("a") == newest
    (found,) = writing.find("a").values()
    assert found.position == newest


def test_where_the_hash_of_another_id_leads_is_not_what_was_asked_for(writing):
    writing.decide("a")
    assert writing.journal.find(["b"], hash_texts(["a"])) == {}


def test_an_outcome_is_found_by_its_transaction_and_is_no_decision(writing):
    writing.decide("a", "b")
    assert writing.learn(("b", True), ("a", False)) == 3
    writing.learn(("b", False))
    assert writing.outcomes_of("b") == [(3, True), (5, False)]
    assert writing.outcomes_of("a") == [(4, False)]
    assert writing.outcomes_of("nobody") == []
    assert [row.about for row in writing.journal.outcomes_of("b", hash_text("b"))] == [2, 2]
    assert (writing.position_of("a"), writing.position_of("b"), writing.position_of("nobody")) == (1, 2, None)


def test_ones_own_writes_are_found_before_they_are_durable(write_to, fake_log):
    log = fake_log.FakeLog(delayed=True)
    writing = write_to(log)
    writing.decide("a")
    writing.learn(("a", True))
    assert log.durable == 1
    assert (writing.find("a")["a"].position, writing.position_of("a"), writing.outcomes_of("a")) == (1, 1, [(2, True)])


def test_what_became_void_is_not_found_again(write_to, fake_log):
    log = fake_log.FakeLog(delayed=True)
    writing = write_to(log)
    writing.decide("a")
    log.advance()
    writing.decide("b")
    log.recover()
    after = write_to(log)
    assert after.find("a", "b").keys() == {"a"}
    assert after.decide("c") == 2
    assert after.find("b", "c").keys() == {"c"}


def test_what_could_not_be_written_is_not_there(writing, log):
    writing.decide("a")
    log.fail()
    with pytest.raises(StorageProblem):
        writing.decide("b")
    with pytest.raises(StorageProblem):
        writing.learn(("a", True))
    assert writing.find("a", "b").keys() == {"a"}
    assert writing.outcomes_of("a") == []


def test_an_activation_stands_and_a_heartbeat_says_nothing(writing, log):
    assert writing.journal.append_heartbeat(7) == 1
    assert activation_of(log, "state") is None
    writing.journal.activate("state", 1, 7)
    writing.decide("a")
    assert (activation_of(log, "state"), writing.position_of("a")) == (1, 3)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), st.lists(st.integers(0, 500), min_size=1, max_size=200, unique=True)),
        st.tuples(st.just("learn"), st.lists(st.tuples(st.integers(0, 500), st.booleans()), min_size=1, max_size=9)),
        st.tuples(st.just("open again")),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_journal_finds_what_a_dictionary_finds(write_to, fake_log, tmp_path_factory, steps):
    folder, log = tmp_path_factory.mktemp("ids"), fake_log.FakeLog()
    writing, decided, truths = write_to(log, folder), {}, {}
    for step, *given_ in steps:
        if step == "decide":
            names = [f"t{n}" for n in given_[0] if f"t{n}" not in decided]
            if names:
                begin = writing.decide(*names)
                decided |= {name: begin + n for n, name in enumerate(names)}
        elif step == "learn":
            told = [(f"t{n}", is_fraud) for n, is_fraud in given_[0] if f"t{n}" in decided]
            if told:
                begin = writing.learn(*told)
                for n, (name, is_fraud) in enumerate(told):
                    truths.setdefault(name, []).append((begin + n, is_fraud))
        else:
            writing = write_to(log, folder)
    asked = [f"t{n}" for n in range(501)]
    assert {name: row.position for name, row in writing.find(*asked).items()} == decided
    assert {name: found for name in asked if (found := writing.outcomes_of(name))} == truths


def test_many_may_look_while_one_writes(writing):
    """More records than are remembered, so that what is remembered changes all the time."""
    names = [f"t{n}" for n in range(300)]
    for name in names:
        writing.decide(name)
    interval, wrong = sys.getswitchinterval(), []
    sys.setswitchinterval(1e-6)

    def look(seed):
        try:
            for n in np.random.default_rng(seed).permutation(300):
                assert writing.find(names[n])[names[n]].position == n + 1
        except BaseException as error:  # noqa: BLE001 - whatever it is
            wrong.append(error)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(8)]
    try:
        for thread in threads:
            thread.start()
        for n in range(300):
            writing.decide(f"u{n}")
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_an_entry_with_the_hash_of_another_id_is_not_taken_for_it(writing):
    """Texts whose hashes are alike can be made on purpose."""
    home = writing
    home.decide("victim")
    assert home.journal.position_of("other", hash_text("victim")) is None
    assert home.journal.find(["other"], hash_texts(["victim"])) == {}
    home.learn(("victim", True))
    assert home.journal.outcomes_of("other", hash_text("victim")) == []
    colliding = outcome_keys(hash_texts(["victim"]))
    assert home.journal.find(["victim"], colliding) == {}
    assert home.journal.position_of("victim", colliding[0]) is None


def test_a_decision_is_found_by_its_position_when_its_id_is_forgotten(log, write_to):
    writing = write_to(log)
    writing.decide("a", "b")
    writing.learn(("a", True))
    writing.decide("c")
    writing.journal.forget_before(log.durable)
    assert writing.find("b") == {}
    assert writing.journal.decision_at(2, "b").transaction_id == "b"
    assert [writing.journal.decision_at(*asked) for asked in [(1, "b"), (3, "a"), (0, "b"), (99, "b")]] == [None] * 4
