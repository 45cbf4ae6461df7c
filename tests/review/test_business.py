"""The figures of business, from what a view sums up."""

from datetime import UTC, datetime

import pytest

from sentinel.errors import InvalidInput
from sentinel.record.views.sqlite import SqliteView
from sentinel.review.business import DAY_US, asked_of, business
from tests.record.views.test_day_sums import record_of, store

DAY = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp()) // 86_400  # a Tuesday
NOW_US = (DAY + 10) * DAY_US
DELAY = ("7d", 7 * DAY_US)


@pytest.fixture
def view(tmp_path, made):
    """Two days of March and one of February; the newer of March is not mature, and half of the outcomes are told."""
    one = SqliteView(tmp_path / "views.db")
    rows = [
        {"id": "a", "action": "approve", "amount": 10.0, "country": "DE", "currency": "EUR"},
        {"id": "b", "action": "approve", "amount": 20.5, "country": "DE", "currency": "EUR"},
        {"id": "c", "action": "block", "amount": 300.0, "country": "NL", "currency": "EUR", "rules": ("large",)},
        {"id": "d", "action": "review", "amount": 40.0, "country": "NL", "currency": "USD", "shadows": ("odd",)},
        {"id": "e", "action": "block", "amount": 7.0, "currency": "EUR"},
    ]
    store(one, [record_of(made, 1, [rows[0] | {"id": "old"}], (DAY - 20) * DAY_US)])
    store(one, [record_of(made, 10, rows, DAY * DAY_US), record_of(made, 20, rows, (DAY + 5) * DAY_US)])
    told = [(11, True), (12, True), (14, False), (21, True)]
    known = [{"id": "abcde"[at % 10], "about": at, "is_fraud": said, "told_by": "chargebacks"} for at, said in told]
    store(one, [made.outcomes_record(30, known, (DAY + 6) * DAY_US)])
    yield one
    one.close()


def ask(view, **given):
    return business(view, asked_of(given, NOW_US), NOW_US, DELAY)


def march(view, **given):
    return ask(view, **{"from": "2026-03-01", "to": "2026-04-01", **given})


def test_the_figures_are_those_that_one_counts_by_hand(view):
    found = march(view)
    one = found.total
    assert (one.decisions, one.actions) == (10, {"approve": 4, "challenge": 0, "review": 2, "block": 4})
    assert (one.frauds, one.legitimate, one.approval_rate) == (3, 1, 0.4)
    assert one.silent == 2  # an approval and a review of the day that is mature; what was blocked is not known
    assert one.fraud_bps == 3_000
    assert one.false_alarms == 2  # e, who was told to be legitimate, and d, of whom nothing came
    assert one.precision == pytest.approx(1 / 3)
    euro, dollar = one.money
    assert (euro.currency, euro.digits, euro.volume, euro.approved) == ("EUR", 2, 67_500, 6_100)
    assert (euro.fraud, euro.saved, euro.held, euro.lost) == (34_100, 30_000, 0, 4_100)
    assert euro.lost_bps == pytest.approx(4_100 / 6_100 * 10_000)
    assert (dollar.currency, dollar.volume, dollar.fraud) == ("USD", 8_000, 0)


def test_what_is_not_mature_says_so(view):
    found = march(view)
    assert (found.is_mature, found.mature_until) == (False, "2026-03-13")
    by_day = {one.begin: one.is_mature for one in found.periods}
    assert (by_day["2026-03-10"], by_day["2026-03-12"], by_day["2026-03-13"]) == (True, True, False)
    assert march(view, to="2026-03-13").is_mature


def test_days_weeks_and_months_cut_the_same_decisions(view):
    for each, begins in (("week", ["2026-03-01", "2026-03-02", "2026-03-09", "2026-03-16"]), ("month", ["2026-03-01"])):
        found = march(view, each=each)
        assert [one.begin for one in found.periods][: len(begins)] == begins
        assert sum(one.figures.decisions for one in found.periods) == 10
    assert [one.end for one in march(view, each="week").periods][-1] == "2026-04-01"
    assert len(march(view).periods) == 31


def test_the_period_before_stands_beside(view):
    found = march(view)
    assert (found.before.decisions, found.before.frauds) == (1, 0)
    assert ask(view, **{"from": "2026-02-18", "to": "2026-02-19"}).total.decisions == 1


def test_by_a_field_a_model_and_one_value_alone(view):
    groups = march(view, by="field:country").groups
    assert [(one.value, one.kind, one.figures.decisions) for one in groups] == [
        ("DE", "value", 4), ("NL", "value", 4), (None, "missing", 2),
    ]  # fmt: skip
    assert [(one.value, one.figures.decisions) for one in march(view, by="model").groups] == [("v1", 10)]
    alone = march(view, by="field:country", value="DE")
    assert (alone.total.decisions, alone.total.frauds) == (4, 2)
    assert march(view, by="field:country", value="XX").total.decisions == 0
    assert march(view).fields == ["currency", "country"]


def test_rules_have_their_precision_and_shadows_are_apart(view):
    found = {(one.rule, one.is_shadow): one for one in march(view).rules}
    assert (found["large", False].hits, found["large", False].precision) == (2, 1.0)
    assert (found["odd", True].hits, found["odd", True].silent, found["odd", True].precision) == (2, 1, 0.0)
    block = march(view).actions[3]
    assert (block.action, block.decisions, block.frauds, block.legitimate) == ("block", 4, 1, 1)


def test_chargebacks_by_month_of_the_payment_and_by_month_of_the_news(view):
    february, of_march = ask(view, **{"from": "2026-02-18", "to": "2026-03-20"}).chargebacks
    assert (february.month, february.payments, february.of_payments) == ("2026-02", 1, 0)
    assert (of_march.payments, of_march.of_payments, of_march.told) == (6, 3, 0)  # they bear a time of 1970
    assert of_march.of_payments_bps == 5_000
    assert march(view, source="others").chargebacks[0].of_payments == 0
    assert march(view).sources == ["chargebacks"]


def test_a_view_that_has_nothing_has_figures_of_nothing(tmp_path):
    found = ask(SqliteView(tmp_path / "views.db"))
    assert (found.total.decisions, found.total.approval_rate, found.total.money) == (0, None, [])
    assert (len(found.periods), found.fields, found.counted_since) == (30, [], None)


@pytest.mark.parametrize(
    "given",
    [
        {"from": "tomorrow"}, {"from": "2026-03-01", "to": "2026-03-01"}, {"each": "year"}, {"by": "card"},
        {"by": "field:nothing"}, {"value": "DE"}, {"colour": "red"}, {"from": "1999-01-01"}, {"to": "0001-01-01"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(view, given):
    with pytest.raises(InvalidInput):
        ask(view, **given)
