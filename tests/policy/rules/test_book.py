import itertools
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import UNSET

from sentinel.errors import InvalidDefinition
from sentinel.events.reference_tables.versions import LIST, SNOOZE, Row, Tables
from sentinel.events.schema import Schema
from sentinel.policy.rules.book import Book, BookList, BookRule, Deed, names_of, read_book
from sentinel.policy.rules.hits import BookHits
from sentinel.policy.rules.precedence import Precedence
from sentinel.policy.thresholds import ACTIONS, Action

SCHEMA = Schema(
    keys=("card_id", "shop"), categories=("country",), numbers=("risk",), secret=("card_id",), optional=("country",),
    times=("opened_at",),
)  # fmt: skip
FEATURES = ("amount", "country", "count_by_card_id_1h")


def rule(do="review", when="true", name="r", **more):
    return BookRule(name=name, when=when, do=Deed(do), reason="because", **more)


def decide(rules, model, now_us=0):
    """The action for one transaction of which all of these rules hold."""
    levels = np.array([ACTIONS.index(Action(model))], np.uint8)
    precedence = Precedence(Book(tuple(rules)))
    found = precedence.levels(precedence.in_time(np.array([now_us])), levels)
    return str(ACTIONS[found[0]])


@pytest.mark.parametrize("model", list(Action))
@pytest.mark.parametrize("acts", [c for n in range(6) for c in itertools.combinations(Deed, n)])
def test_the_order_of_precedence(model, acts):
    found = decide([rule(do, name=do) for do in acts], model)
    if "approve" in acts:
        assert found == "approve"
    elif "block" in acts:
        assert found == "block"
    else:
        order = ["approve", "challenge", "review", "block"]
        assert found == max([model, *(one for one in acts if one != "tag")], key=order.index)


def test_a_rule_decides_only_while_it_is_on_and_within_its_time():
    assert decide([rule("block", state="shadow")], "approve") == "approve"
    assert decide([rule("block", state="off")], "approve") == "approve"
    soon = rule("block", since="1970-01-01T00:00:01Z", until="1970-01-01T00:00:02Z")
    assert [decide([soon], "approve", at) for at in (999_999, 1_000_000, 1_999_999, 2_000_000)] == [
        "approve", "block", "block", "approve",
    ]  # fmt: skip


def test_rules_hold_over_fields_features_and_the_score():
    book = Book((
        rule(when="amount > 10 and country == 'de'", name="a"), rule(when="score >= 0.5", name="b"),
        rule(when="count_by_card_id_1h > 2 or risk is missing", name="c"), rule(when="country is missing", name="d"),
    ))  # fmt: skip
    hits = BookHits(book, SCHEMA, FEATURES)
    assert (sorted(hits.numbers), hits.texts) == (["amount", "risk"], ("country", "card_id", "shop"))
    payments = [
        SimpleNamespace(amount=11.0, country="de", risk=0.1),
        SimpleNamespace(amount=11.0, country=None, risk=None),
    ]
    features = np.array([[0.0, 7.0, 3.0], [0.0, 8.0, math.nan]])
    found = hits.of(payments, features, np.array([0.4, 0.5]), Tables(), np.zeros(2, np.int64))
    assert found.tolist() == [[True, False, True, False], [False, True, True, True]]
    assert hits.of([], features[:0], np.empty(0), Tables(), np.empty(0, np.int64)).shape == (0, 4)


def payment(**fields):
    known = {"amount": 5.0, "country": "de", "risk": 0.1, "card_id": "c1", "shop": "s1", "hashed_before": UNSET}
    return SimpleNamespace(**known | fields)


def held_at(book, payments, times_us, tables, scores=None):
    hits = BookHits(book, SCHEMA, FEATURES)
    given = np.zeros(len(payments)) if scores is None else np.array(scores)
    found = hits.of(payments, np.zeros((len(payments), 3)), given, tables, np.array(times_us))
    return [{name for name, holds in zip(hits.names, row, strict=True) if holds} for row in found.tolist()]


def test_a_list_is_asked_as_of_the_moment_of_the_decision_and_what_it_does_by_itself_is_a_rule():
    lists = (
        BookList(name="good", kind="allow", by="shop"), BookList(name="bad", kind="deny", by="card_id"),
        BookList(name="odd", kind="watch", by="country"), BookList(name="home", kind="custom", by="country"),
    )  # fmt: skip
    book = Book((rule(when="country not in list('home')", name="abroad"),), lists)
    assert [(one.name, one.do) for one in book.all_rules] == [
        ("list good", "approve"), ("list bad", "block"), ("list odd", "tag"), ("abroad", "review"),
    ]  # fmt: skip
    tables = Tables()
    tables.of("bad", LIST).put([Row("c1", 10, b"{}"), Row("c1", 20, b"")], 9)
    tables.of("home", LIST).put([Row("de", 15, b"{}")], 9)
    tables.of("good", LIST).put([Row("s1", 15, b"{}")], 9)
    tables.of("odd", LIST).put([Row("xx", 0, b"{}")], 9)
    seen = held_at(book, [payment()] * 4, [9, 10, 19, 20], tables)
    assert seen == [{"abroad"}, {"list bad", "abroad"}, {"list good", "list bad"}, {"list good"}]
    assert held_at(book, [payment(country=None), payment(country="xx")], [9, 9], tables) == [
        set(),
        {"list odd", "abroad"},
    ]
    changed = payment(card_id="new", hashed_before={"card_id": "c1"})
    assert held_at(book, [changed], [10], tables) == [{"list bad", "abroad"}]


def test_a_rule_sleeps_for_one_key_and_for_no_other():
    tables = Tables()
    tables.of("r", SNOOZE).put([Row("card_id=c1", 10, b"{}"), Row("card_id=c1", 20, b"")], 9)
    payments = [payment(), payment(card_id="c2"), payment(card_id=None, shop="c1")]
    book = Book((rule(), rule(name="other")))
    assert held_at(book, payments, [10] * 3, tables) == [{"other"}, {"r", "other"}, {"r", "other"}]
    assert held_at(book, payments[:1], [20], tables) == [{"r", "other"}]


def test_off_and_out_of_time_holds_for_nothing_and_a_score_that_is_not_there_is_missing():
    book = Book((
        rule(name="off", state="off"), rule(name="late", since="1970-01-01T00:00:01Z"),
        rule(name="high", when="score > 0.5"), rule(name="low", when="score <= 0.5"), rule(name="none", when="score is missing"),
    ))  # fmt: skip
    seen = held_at(book, [payment()] * 3, [0, 1_000_000, 0], Tables(), [0.9, 0.1, math.nan])
    assert seen == [{"high"}, {"late", "low"}, {"none"}]


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("card_id == 'c1'", "card_id is kept as a hash: it can be missing, or be on a list"),
        ("'c1' == card_id", "kept as a hash"),
        ("card_id in ('c1', 'c2')", "kept as a hash: write card_id in list"),
        ("card_id in list('home')", "card_id is kept as a hash, and the list home is of texts"),
        ("country in list('bad')", "country is kept as text, and the list bad is of hashes"),
        ("country in list('hom')", "there is no list hom; did you mean home?"),
        ("amount in list('home')", "only texts are on lists"),
    ],
)
def test_what_cannot_be_asked_of_a_list_is_refused(when, why):
    lists = (BookList(name="bad", kind="custom", by="card_id"), BookList(name="home", kind="custom", by="country"))
    with pytest.raises(InvalidDefinition, match=re.escape(why)):
        BookHits(Book((rule(when=when),), lists), SCHEMA, FEATURES)
    assert BookHits(Book((rule(when="card_id is missing or not card_id in list('bad')"),), lists), SCHEMA, FEATURES)


def test_a_list_of_a_number_is_refused_and_so_is_a_name_that_is_no_word():
    with pytest.raises(InvalidDefinition, match="'amount', no text of transactions"):
        BookHits(Book((), (BookList(name="big", kind="deny", by="amount"),)), SCHEMA, FEATURES)
    with pytest.raises(InvalidDefinition, match="is a word"):
        BookList(name="no word", kind="deny", by="shop")
    with pytest.raises(InvalidDefinition, match="two rules have the name 'list bad'"):
        Book((rule(name="list bad"),), (BookList(name="bad", kind="deny", by="shop"),))


def test_a_demoted_rule_is_a_shadow_and_a_demoted_list_does_nothing_by_itself():
    book = Book((rule(), rule(name="off", state="off")), (BookList(name="bad", kind="deny", by="shop"),))
    calm = book.with_shadows(("r", "off", "list bad"))
    assert [(one.name, one.state) for one in calm.all_rules] == [("r", "shadow"), ("off", "off")]
    assert calm.list_of("bad").kind == "custom"


def test_what_is_kept_as_a_hash_cannot_be_compared_and_a_field_hides_a_feature():
    names = names_of(SCHEMA, FEATURES)
    assert "card_id" not in (*names.numbers, *names.texts)
    assert "opened_at" not in names.numbers
    assert (names.numbers.count("amount"), "country" in names.numbers, "country" in names.texts) == (1, False, True)


GOOD = """
rules:
  - name: burst
    when: amount > 500 and count_by_card_id_1h >= 3
    do: review
    reason: many payments in an hour
    state: shadow
    from: 2026-12-01
    until: 2026-12-24T18:00:00+01:00
  - {name: off, when: "country in ('de', 'at')", do: block, reason: x, state: off, owner: anna}
"""


def test_a_file_is_read_as_people_write_it(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    burst, off = read_book(path).rules
    assert (burst.state, burst.since, burst.until) == ("shadow", "2026-12-01T00:00:00Z", "2026-12-24T18:00:00+01:00")
    assert (off.state, off.owner, off.do) == ("off", "anna", Action.BLOCK)
    path.write_text("rules: [{name: a, when: 'true', do: block, reason: b, state: on}]")
    assert read_book(path).rules[0].state == "on"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no rules; begin with a line `rules:`"),
        ("- a", "has no rules"),
        ("rules: {a: 1}", "has no rules"),
        ("rules: [a]", "Expected `object`"),
        ("rules: [{name: a, when: 'true', do: stop, reason: b}]", "Invalid enum value 'stop'"),
        ("rules: [{name: a, wen: 'true', do: block, reason: b}]", r"rules.yaml: rules\[0\] has no field 'wen'; the nearest is when"),
        ("rules: [{name: a, when: 'true', do: block}]", "missing required field `reason`"),
        ("rules: [{name: '', when: 'true', do: block, reason: b}]", "a rule needs a name"),
        ("rules: [{name: a, when: 'true', do: block, reason: b, until: soon}]", "from and until are ISO 8601"),
        ("rules: [{name: a, when: 'true', do: block, reason: b, from: 2026-01-02, until: 2026-01-01}]", "must be before until"),
        ("rules: [{name: a, when: 'true', do: block, reason: b}, {name: a, when: 'true', do: block, reason: b}]",
         "two rules have the name 'a'"),
        ("rules: [", "is no YAML"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, text, why):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(InvalidDefinition, match=why):
        read_book(path)


def test_all_that_cannot_be_read_is_told_at_once():
    book = Book((rule(when="amuont > 1", name="one"), rule(name="two"), rule(when="country > 2", name="three")))
    with pytest.raises(InvalidDefinition) as refused:
        BookHits(book, SCHEMA, FEATURES)
    assert "rule 'one': there is no amuont; did you mean amount?" in str(refused.value)
    assert "rule 'three': a text cannot be compared with a number" in str(refused.value)


def test_a_book_with_very_many_rules_is_refused_before_they_are_compared():
    many = tuple(rule(name=f"r{n}") for n in range(100_000))
    with pytest.raises(InvalidDefinition, match="100,000 rules"):
        Book(many)
    with pytest.raises(InvalidDefinition, match="two rules have the name 'r7'"):
        Book((*many[:900], many[7]))


def test_of_very_many_rules_that_cannot_be_read_the_first_are_told():
    book = Book(tuple(rule(name=f"r{n}", when=f"no_such_{n} > 1") for n in range(1_000)))
    with pytest.raises(InvalidDefinition) as refused:
        BookHits(book, SCHEMA, FEATURES)
    assert str(refused.value).count("there is no no_such_") == 20
    assert "not looked at" in str(refused.value)


@pytest.mark.parametrize("field", ["name", "when", "reason", "owner"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("country == '4111 1111 1111 1111'", "card number"),
        ("\u202eevil", "cannot be seen"),
        ("\x1b[2J", "cannot be seen"),
    ],
)
def test_what_stays_for_ever_has_no_card_number_and_nothing_unseen(tmp_path, field, text, said):
    written = {"name": "r", "when": "true", "do": "tag", "reason": "because"} | {field: text}
    (tmp_path / "rules.yaml").write_text(json.dumps({"rules": [written]}))
    with pytest.raises(InvalidDefinition) as refused:
        read_book(tmp_path / "rules.yaml")
    assert said in str(refused.value) or field == "name"
    assert "4111" not in str(refused.value)


def test_a_reason_may_have_lines():
    Book((rule(name="r"),), (BookList(name="deny", kind="deny", by="shop", reason="stolen\nin May"),)).check_texts()
