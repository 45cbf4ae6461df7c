"""The store against a model of it in a few lines: whatever people do, in whatever order, with whatever they have seen."""

import tempfile
from pathlib import Path

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sentinel.errors import Conflict, Forbidden
from sentinel.record.written.tables import messages
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.asking import Asking, open_or_join
from sentinel.review.case_store.case import case_of, events_of, payments_of
from sentinel.review.case_store.desk import Desk
from sentinel.review.case_store.tables import cases
from sentinel.review.cases.deadlines import USUAL, read_deadlines
from sentinel.review.cases.moves import Analyst, Outcome

DEADLINES = read_deadlines(USUAL)
PEOPLE = {
    "ana": Analyst("ana", {"viewer", "analyst"}), "bob": Analyst("bob", {"viewer", "analyst"}),
    "lee": Analyst("lee", {"viewer", "analyst", "rule editor", "operator"}),
}  # fmt: skip
WHO, CARDS = st.sampled_from(sorted(PEOPLE)), st.sampled_from(["c1", "c2"])
WORK = ("open", "reopened", "escalated", "assigned")


class Told:
    """What the model knows of a case."""

    def __init__(self, card):
        self.card, self.state, self.holder, self.outcome = card, "open", None, None
        self.version, self.payments, self.fraud = 1, 0, {}

    def is_free_for(self, who, *, lead):
        """Whether somebody may end it or give it on."""
        if self.state == "assigned":
            return self.holder == who or (lead and who == "lee")
        return self.state in WORK and (self.state != "escalated" or who == "lee")


class CasesAgainstAModel(RuleBasedStateMachine):
    """Every act is done in both, or in neither."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.database = WrittenDatabase(Path(self._folder.name))
        self.desk = Desk(self.database, DEADLINES)
        self.known, self.now_us, self.position = {}, 1_000_000, 0

    def teardown(self):
        self.database.close()
        self._folder.cleanup()

    @rule(card=CARDS, amount=st.integers(0, 10**6))
    def comes(self, card, amount):
        self.position += 1
        self.now_us += 1
        one = Asking(
            self.position, f"t{self.position}", self.now_us, amount, 2, 0.5, "review", "review", frozenset(), "card", card
        )  # fmt: skip
        with self.database.writing() as writer:
            found = open_or_join(writer, one, DEADLINES, self.now_us)
        work = [number for number, told in self.known.items() if told.card == card and told.state in WORK]
        if work:
            assert [found.number] == work
            self.known[found.number].version += 1
        else:
            assert found.number not in self.known
            self.known[found.number] = Told(card)
        self.known[found.number].payments += 1
        self.known[found.number].fraud[self.position] = None

    @rule(who=WHO, stale=st.booleans(), pick=st.integers(0, 9))
    def take(self, who, stale, pick):
        def may(told):
            return told.state in ("open", "reopened") or (told.state == "escalated" and who == "lee")

        self._act(
            pick, stale, may, lambda n, v: self.desk.take(n, v, PEOPLE[who], self.now_us), state="assigned", holder=who
        )

    @rule(who=WHO, stale=st.booleans(), pick=st.integers(0, 9))
    def release(self, who, stale, pick):
        def may(told):
            return told.state == "assigned" and who in (told.holder, "lee")

        self._act(
            pick, stale, may, lambda n, v: self.desk.release(n, v, PEOPLE[who], self.now_us), state="open", holder=None
        )

    @rule(who=WHO, to=WHO, stale=st.booleans(), pick=st.integers(0, 9))
    def hand_over(self, who, to, stale, pick):
        def act(n, v):
            return self.desk.hand_over(n, v, to, PEOPLE[who], self.now_us)

        self._act(pick, stale, lambda told: told.is_free_for(who, lead=True), act, state="assigned", holder=to)

    @rule(who=WHO, stale=st.booleans(), pick=st.integers(0, 9))
    def escalate(self, who, stale, pick):
        def act(n, v):
            return self.desk.escalate(n, v, "operator", "", PEOPLE[who], self.now_us)

        self._act(pick, stale, lambda told: told.is_free_for(who, lead=True), act, state="escalated", holder=None)

    @rule(who=WHO, outcome=st.sampled_from(list(Outcome)), stale=st.booleans(), pick=st.integers(0, 9))
    def decide(self, who, outcome, stale, pick):
        is_fraud = {"fraud": True, "legitimate": False}.get(outcome)

        def act(n, v):
            begun = self.desk.to_decide(n, v, PEOPLE[who], self.now_us)
            told = {} if is_fraud is None else {one.position: is_fraud for one in begun.payments}
            done = self.desk.decide(begun, outcome, told, PEOPLE[who], self.now_us)
            if is_fraud is not None:
                self.known[n].fraud = dict.fromkeys(self.known[n].fraud, is_fraud)
            return done

        self._act(
            pick,
            stale,
            lambda told: told.is_free_for(who, lead=False),
            act,
            state="decided",
            holder=None,
            outcome=outcome,
        )

    @rule(who=WHO, stale=st.booleans(), pick=st.integers(0, 9))
    def close(self, who, stale, pick):
        def act(n, v):
            return self.desk.close(n, v, "", PEOPLE[who], self.now_us)

        self._act(pick, stale, lambda told: told.is_free_for(who, lead=False), act, state="closed", holder=None)

    @rule(who=WHO, stale=st.booleans(), pick=st.integers(0, 9))
    def reopen(self, who, stale, pick):
        def may(told):
            others = [one for one in self.known.values() if one.card == told.card and one.state in WORK]
            return told.state in ("decided", "closed") and not others

        def act(n, v):
            begun = self.desk.to_reopen(n, v, PEOPLE[who], self.now_us)
            done = self.desk.reopen(begun, "", PEOPLE[who], self.now_us)
            self.known[n].fraud = dict.fromkeys(self.known[n].fraud)
            return done

        self._act(pick, stale, may, act, state="reopened", holder=None, outcome=None)

    @rule(who=WHO, stale=st.booleans(), pick=st.integers(0, 9))
    def note(self, who, stale, pick):
        self._act(pick, stale, lambda _: True, lambda n, v: self.desk.note(n, "seen", PEOPLE[who], self.now_us, v))

    def _act(self, pick, stale, may, act, **becomes):
        if not self.known:
            return
        self.now_us += 1
        number = sorted(self.known)[pick % len(self.known)]
        told = self.known[number]
        is_stale = stale and told.version > 1
        is_possible = may(told) and not is_stale
        try:
            done = act(number, told.version - is_stale)
        except (Conflict, Forbidden):
            assert not is_possible
            return
        assert is_possible
        told.version += 1
        for name, value in becomes.items():
            setattr(told, name, value)
        assert done.version == told.version

    @invariant()
    def they_are_the_same(self):
        with self.database.reading() as reader:
            for number, told in self.known.items():
                found = case_of(reader, number)
                assert (found.state, found.holder, found.outcome, found.version, found.payments) == (
                    told.state, told.holder, told.outcome, told.version, told.payments,
                )  # fmt: skip
                assert {one.position: one.is_fraud for one in payments_of(reader, number)} == told.fraud
                assert [one.version for one in events_of(reader, number)] == list(range(1, told.version + 1))
                lost = sum(
                    round(0.5 * (one.amount or 0)) for one in payments_of(reader, number) if one.is_fraud is None
                )
                assert found.loss == lost
            sent = reader.scalar(sa.select(sa.func.count()).select_from(messages))
            assert sent == sum(told.version for told in self.known.values())
            open_keys = reader.scalars(sa.select(cases.c.open_key).where(cases.c.open_key.is_not(None))).all()
            assert len(open_keys) == sum(told.state in WORK for told in self.known.values())


CasesAgainstAModel.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
TestCasesAgainstAModel = CasesAgainstAModel.TestCase
