"""What joins a case that somebody has is taken as well, before its time is up."""

from contextlib import closing

import msgspec
import pytest

from sentinel.model.bundle import load_bundle
from sentinel.policy.policies import Policy
from sentinel.policy.results import Result
from sentinel.policy.thresholds import Thresholds
from sentinel.record.concluding import Telling
from sentinel.record.log import Kind
from sentinel.record.projector import Projector
from sentinel.record.results import result_rows
from sentinel.record.views.place import ViewPlace
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.asking import open_or_join
from sentinel.review.case_store.desk import Desk
from sentinel.review.case_store.watching import asking
from sentinel.review.cases.deadlines import USUAL, read_deadlines
from sentinel.review.cases.moves import Analyst
from sentinel.serve import held_reviews
from sentinel.serve.held_reviews import HeldReviews
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.review_timeouts import ReviewTimeouts

DEADLINES = read_deadlines(USUAL)
ANA = Analyst("ana", {"viewer", "analyst"})
HOUR_US = 3_600_000_000


class Office:
    """A home with reviews that are put into one case, one by one, and what sees to those that are held."""

    def __init__(self, home_of, shop_home):
        bundle = load_bundle(shop_home / "models" / "v1")
        policy = msgspec.to_builtins(Policy(review_within="4h", review_default="block"))
        bundle.manifest = msgspec.structs.replace(bundle.manifest, policy=policy)
        self.home = home_of(Lineup(1, Contender(bundle, Thresholds(review=0.2, block=0.4, challenge=0.1))))
        self.engine = self.home.open()
        self.home.pay(range(200))
        self.reviews = [one for one in self.home.decisions() if one.decision == "review"]
        assert len(self.reviews) > 10
        self.view = ViewPlace(self.home.folder)
        self.database = WrittenDatabase(self.home.folder)
        self.desk = Desk(self.database, DEADLINES)

    def joins(self, row, card="c1"):
        """The case that a decision is in from now on."""
        one = asking(row, "review", None, None)._replace(key_field="card", key_value=card)
        with self.database.writing() as writer:
            return open_or_join(writer, one, DEADLINES, row.received_us)

    def conclude(self, row, telling, earlier):
        return self.engine.conclude(row, telling, self.home.now_us, None, earlier)

    def told(self):
        found = (row for record in self.home.records() if record.kind == Kind.RESULTS for row in result_rows(record))
        return {row.about: (row.result, row.told_by) for row in found}


@pytest.fixture
def office(home_of, shop_home):
    made = Office(home_of, shop_home)
    yield made
    made.database.close()


@pytest.fixture
def held(office):
    found = HeldReviews(office.home.folder, None, office.view)
    yield found
    found.close()


def test_what_joins_a_case_in_somebodys_hands_waits_for_them(office, held):
    first, second, other = office.reviews[:3]
    number = office.joins(first).number
    office.joins(other, "c2")
    assert not held.step(office.engine, office.conclude)
    assert office.told() == {}
    office.desk.take(number, 1, ANA, 5)
    office.joins(second)
    assert not held.step(office.engine, office.conclude)
    taken = ("review_taken", f"case:{number}")
    assert office.told() == {first.position: taken, second.position: taken}
    third = office.reviews[3]
    office.joins(third)
    assert not held.step(office.engine, office.conclude)
    assert office.told() == {one.position: taken for one in (first, second, third)}


def test_however_many_there_are_a_step_sees_to_some_and_all_come_to_their_turn(office, held, monkeypatch):
    monkeypatch.setattr(held_reviews, "MOST_AT_ONCE", 3)
    for row in office.reviews[:8]:
        number = office.joins(row).number
    office.desk.take(number, None, ANA, 5)
    for n in (3, 6):
        assert held.step(office.engine, office.conclude)
        assert len(office.told()) == n
    assert not held.step(office.engine, office.conclude)
    assert len(office.told()) == 8
    end = office.home.log.durable
    again = HeldReviews(office.home.folder, None, office.view)  # as after a start
    with closing(again):
        while again.step(office.engine, office.conclude):
            pass
    assert office.home.log.durable == end


def test_what_came_to_something_else_keeps_that(office, held):
    row = office.reviews[0]
    number = office.joins(row).number
    office.desk.take(number, 1, ANA, 5)
    office.engine.conclude(row, Telling(Result.REVIEW_DECLINED, "bob"), office.home.now_us)
    assert not held.step(office.engine, office.conclude)
    assert office.told() == {row.position: ("review_declined", "bob")}


def test_the_time_of_what_somebody_has_does_not_run_out(office, held):
    """As the thread does: what is held comes first, and then what is due."""
    first, second = office.reviews[:2]
    number = office.joins(first).number
    office.desk.take(number, 1, ANA, 5)
    office.joins(second)
    with closing(office.view.open()) as view:
        projector = Projector(view, office.home.log, dict)
        while projector.step():
            pass
    timeouts = ReviewTimeouts(office.view, held)
    while timeouts.turn(office.engine, office.conclude, office.home.now_us + 5 * HOUR_US):
        pass
    told = office.told()
    assert {told[one.position][0] for one in (first, second)} == {"review_taken"}
    left = {one.position for one in office.reviews[2:]}
    assert {told[position][0] for position in left} == {"review_declined"}
