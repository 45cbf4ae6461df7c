"""What was told of a decision is not contradicted after its id is forgotten: the view has kept it."""

from contextlib import closing

import pytest

from sentinel.errors import Conflict, StorageProblem
from sentinel.model.bundle import load_bundle
from sentinel.policy.results import Result
from sentinel.policy.thresholds import Thresholds
from sentinel.record.concluding import Telling
from sentinel.record.earlier_results import NOT_ASKED, earlier_results
from sentinel.record.projector import Projector
from sentinel.record.views.place import ViewPlace
from sentinel.serve.lineup import Contender, Lineup


class Reviewed:
    """A home with a review that was approved, and the same asked about it as a server does."""

    def __init__(self, home_of, shop_home):
        bundle = load_bundle(shop_home / "models" / "v1")
        self.home = home_of(Lineup(1, Contender(bundle, Thresholds(review=0.2, block=0.4, challenge=0.1))))
        self.engine = self.home.open()
        self.home.pay(range(60))
        self.row = next(one for one in self.home.decisions() if one.decision == "review")
        self.view = ViewPlace(self.home.folder)
        self.first = self.tell(Result.REVIEW_APPROVED)

    def project(self):
        with closing(self.view.open()) as view:
            projector = Projector(view, self.home.log, dict)
            while projector.step():
                pass

    def forget(self):
        self.engine.journal.forget_before(self.home.log.durable)

    def tell(self, result):
        earlier = earlier_results(self.view, self.row, self.engine.journal.remembered_from)
        return self.engine.conclude(self.row, Telling(result, "ana"), self.home.now_us, None, earlier)


@pytest.fixture
def reviewed(home_of, shop_home):
    return Reviewed(home_of, shop_home)


def test_what_was_told_stays_when_its_id_is_forgotten(reviewed):
    reviewed.project()
    reviewed.forget()
    end = reviewed.home.log.durable
    with pytest.raises(Conflict, match="is approved, after which there is no review_declined"):
        reviewed.tell(Result.REVIEW_DECLINED)
    again = reviewed.tell(Result.REVIEW_APPROVED)
    assert (again.replayed, again.row) == (True, reviewed.first.row)
    assert reviewed.home.log.durable == end
    assert reviewed.tell(Result.CAPTURED).row.state == "captured"
    assert reviewed.tell(Result.CAPTURED).replayed
    assert reviewed.tell(Result.REFUNDED).row.state == "refunded"


def test_where_the_view_has_not_read_so_far_nothing_is_stored(reviewed):
    reviewed.forget()
    end = reviewed.home.log.durable
    with pytest.raises(StorageProblem, match="ask again when it has caught up"):
        reviewed.tell(Result.REVIEW_DECLINED)
    assert reviewed.home.log.durable == end
    reviewed.project()
    with pytest.raises(Conflict):
        reviewed.tell(Result.REVIEW_DECLINED)


def test_nobody_tells_of_a_forgotten_decision_without_having_asked_the_view(reviewed):
    reviewed.project()
    reviewed.forget()
    with pytest.raises(StorageProblem):
        reviewed.engine.conclude(reviewed.row, Telling(Result.REVIEW_DECLINED, "ana"), reviewed.home.now_us)


def test_the_view_is_not_asked_about_what_is_remembered(reviewed):
    assert earlier_results(reviewed.view, reviewed.row, reviewed.engine.journal.remembered_from) is NOT_ASKED
