"""Reviews that nobody took in time come to what the policy declares: once each, however often that is cut short."""

import random
from contextlib import closing

import msgspec
import pytest

from sentinel.errors import InvalidDefinition
from sentinel.model.bundle import load_bundle
from sentinel.policy.policies import CostGrid, LeastLoss, Policy
from sentinel.policy.results import Result
from sentinel.policy.thresholds import Thresholds
from sentinel.record.concluding import NOBODY, Telling
from sentinel.record.earlier_results import NOT_ASKED
from sentinel.record.log import Kind
from sentinel.record.projector import Projector
from sentinel.record.results import result_rows
from sentinel.record.views.place import ViewPlace
from sentinel.serve import review_timeouts
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.review_timeouts import ReviewTimeouts

HOUR_US = 3_600_000_000


class Desk:
    """A home in which some transactions are in review, with its view."""

    def __init__(self, home_of, shop_home, policy):
        bundle = load_bundle(shop_home / "models" / "v1")
        bundle.manifest = msgspec.structs.replace(bundle.manifest, policy=msgspec.to_builtins(policy))
        self.home = home_of(Lineup(1, Contender(bundle, Thresholds(review=0.2, block=0.4, challenge=0.1))))
        self.home.open()
        self.home.pay(range(200))
        self.view = ViewPlace(self.home.folder)
        self.reviews = {one.position: one for one in self.home.decisions() if one.decision == "review"}
        assert len(self.reviews) > 10

    def project(self):
        with closing(self.view.open()) as view:
            projector = Projector(view, self.home.log, dict)
            while projector.step():
                pass

    def conclude(self, row, telling, earlier=NOT_ASKED):
        return self.home.engine.conclude(row, telling, self.home.now_us, None, earlier)

    def step(self, timeouts, after_us):
        return timeouts.step(self.home.engine, self.conclude, self.home.now_us + after_us)

    def run(self, timeouts, after_us):
        self.project()
        n, more = 0, True
        while more:
            done = self.step(timeouts, after_us)
            n, more = n + done.concluded, done.more
        return n

    def results(self):
        return [row for record in self.home.records() if record.kind == Kind.RESULTS for row in result_rows(record)]


@pytest.fixture
def desk(home_of, shop_home):
    return Desk(home_of, shop_home, Policy(review_within="4h", review_default="block"))


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch):
    monkeypatch.setattr(review_timeouts, "MOST_AT_ONCE", 3)


def test_all_that_are_due_come_to_the_default_and_none_earlier(desk):
    timeouts = ReviewTimeouts(desk.view)
    begun = min(one.received_us for one in desk.reviews.values()) - desk.home.now_us
    assert desk.run(timeouts, begun + 4 * HOUR_US) == 0
    assert desk.run(timeouts, 4 * HOUR_US + 1) == len(desk.reviews) == timeouts.concluded
    found = desk.results()
    assert {row.about for row in found} == set(desk.reviews)
    assert {(row.result, row.state, row.told_by) for row in found} == {("review_declined", "declined", NOBODY)}
    assert found[0].reason.startswith("nobody took it by ")
    assert desk.run(timeouts, 9 * HOUR_US) == 0
    desk.home.assert_states_are_those_of_a_replay()


def test_what_somebody_took_or_decided_is_left_alone_also_where_the_view_does_not_know(desk):
    desk.project()
    taken, approved, *_ = desk.reviews.values()
    desk.conclude(taken, Telling(Result.REVIEW_TAKEN, "ana"))
    desk.conclude(approved, Telling(Result.REVIEW_APPROVED, "ana"))
    timeouts, more = ReviewTimeouts(desk.view), True
    while more:
        more = desk.step(timeouts, 5 * HOUR_US).more
    assert timeouts.concluded == len(desk.reviews) - 2
    told = {row.about: row.result for row in desk.results()}
    assert (told[taken.position], told[approved.position]) == ("review_taken", "review_approved")


@pytest.mark.parametrize("seed", range(3))
def test_however_often_it_is_killed_each_review_has_one_result(desk, seed):
    chance = random.Random(seed)
    for _ in range(60):
        if chance.random() < 0.5:
            desk.project()
        timeouts = ReviewTimeouts(desk.view)
        most = len(desk.results()) + chance.randrange(3)

        def conclude(row, telling, earlier, most=most):
            """As the writer does, until the process is gone: in the middle of a step."""
            if len(desk.results()) >= most:
                raise KeyboardInterrupt
            return desk.conclude(row, telling, earlier)

        try:
            timeouts.step(desk.home.engine, conclude, desk.home.now_us + 5 * HOUR_US)
        except KeyboardInterrupt:
            desk.home.reopen()
    desk.run(ReviewTimeouts(desk.view), 5 * HOUR_US)
    told = [row.about for row in desk.results()]
    assert sorted(told) == sorted(desk.reviews)


def test_reviews_whose_ids_are_forgotten_come_to_the_default_and_what_was_told_of_them_stays(desk):
    declined, *left = desk.reviews.values()
    desk.conclude(declined, Telling(Result.REVIEW_APPROVED, "ana"))
    desk.home.engine.journal.forget_before(desk.home.log.durable)
    assert desk.run(ReviewTimeouts(desk.view), 5 * HOUR_US) == len(left)
    assert len(desk.results()) == 1 + len(left)


def test_without_the_setting_nothing_happens(home_of, shop_home):
    desk = Desk(home_of, shop_home, LeastLoss())
    assert desk.run(ReviewTimeouts(desk.view), 1_000 * HOUR_US) == 0
    assert desk.results() == []


@pytest.mark.parametrize("within", ["soon", "0h", "-1h", ""])
def test_a_time_that_is_none_is_refused(within):
    for kind in (Policy, LeastLoss, CostGrid):
        with pytest.raises(InvalidDefinition):
            kind(review_within=within)
