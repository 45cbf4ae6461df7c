"""The queue in the database is that of the formula, whatever is in it, and its pages follow each other without gaps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidInput
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.figures import figures, quantile
from sentinel.review.case_store.queue import Filters, page_of
from sentinel.review.case_store.similar import similar_to
from sentinel.review.case_store.tables import case_events, case_payments, case_signs, cases
from sentinel.review.cases.moves import DONE, CaseState, Outcome
from sentinel.review.cases.urgency import urgency

HOUR = 3_600_000_000
DAY = 24 * HOUR
COMING = st.lists(
    st.tuples(st.integers(0, 10**9), st.floats(0, 1), st.integers(0, 10 * DAY)), min_size=1, max_size=8
)  # fmt: skip


def pages(database, asked, now_us, limit):
    found, cursor = [], None
    while True:
        with database.reading() as reader:
            page = page_of(reader, asked, now_us, limit, cursor)
        found += page.cases
        cursor, now_us = page.next, now_us + HOUR  # time goes on between two pages
        if cursor is None:
            return found


@pytest.fixture(scope="module")
def emptied(tmp_path_factory):
    """One database for all examples, which each of them begins anew."""
    database = WrittenDatabase(tmp_path_factory.mktemp("queue"))
    yield database
    database.close()


@settings(max_examples=10, deadline=None)
@given(COMING, st.integers(0, 20 * DAY), st.integers(1, 4))
def test_the_order_is_that_of_the_formula(emptied, make_office, coming, now_us, limit):
    database = emptied
    with database.writing() as writer:
        for table in (cases, case_payments, case_signs, case_events):
            writer.execute(table.delete())
    office = make_office(database)
    made = [office.comes(f"c{n}", amount=a, probability=p, now_us=at) for n, (a, p, at) in enumerate(coming)]
    by_hand = sorted(made, key=lambda one: (-urgency(one.loss, one.opened_us, one.due_us, now_us), one.number))
    assert [one.number for one in pages(database, Filters(), now_us, limit)] == [one.number for one in by_hand]
    assert office.desk.take_next(office.ana, now_us).number == by_hand[0].number


def test_the_order_is_the_same_in_every_database(office):
    made = [office.comes(f"c{n}", amount=n * n * 37 % 1_000, probability=n / 13, now_us=n * HOUR) for n in range(13)]
    by_hand = sorted(made, key=lambda one: (-urgency(one.loss, one.opened_us, one.due_us, DAY), one.number))
    assert [one.number for one in pages(office.database, Filters(), DAY, 4)] == [one.number for one in by_hand]


def test_filters(office):
    for n in range(4):
        office.comes(f"c{n}", amount=10_000 * 10**n, probability=0.5, now_us=n)
    office.desk.take(2, 1, office.ana, 10)
    office.decide(3, Outcome.FRAUD, office.bob, 11, is_fraud=True)
    office.desk.close(4, 1, "the same as 3", office.ana, 12)

    def numbers(now_us=20, **asked):
        return [one.number for one in pages(office.database, Filters(**asked), now_us, 50)]

    assert numbers() == [2, 1]
    assert numbers(holder="ana") == [2]
    assert numbers(states=DONE) == [4, 3]
    assert numbers(states=frozenset({CaseState.OPEN})) == [1]
    assert numbers(priority="high") == [2]
    assert numbers(now_us=2 * HOUR, overdue=True) == [2]
    assert numbers(key=("card", ("c0", "c1"))) == [2, 1]
    assert numbers(transaction_ids=("t1",)) == [1]
    assert numbers(transaction_ids=("its former hash", "t1")) == [1]
    assert numbers(transaction_ids=("t3",)) == []


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "1.2", "5.0x1p3.", "5.zz.1", "1.0x1p3.5.7", "9" * 5_000 + ".0x1p1.1", "9" * 23 + ".0x1p1.1",
        "5.0x1p1." + "9" * 23, "5.nan.1", "5.inf.1", "-1.0x1p1.1",
    ],
)  # fmt: skip
def test_a_cursor_that_is_none(office, cursor):
    with office.database.reading() as reader, pytest.raises(InvalidInput):
        page_of(reader, Filters(), 5, 10, cursor)


def test_similar_cases_share_what_is_said(office):
    office.comes("a", amount=5_000, signs={"rule big", "feature count"})
    office.comes("b", amount=5_000, signs={"rule big"})
    office.comes("c", amount=9_999_999, signs={"rule other"})
    office.comes("d", amount=5_000, signs={"rule big", "feature count"})
    for number, outcome in ((1, Outcome.FRAUD), (2, Outcome.LEGITIMATE), (3, Outcome.FRAUD)):
        office.decide(number, outcome, office.ana, number)
    with office.database.reading() as reader:
        found = similar_to(reader, 4, 5)
    assert [(one.case.number, one.case.outcome, round(one.alike.likeness, 2)) for one in found] == [
        (1, "fraud", 1.0), (2, "legitimate", 0.67),
    ]  # fmt: skip
    assert list(found[1].alike.shared) == ["amount of 2 digits", "rule big"]


def test_figures_count_what_was_done(office):
    for n in range(5):
        office.comes(f"c{n}", amount=10_000, probability=0.5, now_us=n * HOUR)
    office.desk.take(1, 1, office.ana, 5 * HOUR)
    office.decide(1, Outcome.FRAUD, office.ana, 6 * HOUR)
    office.decide(2, Outcome.LEGITIMATE, office.bob, 6 * HOUR)
    office.desk.close(3, 1, "", office.bob, 6 * HOUR)
    office.desk.take(4, 1, office.ana, 6 * HOUR)
    with office.database.reading() as reader:
        found = figures(reader, 7 * HOUR, 7 * DAY)
    assert (found.opened, found.decided, found.closed, found.waiting, found.in_hand, found.overdue) == (
        5,
        2,
        1,
        1,
        1,
        0,
    )
    assert found.waiting_by_age == {"under 1 h": 0, "1 to 4 h": 1, "4 to 24 h": 0, "1 to 3 d": 0, "over 3 d": 0}
    assert (found.hours_p50, found.hours_p90, found.fraud_share, found.loss, found.decimals) == (
        5.0,
        6.0,
        0.5,
        10_000,
        2,
    )
    assert found.days_to_clear == pytest.approx(2 * 7 / 3)
    assert [(one.analyst, one.taken, one.decided, one.fraud, one.has) for one in found.analysts] == [
        ("ana", 2, 1, 1, 1), ("bob", 0, 1, 0, 0),
    ]  # fmt: skip
    with office.database.reading() as reader:
        later = figures(reader, 30 * DAY, DAY)
    assert (later.opened, later.decided, later.hours_p50, later.days_to_clear, later.overdue) == (0, 0, None, None, 2)


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.5, 0.9]))
def test_the_quantile_is_the_least_that_enough_are_not_above(values, share):
    found = quantile(values, share)
    assert sum(one <= found for one in values) >= share * len(values)
    assert sum(one < found for one in values) < share * len(values)
