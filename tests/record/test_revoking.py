"""Outcomes that are taken back: from then on all is as if corrected, to the last bit, and what was decided stays."""

import contextlib
import importlib.util
import itertools
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import Conflict
from sentinel.events.columns import OPERATOR, Outcome, hash_text, hash_texts
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.record.entries import Decided, Decider, Revocation, outcome_rows
from sentinel.record.feature_state import FeatureState
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.log import Follower, Kind
from sentinel.record.revoking import revoke_step, taken_back
from sentinel.record.snapshots import Snapshots
from sentinel.serve.batch import Arrivals, Noted
from sentinel.serve.learn import MOST_OF_ONE, new_outcomes_in

DECIDER = Decider("v1", "state", 0, 0.5, None, "closed")
SCHEMA = Schema(keys=("card",), max_late="1h")
FEATURES = (
    f.fraud_count(by="card", over="1m", delay="2s"),
    f.fraud_rate(by="card", over="10s", delay="1s"),
    f.count(by="card", over="1m"),
)
ALL_TIME = (0, 2**62)
SECOND_US = 1_000_000


def oracle_replay(plan, events):
    path = Path(__file__).parents[1] / "features" / "oracle.py"
    spec = importlib.util.spec_from_file_location("oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.replay(plan, events)


class Shop:
    """A log with its journal and the state of one plan, used as the engine uses them; and what an oracle needs."""

    def __init__(self, log, folder, trusts=None):
        self.log, self.folder = log, Path(folder)
        self.journal = Journal(log, IdIndex(self.folder / "ids", log))
        self.plan = FeaturePlan(SCHEMA, FEATURES, **({} if trusts is None else {"trusts": trusts}))
        self.state = self.fresh_state()
        self.us, self.paid, self.rows = 1_750_000_000_000_000, 0, []
        self.events, self.told = [], []
        self.state.load(log, self.snapshots)

    @property
    def snapshots(self):
        return Snapshots(self.folder / "snapshots")

    def fresh_state(self):
        manifest = SimpleNamespace(plan=self.plan, version="v1", plan_sha256="plan")
        bundle = SimpleNamespace(state_id="state", manifest=manifest, new_store=lambda: MemoryStore(self.plan))
        return FeatureState(bundle, 1)

    def pay(self, card="c", name=None):
        self.us += SECOND_US
        if name is None:
            name = f"t{self.paid}"
            self.paid += 1
        one = SCHEMA.wire_type(transaction_id=name, event_time=self.us, amount=1.0, card=card)
        features = self.state.advance([one], self.us)
        self.rows.append(features.rows[0].tolist())
        body = Decided(
            schema_id="", revision=1, detector="shop", deciders=(DECIDER,), by=bytes(1), ids=[name],
            hashes=hash_texts([name]).tobytes(), contents=[SCHEMA.encode(one)], features=(b"",),
            scores=bytes(8), levels=bytes(1), late=bytes(1), latencies_us=bytes(4),
        )  # fmt: skip
        self.state.position = self.journal.append_decided(body, hash_texts([name]), self.us) + 1
        self.events.append({"id": name, "time": self.us, "received": self.us, "amount": 1.0, "card": card})

    def tell(self, n, is_fraud=True, told_by=OPERATOR, source=None):
        """The answer to an outcome of transaction n."""
        self.us += SECOND_US
        outcome = Outcome(f"t{n}", is_fraud, self.us, source or told_by, told_by, "because")
        new = new_outcomes_in(Arrivals([outcome], [0], [0]), self.journal)
        if new.matched.outcomes:
            self.state.position = self.journal.append_outcomes(new.matched.entry(), new.matched.hashes, self.us) + 1
            self.state.learn(new.matched.outcomes, self.us)
            self.told.append(SimpleNamespace(n=n, says=is_fraud, by=told_by, source=outcome.source, us=self.us))
            if self.plan.is_trusted(outcome.source):
                self.events.append({"outcome": f"t{n}", "fraud": is_fraud})
        return new.answers[0]

    def revoke(self, told_by=OPERATOR, span=ALL_TIME, *, dry_run=False):
        """All steps of a revocation; what they have done together."""
        revocation = Revocation(told_by, "stolen", *span, self.log.durable)

        def take_back(rows):
            self.us += SECOND_US
            taken = taken_back(self.journal, revocation, rows)
            if taken.entry is not None and not dry_run:
                self.state.position = self.journal.append_revoked(taken.entry, self.us) + taken.transactions
                self.state.correct(taken.entry, self.us)
            return taken

        position, outcomes, transactions, changed = 0, 0, 0, 0
        for _ in range(100):
            step = revoke_step(self.log, revocation, position, take_back, dry_run=dry_run)
            position, outcomes = step.position, outcomes + step.outcomes
            transactions, changed = transactions + step.transactions, changed + step.changed
            if not step.more:
                return outcomes, transactions, changed
        raise AssertionError("it does not end")

    def revoke_by_hand(self, told_by, span):
        """What an oracle is told in its place: a correction of each transaction that it changes."""
        gone = [one for one in self.told if one.by == told_by and span[0] <= one.us < span[1]]
        self.told = [one for one in self.told if one not in gone]
        for n in sorted({one.n for one in gone if self.plan.is_trusted(one.source)}):
            left = [one.says for one in self.told if one.n == n and self.plan.is_trusted(one.source)]
            self.events.append({"outcome": f"t{n}", "fraud": left[-1] if left else False})
        return gone

    def outcomes_of(self, n):
        return self.journal.outcomes_of(f"t{n}", np.uint64(hash_text(f"t{n}")))

    def bits(self, state=None):
        store = (state or self.state).store
        return sorted(store.export("card", store.keys_of("card")))

    def replayed(self):
        """The state after a restart without snapshots, read in pages; and read record by record."""
        one = self.fresh_state()
        one.load(self.log, Snapshots(self.folder / "unused"))
        other = self.fresh_state()
        other.restore(self.log, Snapshots(self.folder / "unused"))
        for record in self.log.records:
            other.take(record)
        return self.bits(one), self.bits(other)


@pytest.fixture
def shop_of(tmp_path, fake_log):
    with contextlib.ExitStack() as opened:

        def make(**given):
            shop = Shop(fake_log.FakeLog(), tmp_path, **given)
            opened.callback(shop.journal.close)
            return shop

        yield make


@pytest.fixture
def shop(shop_of):
    return shop_of()


KEYS = st.sampled_from([(OPERATOR, OPERATOR), (OPERATOR, "bank"), ("k1", "bank"), ("k2", "bank"), ("k3", "analyst")])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.sampled_from("ab")),
        st.tuples(st.just("tell"), st.integers(0, 2), st.booleans(), KEYS),
        st.tuples(st.just("revoke"), st.sampled_from([OPERATOR, "k1", "k2", "k3"]), st.sampled_from([0, 4, 12])),
        st.tuples(st.just("save")),
    ),
    min_size=4,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, trusts=st.sampled_from([None, ("bank",), ("analyst", OPERATOR), ()]))
def test_after_a_revocation_features_are_those_of_an_oracle_that_was_told_corrections(fake_log, steps, trusts):
    """Of all sources or of some, live and after a restart, from snapshots, pages and single records."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(fake_log.FakeLog(), folder, trusts)
        with contextlib.closing(shop.journal):
            shop.pay("a")
            for what, *given in steps:
                if what == "pay":
                    shop.pay(*given)
                elif what == "tell" and given[0] < shop.paid:
                    shop.tell(*given[:2], *given[2])
                elif what == "revoke":
                    span = (shop.us - given[1] * SECOND_US if given[1] else 0, 2**62)
                    gone = shop.revoke_by_hand(given[0], span)
                    assert shop.revoke(given[0], span)[:2] == (len(gone), len({one.n for one in gone}))
                elif what == "save":
                    shop.state.snapshot(shop.log, shop.snapshots)
            for card in "ab":
                shop.pay(card)
            expected = oracle_replay(shop.plan, shop.events)
            assert shop.rows == expected
            live = shop.bits()
            assert shop.replayed() == (live, live)
            restarted = shop.fresh_state()
            restarted.load(shop.log, shop.snapshots)
            assert shop.bits(restarted) == live


def test_what_is_taken_back_counts_as_legitimate_unless_another_outcome_stands(shop):
    for _ in range(3):
        shop.pay()
    shop.tell(0, True, "bad")
    shop.tell(1, True, "good")
    shop.tell(1, False, "bad")
    shop.tell(2, True, "bad")
    shop.tell(2, True, "good")
    assert shop.revoke("bad") == (3, 3, 2)
    shop.pay()
    assert shop.rows[-1][0] == 2.0
    assert [[(one.told_by, one.revoked_at is None) for one in shop.outcomes_of(n)] for n in range(3)] == [
        [("bad", False)], [("good", True), ("bad", False)], [("bad", False), ("good", True)],
    ]  # fmt: skip


def test_a_dry_run_counts_what_the_revocation_then_takes_back_and_changes_nothing(shop):
    shop.pay()
    for says in (True, False, True):
        shop.tell(0, says, "bad")
    before, end = shop.bits(), shop.log.durable
    assert shop.revoke("bad", dry_run=True) == (3, 1, 1)
    assert (shop.bits(), shop.log.durable) == (before, end)
    assert shop.revoke("bad") == (3, 1, 1)


def test_done_again_it_finds_nothing_and_what_is_told_later_counts(shop):
    shop.pay()
    shop.tell(0, True, "bad")
    shop.revoke("bad")
    assert shop.revoke("bad") == (0, 0, 0)
    assert shop.tell(0, True, "bad") == Noted("t0", True, replayed=False)
    shop.pay()
    shop.pay()
    assert shop.rows[-1][0] == 1.0


@pytest.mark.parametrize(
    ("trusts", "told", "revoked", "frauds"),
    [
        (None, [(True, "k1", "bank"), (False, "k2", "bank"), (True, "k3", "x")], ["k3"], 0),
        (None, [(False, "k1", "bank"), (True, "k2", "bank"), (False, "k3", "x")], ["k3"], 1),
        (None, [(True, "k1", "bank"), (False, "k2", "x"), (True, "k3", "bank")], ["k3"], 0),
        (None, [(True, "k1", "bank"), (False, "k2", "bank")], ["k1", "k2"], 0),
        (("bank",), [(True, "k1", "bank"), (True, "k3", "x")], ["k1"], 0),
        (("bank",), [(True, "k1", "bank"), (False, "k3", "x"), (False, "k2", "bank")], ["k2"], 1),
        (("bank",), [(True, "k1", "bank"), (False, "k3", "x")], ["k3"], 1),
    ],
)
def test_of_what_stands_the_newest_of_a_trusted_source_counts(shop_of, trusts, told, revoked, frauds):
    shop = shop_of(trusts=trusts)
    shop.pay()
    for says, key, source in told:
        shop.tell(0, says, key, source)
    for key in revoked:
        shop.revoke(key)
    shop.pay()
    assert shop.rows[-1][0] == frauds


@pytest.mark.parametrize("is_told_again", [False, True])
def test_what_was_said_before_an_id_was_decided_again_is_taken_back_of_that_decision_alone(shop, is_told_again):
    shop.pay()
    shop.tell(0, True, "bad")
    shop.journal.forget_before(shop.log.durable)
    shop.pay(name="t0")
    shop.tell(0, True, "good")
    if is_told_again:
        shop.tell(0, True, "bad")
    before = shop.bits()
    assert shop.revoke("bad") == ((2, 2, 1) if is_told_again else (1, 1, 1))
    assert shop.bits() == before
    assert shop.replayed() == (before, before)
    assert [one.told_by for one in shop.outcomes_of(0) if one.revoked_at is None] == ["good"]


def test_of_a_forgotten_transaction_it_is_one_row_and_done_again_it_finds_nothing(shop):
    """Its outcomes are found in the log, and what took them back by what is remembered of that."""
    for n in range(2):
        shop.pay()
        for says in (True, False, True):
            shop.tell(n, says, "bad")
    shop.tell(1, False, "good")
    shop.journal.forget_before(shop.log.durable - 1)
    before = shop.log.durable
    assert shop.revoke("bad", dry_run=True) == (6, 2, 1)
    assert shop.revoke("bad") == (6, 2, 1)
    assert shop.log.durable == before + 2
    assert shop.revoke("bad") == (0, 0, 0)
    assert shop.log.durable == before + 2
    shop.pay()
    live = shop.bits()
    assert shop.replayed() == (live, live)


def test_what_is_told_while_a_revocation_runs_counts(shop):
    shop.pay()
    shop.tell(0, True, "bad")
    revocation = Revocation("bad", "stolen", *ALL_TIME, shop.log.durable)
    shop.tell(0, False, "bad")
    taken = taken_back(shop.journal, revocation, shop.outcomes_of(0))
    assert (taken.outcomes, taken.changed) == (1, 0)
    assert [one.is_fraud for one in taken.entry.standing[0]] == [False]


def test_only_what_was_received_in_the_time_is_taken_back(shop):
    shop.pay()
    shop.pay()
    shop.tell(0, True, "bad")
    between = shop.us + 1
    shop.tell(1, True, "bad")
    assert shop.revoke("bad", (0, between)) == (1, 1, 1)
    assert [one.revoked_at is None for n in range(2) for one in shop.outcomes_of(n)] == [False, True]


def test_a_long_log_is_taken_back_in_steps_of_bounded_records(shop, monkeypatch):
    monkeypatch.setattr("sentinel.record.revoking._PAGES", 2)
    monkeypatch.setattr("sentinel.record.revoking._MOST_IN_STEP", 5)
    monkeypatch.setattr(Follower, "next", lambda self, limit=3, _next=Follower.next: _next(self, limit))
    for n in range(40):
        shop.pay()
        shop.tell(n, True, "bad" if n % 2 else "good")
    assert shop.revoke("bad") == (20, 20, 20)
    revoked = [record for record in shop.log.records if record.kind == Kind.REVOKED]
    assert sum(record.rows for record in revoked) == 20
    assert max(record.rows for record in revoked) <= 32


# who says what


def test_what_two_keys_say_alike_is_kept_of_both_and_one_of_them_may_go(shop):
    shop.pay()
    assert [shop.tell(0, True, key).replayed for key in ("bad", "good", "bad", "good")] == [False, False, True, True]
    shop.revoke("bad")
    shop.pay()
    shop.pay()
    assert shop.rows[-1][0] == 1.0


def test_a_key_that_says_again_what_another_has_contradicted_is_heard(shop):
    shop.pay()
    answers = [shop.tell(0, *told).replayed for told in ((True, "a"), (False, "b"), (True, "a"), (True, "a"))]
    assert answers == [False, False, False, True]


def test_a_key_that_changes_its_mind_without_end_is_stopped_and_another_is_not(shop):
    shop.pay()
    says = itertools.cycle((True, False))
    for _ in range(MOST_OF_ONE):
        assert isinstance(shop.tell(0, next(says), "bad"), Noted)
    refused = shop.tell(0, next(says), "bad")
    assert isinstance(refused, Conflict)
    assert "'bad' has told 16 outcomes of transaction 't0'" in str(refused)
    assert isinstance(shop.tell(0, True, "good"), Noted)
    shop.revoke("bad")
    assert isinstance(shop.tell(0, False, "bad"), Noted)


def test_the_entry_keeps_source_key_and_reason_and_older_entries_are_the_operators(shop, made):
    shop.pay()
    shop.tell(0, True, "key-1", "bank")
    (row,) = shop.outcomes_of(0)
    assert (row.source, row.told_by, row.reason) == ("bank", "key-1", "because")
    (old,) = outcome_rows(made.outcomes_record(1, [{"id": "t", "is_fraud": True, "about": 1}]))
    assert (old.source, old.told_by, old.reason) == (OPERATOR, OPERATOR, "")


def test_sources_that_are_not_trusted_leave_no_trace_in_the_state(shop_of):
    shop = shop_of(trusts=("bank",))
    shop.pay()
    before = shop.bits()
    shop.tell(0, True, "stranger")
    assert shop.bits() == before
    shop.revoke("stranger")
    assert shop.bits() == before
    shop.tell(0, True, "k", "bank")
    assert shop.bits() != before


HISTORY = Schema(keys=("card",), max_late="1h", outcome_time="known_at", outcome_source="who")
ROWS = st.lists(
    st.tuples(
        st.integers(1, 9), st.sampled_from("ab"), st.booleans(), st.integers(0, 12),
        st.sampled_from(["bank", "analyst", "x"]),
    ),
    min_size=1,
    max_size=25,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, trusts=st.sampled_from([None, ("bank",), ("analyst", "x"), ()]))
def test_a_history_with_sources_gives_the_features_that_were_given_live(shop_of, rows, trusts):
    """Each row: seconds since the one before, card, truth, seconds until it is known, and who knows it."""
    times = 1_750_000_000 * SECOND_US + np.cumsum([row[0] for row in rows]) * SECOND_US
    known = [int(us) + row[3] * SECOND_US for us, row in zip(times, rows, strict=True)]
    names = [f"t{n}" for n in range(len(rows))]
    frame = pl.DataFrame(
        {
            "transaction_id": names, "event_time": times, "amount": [1.0] * len(rows), "card": [row[1] for row in rows],
            "is_fraud": [row[2] for row in rows], "known_at": known, "who": [row[4] for row in rows],
        }
    )  # fmt: skip
    plan = FeaturePlan(HISTORY, FEATURES, **({} if trusts is None else {"trusts": trusts}))
    history = history_of_frame(frame, HISTORY).frame
    offline = MemoryStore(plan).advance(columns_of_frame(HISTORY, history, plan.trusted_sources)).rows

    state = shop_of(trusts=trusts).fresh_state()
    state.store = MemoryStore(plan)
    live, waiting = [], sorted(range(len(rows)), key=known.__getitem__)
    for n, us in enumerate(times.tolist()):
        while waiting and known[waiting[0]] <= us:
            one = waiting.pop(0)
            state.learn([Outcome(names[one], rows[one][2], known[one], rows[one][4])], us)
        paid = HISTORY.wire_type(transaction_id=names[n], event_time=us, amount=1.0, card=rows[n][1])
        live.append(state.advance([paid], us).rows[0])
    assert (np.array(live) == offline).all()
