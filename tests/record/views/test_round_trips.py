"""A search asks about many buckets at once: how often it asks is counted, and what it finds is what is there."""

import random

import pytest

from sentinel.record.views import DecisionQuery
from sentinel.record.views.bucket_window import MOST_BUCKETS, PLACE_BITS, BucketWindow
from tests.record.views.test_views import as_dicts, case, found_by_hand, pages, project, view

__all__ = ["case", "view"]
BUCKETS = 300
MOST_ASKED = 60
"""Statements of a search through them all; one by one it were two for each bucket and condition."""


@pytest.fixture
def rows(view, made):
    """A decision in each of many buckets, as five million have: one of them in the oldest is rare in all ways."""
    records, found = [], []
    for n in range(1, BUCKETS):
        rare = {"card": "c2", "amount": 99.0, "action": "block"} if n == 1 else {"card": "c1", "amount": 1.0}
        one = rare | {"id": f"t{n}", "shop": "s1"}
        position = (n << PLACE_BITS) + n
        records.append(made.decided_record(position, [one], n))
        found.append(made.listed(one) | {"position": position, "received_us": n})
    project(view, made, records)
    return found


@pytest.fixture
def asked(view, monkeypatch):
    """The statements that searches send past SQLAlchemy."""
    statements, make = [], view._driver

    class Counting:
        def __init__(self, driver):
            self._driver = driver

        def execute(self, statement, values=()):
            statements.append(statement)
            return self._driver.execute(statement, values)

    monkeypatch.setattr(view, "_driver", lambda connection: Counting(make(connection)))
    return statements


@pytest.mark.parametrize(
    "query",
    [
        DecisionQuery(keys={"card": "c2"}),
        DecisionQuery(keys={"card": "c2", "shop": "s1"}),
        DecisionQuery(least_amount=90.0),
        DecisionQuery(keys={"card": "c2"}, least_amount=90.0),
        DecisionQuery(keys={"shop": "s1"}, action="block"),
        DecisionQuery(keys={"card": "nobody"}),
    ],
    ids=str,
)
def test_what_is_rare_is_found_among_many_buckets_with_few_questions(view, rows, asked, query):
    assert as_dicts(pages(view, query)) == found_by_hand(rows, query)
    assert len(asked) <= MOST_ASKED, len(asked)


def test_what_is_everywhere_is_found_in_the_newest_buckets(view, rows, asked):
    query = DecisionQuery(keys={"card": "c1"}, limit=3)
    assert as_dicts(view.search(query).rows) == found_by_hand(rows, query)[:3]
    assert len(asked) <= 6


@pytest.mark.parametrize("seed", range(20))
def test_a_window_finds_what_each_bucket_has(seed):
    chance = random.Random(seed)
    held = {chance.randrange(100) << PLACE_BITS | chance.randrange(50) for _ in range(chance.choice([0, 3, 40, 4_000]))}
    questions = []

    def ask(first, last):
        questions.append((first, last))
        assert last - first < MOST_BUCKETS
        return [one for one in held if first <= one >> PLACE_BITS <= last]

    window, bucket, found = BucketWindow(ask), 99, set()
    while bucket >= 0:
        found |= window.positions(bucket)
        newest = window.newest(bucket)
        assert newest is None or newest < bucket
        assert not any(one >> PLACE_BITS in range(bucket if newest is None else newest + 1, bucket) for one in held)
        bucket = bucket - 1 if newest is None else newest
    assert found == held
    assert len(questions) <= 100
