"""What rules would have done with a stored period, against going through it by hand."""

import random
from collections import Counter

import numpy as np
import pytest

from sentinel import Costs
from sentinel.events.reference_tables.versions import Tables
from sentinel.policy.rules.book import Book, BookRule, Deed
from sentinel.policy.rules.hits import BookHits
from sentinel.policy.thresholds import Action
from sentinel.record.log import Kind
from sentinel.review import backtest as under_test
from sentinel.review.backtest import PastHits, Several, Tried, backtest
from sentinel.review.past_scores import newest_scores, past_scores

DAY_US = 86_400_000_000
BOOK = Book((
    BookRule(name="large", when="amount > 100", do=Deed.REVIEW, reason="large"),
    BookRule(name="shop", when="shop == 's2' and score < 0.9", do=Deed.BLOCK, reason="shop"),
    BookRule(name="known", when="card in ('c1', 'c9')", do=Deed.APPROVE, reason="known", until="1970-01-11T00:00:00Z"),
    BookRule(name="quiet", when="height >= 250", do=Deed.BLOCK, reason="a feature", state="shadow"),
    BookRule(name="never", when="false", do=Deed.CHALLENGE, reason="never"),
))  # fmt: skip
HOLDS = {
    "large": lambda row: row["amount"] > 100, "shop": lambda row: row["shop"] == "s2" and row["score"] < 0.9,
    "known": lambda row: row["card"] in ("c1", "c9") and row["day"] < 10, "quiet": lambda row: row["amount"] >= 250,
    "never": lambda _: False,
}  # fmt: skip


def by_hand(row):
    held = {name for name, holds in HOLDS.items() if holds(row)}
    if "known" in held:
        return "approve"
    if "shop" in held:
        return "block"
    return "review" if "large" in held and row["action"] in ("approve", "challenge") else row["action"]


@pytest.fixture
def told(fake_log, made):
    log, rng, rows, truth = fake_log.FakeLog(), random.Random(7), {}, {}
    for day in range(20):
        batch = [
            {"id": f"t{day}-{n}", "score": rng.choice([0.1, 0.5, 0.95]), "amount": rng.choice([10.0, 120.0, 250.0]),
             "action": rng.choice(["approve", "approve", "challenge", "review", "block"]),
             "version": rng.choice(["v1", "v1", "v2"]), "variant": rng.choice([None, "a"]),
             "degraded": rng.choice([None, None, None, "overloaded"]),
             "shop": rng.choice(["s1", "s2", None]), "card": rng.choice(["c1", "c2", None])}
            for n in range(9)
        ]  # fmt: skip
        position = log.write(Kind.DECIDED, len(batch), day * DAY_US + 1, made.decided(batch))
        rows |= {position + n: row | {"day": day} for n, row in enumerate(batch)}
        about = [position + n for n in range(len(batch)) if rng.random() < 0.6]
        outcomes = [{"id": rows[one]["id"], "is_fraud": rng.random() < 0.5, "about": one} for one in about]
        log.write(Kind.OUTCOMES, len(about), day * DAY_US + 2, made.outcomes(outcomes))
        truth |= {one["about"]: one["is_fraud"] for one in outcomes}
    return log, {at: row for at, row in rows.items() if row["version"] == "v1" and row["degraded"] is None}, truth


def test_of_very_many_rules_each_names_those_it_shares_most_with(told, made, monkeypatch):
    monkeypatch.setattr(under_test, "_MOST_OVERLAPS", 1)
    log, rows, _ = told
    hits = PastHits(BookHits(BOOK, made.SCHEMA, ("height",)), made.SCHEMA, Tables())
    past = past_scores(log, "v1", made.SCHEMA, (0, 2**60), lambda *_: None, hits)
    for rule in backtest(past, Tried(BOOK, hits), "v1", ("a", "b"), Costs()).rules:
        held = [row for row in rows.values() if HOLDS[rule.name](row)]
        both = [sum(map(holds, held)) for name, holds in HOLDS.items() if name != rule.name]
        assert list(rule.overlaps.values()) == [max(both)][: bool(max(both))]


@pytest.mark.parametrize("at_once", [7, 10_000])
def test_it_is_what_one_finds_by_hand(told, made, monkeypatch, at_once):
    monkeypatch.setattr(under_test, "_AT_ONCE", at_once)
    monkeypatch.setattr(under_test, "_FEWEST_A_DAY", 1)
    log, rows, truth = told
    hits = PastHits(BookHits(BOOK, made.SCHEMA, ("height",)), made.SCHEMA, Tables())
    past = past_scores(log, "v1", made.SCHEMA, (0, 2**60), lambda *_: None, hits)
    found = backtest(past, Tried(BOOK, hits), "v1", ("a", "b"), Costs())
    per_day = Counter(row["day"] for row in rows.values())
    would = {at: by_hand(row) for at, row in rows.items()}
    assert found.transactions == len(rows)
    assert found.would_be.decisions == {str(one): [*would.values()].count(one) for one in Action}
    alarms = [at for at in would if at in truth and would[at] != "approve"]
    assert found.would_be.caught == sum(truth[at] for at in alarms)
    for rule in found.rules:
        held = {at: row for at, row in rows.items() if HOLDS[rule.name](row)}
        frauds = [at for at in held if truth.get(at)]
        approved = [at for at in frauds if rows[at]["action"] == "approve"]
        assert (rule.hits, rule.judged, rule.frauds) == (len(held), len(held.keys() & truth), len(frauds))
        assert rule.alone == sum(sum(holds(row) for holds in HOLDS.values()) == 1 for row in held.values())
        assert (rule.approved_frauds, rule.approved_amount) == (
            len(approved),
            sum(rows[at]["amount"] for at in approved),
        )
        days = [row["day"] for row in held.values()]
        assert rule.busiest_day == max(map(days.count, days), default=0)
        assert rule.by_day == [days.count(day) for day in sorted(per_day)]
        both = {name: sum(map(holds, held.values())) for name, holds in HOLDS.items() if name != rule.name}
        assert rule.overlaps == {name: count for name, count in both.items() if count}
        shares = [days.count(day) / per_day[day] for day in per_day]
        assert rule.band == pytest.approx((min(shares), max(shares)))
        assert rule.precision == (pytest.approx(len(frauds) / rule.judged) if rule.judged else None)


def test_the_newest_are_the_end_of_all(told, made):
    log, _, _ = told
    everything = past_scores(log, "v1", made.SCHEMA, (0, 2**60), lambda *_: None)
    for most in (1, 7, 30, 10_000):
        found = newest_scores(log, "v1", made.SCHEMA, most)
        n = len(found.scores)
        assert min(most, len(everything.scores)) <= n < most + 9  # a record more at most
        for name in ("scores", "levels", "labels", "received_us"):
            np.testing.assert_array_equal(getattr(found, name), getattr(everything, name)[-n:])
    assert newest_scores(log, "v9", made.SCHEMA, 5) is None


def test_beside_it_stands_what_is_in_force(told, made):
    """Of the same decisions, each book by its own rules."""
    log, _, _ = told
    own, other = Book(BOOK.rules[:1]), BOOK
    tried = [
        Tried(one, PastHits(BookHits(one, made.SCHEMA, ("height",)), made.SCHEMA, Tables())) for one in (own, other)
    ]
    both = Several(*(one.hits for one in tried))
    past = past_scores(log, "v1", made.SCHEMA, (0, 2**60), lambda *_: None, both)
    found = backtest(past, tried[0], "v1", ("a", "b"), Costs(), tried[1])
    turned = backtest(past, tried[1], "v1", ("a", "b"), Costs(), tried[0])
    assert (found.would_be, found.in_force) == (turned.in_force, turned.would_be)
    assert found.would_be != found.in_force
    assert backtest(past, tried[0], "v1", ("a", "b"), Costs()).in_force is None


def test_fields_of_another_schema_are_missing_and_features_are_not(fake_log, made):
    log = fake_log.FakeLog()
    log.write(Kind.DECIDED, 1, 5, made.decided([{"id": "x", "amount": 300.0}], "another"))
    hits = PastHits(BookHits(BOOK, made.SCHEMA, ("height",)), made.SCHEMA, Tables())
    past = past_scores(log, "v1", made.SCHEMA, (0, 2**60), lambda *_: None, hits)
    assert hits.found(0, 1).tolist() == [[False, False, False, True, False]]
    assert len(past.scores) == 1
