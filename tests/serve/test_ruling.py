"""Rules in the engine: they decide, are recorded with what they changed, and are found again by a replay, bit for bit."""

import msgspec
import numpy as np
import pytest

from sentinel.errors import BundleProblem, UnknownVersion
from sentinel.events.reference_tables.versions import LIST, SNOOZE
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.costs import Costs
from sentinel.policy.deployment import Deployment, RulesInForce
from sentinel.policy.holdout import Holdout
from sentinel.policy.rules.book import Book, BookList, BookRule, Deed
from sentinel.policy.rules.precedence import Precedence
from sentinel.policy.thresholds import ACTIONS, Thresholds
from sentinel.record.applied import apply
from sentinel.record.audit import SENTINEL, Change
from sentinel.record.entries import Decided, decided_in, own_levels
from sentinel.record.listed import Listing
from sentinel.record.log import Kind
from sentinel.review.backtest import PastHits, Tried, backtest
from sentinel.review.past_scores import past_scores
from sentinel.review.rules_again import RulesAgain
from sentinel.serve.lineup import Contender, Lineup, check_fits, load_lineup


def rule(name, when, do="review", **more):
    return BookRule(name=name, when=when, do=Deed(do), reason="because", **more)


BOOK = Book(
    (
        rule("large", "amount > 200"),
        rule("web", "channel == 'web' and count_by_card_24h >= 3", "block"),
        rule("sure", "score < 0.005", "approve"),
        rule("silent", "channel is missing", "block", state="shadow"),
        rule("seen", "amount > 250", "tag"),
        rule("no score", "score is missing", "challenge"),
    ),
    (
        BookList(name="bad", kind="deny", by="card"),
        BookList(name="good", kind="allow", by="shop"),
        BookList(name="watched", kind="watch", by="card"),
    ),
)


def in_force(book=BOOK, draft=1, **more):
    return RulesInForce(draft=draft, book=book, author="a", applied_by="b", note="", applied_at="2026-01-01", **more)


@pytest.fixture
def open_home(home_of, shop_home):
    """Opens a home in which these rules are in force."""

    def make(rules=None, thresholds=None, holdout=None, folder="home"):
        rules = rules or in_force()
        bundle = load_bundle(shop_home / "models" / "v1")
        bundle.holdout = holdout
        home = home_of(Lineup(1, Contender(bundle, thresholds, rules.acting), rules=rules), folder=folder)
        home.open()
        return home

    return make


def list_value(home, name, key, kind=LIST, **more):
    note = Change.of(SENTINEL, {}, {}, home.now_us)
    told = [Listing(key, "stolen", "anna", **more)]
    return home.engine.list_values(name, kind, told, "anna", home.now_us, note)


def by_hand(home, row, listed):
    """The rules that hold for a stored decision."""
    one = msgspec.json.decode(row.content)
    names = dict(zip(home.lineup.champion.names, row.features.tolist(), strict=True))
    score = row.fraud_probability if row.decider.degraded is None else None
    channel = one.get("channel")
    return {
        name
        for name, holds in {
            "large": one["amount"] > 200,
            "web": channel == "web" and names["count_by_card_24h"] >= 3,
            "sure": score is not None and score < 0.005,
            "silent": channel is None,
            "seen": one["amount"] > 250,
            "no score": score is None,
            "list bad": one["card"] in listed.get("bad", ()),
            "list good": one["shop"] in listed.get("good", ()),
            "list watched": one["card"] in listed.get("watched", ()),
        }.items()
        if holds
    }


def expected(model, held):
    if held & {"sure", "list good"}:
        return "approve"
    if held & {"web", "list bad"}:
        return "block"
    order = ["approve", "challenge", "review", "block"]
    wanted = [model, *(["review"] if "large" in held else []), *(["challenge"] if "no score" in held else [])]
    return max(wanted, key=order.index)


def test_rules_decide_as_by_hand_and_the_entry_keeps_what_would_have_been(open_home):
    home = open_home()
    home.pay(range(100))
    list_value(home, "bad", "card-3")
    list_value(home, "good", "shop-1")
    list_value(home, "watched", "card-4")
    listed = {"bad": {"card-3"}, "good": {"shop-1"}, "watched": {"card-4"}}
    home.now_us += 1
    home.pay(range(100, 200))
    home.handle([home.payment(i) for i in range(200, 230)], due_ns=[0] * 30)
    rows, changed = home.decisions(), 0
    for n, row in enumerate(rows):
        held = by_hand(home, row, listed if n >= 100 else {})
        decider = row.decider
        own = Thresholds(decider.review, decider.block, decider.challenge).action(row.fraud_probability)
        assert row.decision == expected(own, held)
        noted = set() if row.ruled is None else {*row.ruled.fired, *row.ruled.shadow}
        assert noted == held
        if row.ruled is not None:
            assert row.ruled.would_be == own
            assert set(row.ruled.shadow) == held & {"silent"}
            changed += row.decision != own
    assert changed > 20
    assert {row.decider.degraded for row in rows[200:]} == {"overloaded"}
    every = [name for row in rows for name in by_hand(home, row, listed)]
    assert {"large", "web", "silent", "seen", "no score"} <= set(every)
    home.assert_states_are_those_of_a_replay()


def test_an_answer_names_the_rules_that_fired_also_when_asked_again(open_home):
    home = open_home()
    answers = home.pay(range(60))
    fired = [one for one in answers if one.rules is not msgspec.UNSET]
    assert fired
    assert all("silent" not in one.rules for one in fired)
    assert {one.decision for one in fired if one.rules == ("large",)} <= {"review", "block"}
    assert all(one.would_be is not msgspec.UNSET for one in fired if {"large", "web"} & set(one.rules))
    home.reopen()
    again = home.pay(range(60))
    assert [(one.decision, one.rules, one.would_be) for one in again] == [
        (one.decision, one.rules, one.would_be) for one in answers
    ]
    assert all(one.replayed for one in again)


def test_a_backtest_of_what_was_in_force_equals_it_bit_for_bit(open_home):
    holdout = Holdout(share=0.3, most_amount=300.0, budget_a_day=1e6, seed="a seed that nobody knows")
    home = open_home(thresholds=Thresholds(review=0.01, block=0.02), holdout=holdout)
    for begin in range(0, 300, 50):
        home.pay(range(begin, begin + 50))
        home.now_us += 1_000_000
        list_value(home, "bad", f"card-{begin % 23}", until_us=home.now_us + 1_500_000)
        list_value(home, "large", f"card=card-{begin % 7}", SNOOZE, until_us=home.now_us + 2_500_000)
    manifest = home.lineup.champion.bundle.manifest
    hits = PastHits(home.lineup.champion.hits, manifest.plan.schema, home.engine.tables.tables)
    past = past_scores(home.log, "v1", manifest.plan.schema, (0, 2**60), lambda *_: None, hits)
    found = hits.found(0, len(past.scores))
    rows = home.decisions()
    named = [{*row.ruled.fired, *row.ruled.shadow} if row.ruled else set() for row in rows]
    names = np.array(home.lineup.champion.hits.names, object)
    assert [set(names[row]) for row in found] == named
    levels = Precedence(BOOK).levels(found, past.own_levels)
    assert [str(ACTIONS[level]) for level in levels] == [row.decision for row in rows]
    report = backtest(past, Tried(BOOK, hits), "v1", ("a", "b"), Costs())
    assert sum(report.was.decisions.values()) == len(rows)
    assert report.was.decisions == report.would_be.decisions
    bad = next(one for one in report.rules if one.name == "list bad")
    assert 0 < bad.hits < len(rows)
    assert any(row.drawn is not None and row.drawn.is_approved for row in rows)


def test_a_rule_that_may_decide_keeps_a_transaction_out_of_the_holdout(open_home):
    blocks = Thresholds(review=0.0, block=0.0)
    book = Book((rule("large", "amount > 100", "block"), rule("seen", "amount > 20", "tag")))
    holdout = Holdout(share=0.5, most_amount=1000.0, budget_a_day=1e9, seed="a seed that nobody knows")
    home = open_home(in_force(book), blocks, holdout)
    home.pay(range(80))
    for row in home.decisions():
        large = msgspec.json.decode(row.content)["amount"] > 100
        assert (row.drawn is None) == large
        if large:
            assert row.decision == "block"


def test_what_was_written_before_there_were_rules_is_read(open_home):
    home = open_home()
    home.pay(range(5))
    record = next(one for one in home.records() if one.kind == Kind.DECIDED)
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(record.body)[: Decided.__struct_fields__.index("ruled")])
    decided = decided_in(record._replace(body=old))
    assert decided.ruled == ()
    assert own_levels(decided).tobytes() == decided.levels


def test_each_revision_is_computed_again_by_its_own_rules(open_home):
    home = open_home()
    first = apply(home.log, lambda _: Deployment(champion="v1").with_rules(in_force()), home.now_us)
    both, other = [], in_force(Book((rule("large", "amount > 50"),)), draft=2)
    for after in (first, None):
        if after is None:
            after = apply(home.log, lambda before: before.with_rules(other), home.now_us)
            after = apply(home.log, lambda before: before.with_demoted(2, "large", "too many"), home.now_us)
        bundle = home.lineup.champion.bundle
        lineup = Lineup(after.revision, Contender(bundle, None, after.rules.acting), rules=after.rules)
        assert home.engine.switch(lineup, {}, home.now_us)
        home.lineup = lineup
        both.append(home.pay(range(len(both) * 60, len(both) * 60 + 60)))
    assert after.rules.before == (0, 1)
    again = RulesAgain(home.log, home.engine.tables.tables)
    manifest, rows = home.lineup.champion.bundle.manifest, home.decisions()
    assert {row.revision for row in rows} == {first.revision, after.revision}
    for some in (rows[:60], rows[60:]):
        scores = np.array([row.fraud_probability for row in some])
        own = Thresholds(some[0].decider.review, some[0].decider.block).levels(scores)
        levels, names = again.ruled(manifest, some, scores, own)
        assert [str(ACTIONS[level]) for level in levels] == [row.decision for row in some]
        assert [set(one) for one in names] == [
            {*row.ruled.fired, *row.ruled.shadow} if row.ruled else set() for row in some
        ]
    assert any(row.ruled and row.ruled.shadow == ("large",) for row in rows[60:])


def test_a_model_that_the_rules_do_not_fit_is_refused(shop_home):
    bundle = load_bundle(shop_home / "models" / "v1")
    check_fits(in_force(), bundle)
    check_fits(None, bundle)
    odd = in_force(Book((rule("odd", "cards_limit > 5"),)))
    with pytest.raises(UnknownVersion, match="the rules in force do not fit v1; apply others first: rule 'odd'"):
        check_fits(odd, bundle)
    with pytest.raises(BundleProblem, match="the rules in force do not fit v1: rule 'odd': there is no cards_limit"):
        load_lineup(Deployment(champion="v1", rules=odd), Registry(shop_home / "models"))
