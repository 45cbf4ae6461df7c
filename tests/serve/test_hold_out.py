"""The approval holdout: few, small, within a day's budget, the same when asked again, and found by a replay."""

import msgspec
import numpy as np
import pytest

from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import InvalidDefinition
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.holdout import DAY_US, Holdout
from sentinel.policy.thresholds import Action, Thresholds
from sentinel.record.entries import Decided, decided_in
from sentinel.record.explaining import Explaining
from sentinel.record.log import Kind
from sentinel.serve.lineup import Contender, Lineup
from sentinel.telemetry.counters import Slot

SEED = "a seed that nobody knows"


@pytest.fixture
def open_home(home_of, shop_home):
    """Opens a home that blocks everything but what this holdout approves."""

    def make(**declared):
        bundle = load_bundle(shop_home / "models" / "v1")
        known = {"share": 0.2, "most_amount": 200.0, "budget_a_day": 1e6, "seed": SEED}
        bundle.holdout = Holdout(**known | declared)
        home = home_of(Lineup(1, Contender(bundle, Thresholds(review=0.0, block=0.0))))
        home.open()
        return home

    return make


def spent_of(rows):
    return sum(msgspec.json.decode(row.content)["amount"] for row in rows if row.drawn and row.drawn.is_approved)


def test_a_share_of_the_small_ones_is_approved_and_says_so_also_when_asked_again(open_home):
    home = open_home()
    answers = home.pay(range(1000), at_once=50)
    rows, held = home.decisions(), [one for one in answers if one.holdout is True]
    small = [row for row in rows if msgspec.json.decode(row.content)["amount"] <= 200]
    assert [row.drawn is not None for row in rows] == [row in small for row in rows]
    assert {row.drawn.propensity for row in small} == {0.2}
    assert abs(len(held) - 0.2 * len(small)) < 4 * np.sqrt(0.16 * len(small))
    assert {(one.decision, one.would_be) for one in held} == {("approve", "block")}
    assert {one.decision for one in answers if one.holdout is not True} == {"block"}
    home.reopen()
    again = home.pay(range(1000), at_once=50)
    assert [(one.decision, one.holdout, one.would_be) for one in again] == [
        (one.decision, one.holdout, one.would_be) for one in answers
    ]
    assert all(one.replayed for one in again)
    home.engine.ledger.settle()
    assert home.counters.totals()[Slot.HELD_OUT] == len(held)


def test_the_budget_of_a_day_is_kept_over_restarts_and_begins_anew_the_next_day(open_home):
    home = open_home(share=0.5, most_amount=100.0, budget_a_day=1000.0)
    for begin in range(0, 400, 40):
        home.pay(range(begin, begin + 40), at_once=13)
        home.reopen()
    first = home.decisions()
    assert 900 < spent_of(first) <= 1000
    assert first[-1].drawn is None, "what the budget does not allow could not have been approved"
    assert home.engine.journal.spent.amount == pytest.approx(spent_of(first))
    home.now_us += DAY_US
    home.pay(range(400, 800), at_once=13)
    assert 900 < spent_of(home.decisions()[len(first) :]) <= 1000


def test_what_rules_decide_is_never_held_out(open_home):
    home = open_home(share=0.5, actions=(Action.BLOCK, Action.REVIEW))
    shed = [home.payment(i) for i in range(60)]
    assert {one.holdout for one in home.handle(shed, due_ns=[0] * 60)} == {msgspec.UNSET}
    assert {row.drawn for row in home.decisions()} == {None}


def test_a_detector_without_one_writes_what_it_wrote_and_nothing_more(open_home):
    home = open_home()
    home.lineup.champion.bundle.holdout = None
    home.pay(range(30))
    assert {row.drawn for row in home.decisions()} == {None}
    assert Kind.HELD_OUT not in {record.kind for record in home.records()}


def test_entries_of_before_there_was_a_holdout_are_read(open_home):
    home = open_home()
    home.pay(range(5))
    record = next(one for one in home.records() if one.kind == Kind.DECIDED)
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(record.body)[: Decided.__struct_fields__.index("drawn")])
    assert decided_in(record._replace(body=old)).drawn == ()


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"share": 0.0}, "share"), ({"share": 0.6}, "share"), ({"most_amount": 0.0}, "most_amount"),
        ({"most_amount": 20.0}, "budget_a_day"), ({"seed": "short"}, "seed"), ({"actions": ()}, "actions"),
        ({"actions": (Action.APPROVE,)}, "actions"), ({"budget_a_day": float("nan")}, "budget_a_day"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused(declared, said):
    with pytest.raises(InvalidDefinition, match=said):
        Holdout(**{"share": 0.1, "most_amount": 5.0, "budget_a_day": 10.0, "seed": SEED} | declared)


def test_what_was_held_out_gets_its_reasons_too(open_home, shop_home):
    home = open_home(share=0.5)
    home.pay(range(40))
    reasons = Explaining(home.log, Registry(shop_home / "models")).step()
    assert reasons.ids == [row.transaction_id for row in home.decisions()]


def test_velocity_never_has_one():
    velocity = load_detector("velocity")
    assert velocity.holdout is None
    declared = Holdout(share=0.1, most_amount=5.0, budget_a_day=10.0, seed=SEED)
    fields = {name: getattr(velocity, name) for name in velocity.__struct_fields__}
    with pytest.raises(InvalidDefinition, match="the policy never does what it is of: block"):
        Detector(**fields | {"holdout": declared})
    of_review = msgspec.structs.replace(declared, actions=(Action.REVIEW,))
    with pytest.raises(InvalidDefinition, match="ids of their own"):
        Detector(**fields | {"holdout": of_review})
