import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from sentinel.errors import InvalidDefinition
from sentinel.events.schema import Schema
from sentinel.policy.rules.book import Book, BookRule, decided_levels, names_of, read_book
from sentinel.policy.rules.hits import BookHits
from sentinel.policy.thresholds import ACTIONS, Action

SCHEMA = Schema(
    keys=("card_id", "shop"), categories=("country",), numbers=("risk",), secret=("card_id",), optional=("country",),
    times=("opened_at",),
)  # fmt: skip
FEATURES = ("amount", "country", "count_by_card_id_1h")


def rule(do="review", when="true", name="r", **more):
    return BookRule(name=name, when=when, do=Action(do), reason="because", **more)


def decide(rules, model, now_us=0):
    """The action for one transaction of which all of these rules hold."""
    levels = np.array([ACTIONS.index(Action(model))], np.uint8)
    found = decided_levels(Book(tuple(rules)), np.ones((1, len(rules)), np.bool_), levels, np.array([now_us]))
    return str(ACTIONS[found[0]])


@pytest.mark.parametrize("model", list(Action))
@pytest.mark.parametrize("acts", [c for n in range(5) for c in itertools.combinations(Action, n)])
def test_the_order_of_precedence(model, acts):
    found = decide([rule(do, name=do) for do in acts], model)
    if "approve" in acts:
        assert found == "approve"
    elif "block" in acts:
        assert found == "block"
    else:
        order = ["approve", "challenge", "review", "block"]
        assert found == max([model, *acts], key=order.index)


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
    assert (sorted(hits.numbers), hits.texts) == (["amount", "risk"], ("country",))
    payments = [
        SimpleNamespace(amount=11.0, country="de", risk=0.1),
        SimpleNamespace(amount=11.0, country=None, risk=None),
    ]
    features = np.array([[0.0, 7.0, 3.0], [0.0, 8.0, math.nan]])
    found = hits.of(payments, features, np.array([0.4, 0.5]))
    assert found.tolist() == [[True, False, True, False], [False, True, True, True]]
    assert hits.of([], features[:0], np.empty(0)).shape == (0, 4)


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
