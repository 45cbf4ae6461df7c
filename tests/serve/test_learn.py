"""Outcomes of transactions that were never decided here: kept for the next training, bounded, and taken back."""

import numpy as np
import pytest

from sentinel.errors import Conflict
from sentinel.events.columns import Outcome, hash_text
from sentinel.model.bundle import load_bundle
from sentinel.record.entries import NO_DECISION, Revocation, outcome_rows
from sentinel.record.known_outcomes import KnownOutcomes, Truth
from sentinel.record.log import Kind
from sentinel.serve import learn
from sentinel.serve.batch import Noted
from sentinel.serve.lineup import Contender, Lineup


@pytest.fixture(scope="module")
def lineup(shop_home):
    return Lineup(1, Contender(load_bundle(shop_home / "models" / "v1")))


@pytest.fixture
def home(home_of, lineup):
    home = home_of(lineup)
    home.open()
    return home


def told(name, *, is_fraud=True, by="bank-7", at=5):
    return Outcome(name, is_fraud, at, "bank", by)


def unmatched(home):
    return [row for one in home.records() if one.kind == Kind.UNMATCHED for row in outcome_rows(one)]


def known_of(home):
    known = KnownOutcomes(lambda source: source == "bank")
    for record in home.records():
        known.take(record)
    return known


def test_they_are_entries_of_the_log_that_change_no_state_and_repeat_themselves(home):
    home.pay(range(3))
    before = home.held()
    answers = home.handle([told("old"), told("old"), told("old", is_fraud=False), told("older", by="other")])
    assert [(one.known, one.replayed) for one in answers] == [
        (False, False),
        (False, True),
        (False, False),
        (False, False),
    ]
    assert home.held() == before
    assert [(row.transaction_id, row.is_fraud, row.about) for row in unmatched(home)] == [
        ("old", True, NO_DECISION), ("old", False, NO_DECISION), ("older", True, NO_DECISION),
    ]  # fmt: skip
    assert home.outcomes() == []
    home.reopen()
    assert home.handle([told("old", is_fraud=False)])[0].replayed
    home.assert_states_are_those_of_a_replay()


def test_an_outcome_that_came_before_its_transaction_is_of_it_in_the_next_history(home):
    assert not home.handle([told("t1")])[0].known
    home.pay([1])
    assert home.handle([told("t1")]) == [Noted("t1", True, replayed=False)], "it is news now that it is about something"
    assert known_of(home).truth_of_id("t1") == Truth(1, 5, "bank")


def test_of_one_key_so_many_are_kept_and_a_restart_knows_how_many_there_were(home, monkeypatch):
    monkeypatch.setattr(learn, "MOST_UNMATCHED", 3)
    assert all(isinstance(one, Noted) for one in home.handle([told(f"o{n}") for n in range(2)]))
    home.reopen()
    answers = home.handle([told(f"o{n}") for n in range(2, 5)] + [told("o9", by="other")])
    assert [type(one) for one in answers] == [Noted, Conflict, Conflict, Noted]
    assert "no more are kept" in str(answers[1])
    assert len(unmatched(home)) == 4


def test_they_are_taken_back_as_others_are_and_features_hear_nothing_of_it(home):
    home.pay(range(3))
    home.handle([told("old"), told("older"), told("old", by="other", is_fraud=False)])
    before = home.held()
    engine = home.engine
    revocation = Revocation("bank-7", "it was wrong", 0, 2**62, home.log.durable)
    rows = [row for row in unmatched(home) if revocation.covers(row)]
    taken = engine.revoke(revocation, rows, home.now_us)
    assert (taken.outcomes, taken.transactions) == (2, 2)
    assert home.held() == before
    known = known_of(home)
    assert known.truth_of_id("older") is None
    assert known.truth_of_id("old") == Truth(0, 5, "bank")
    stored = engine.journal.outcomes_of("older", np.uint64(hash_text("older")))
    assert [row.revoked_at is None for row in stored] == [False]
    assert engine.revoke(revocation, rows, home.now_us).entry is None, "nothing is left to take back"
    assert not home.handle([told("older")])[0].replayed
