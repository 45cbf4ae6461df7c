"""What differs between two books, in sentences."""

import random

import msgspec
import pytest

from sentinel.policy.rules.book import Book, BookList, BookRule, Deed, book_in, text_of
from sentinel.policy.rules.changes import changes_between

LARGE = BookRule(name="large", when="amount > 800", do=Deed.REVIEW, reason="large")
ODD = BookRule(name="odd", when="amount > 700", do=Deed.BLOCK, reason="odd", owner="ana", state="shadow")
BAD = BookList(name="bad", kind="deny", by="card")


def test_each_change_is_one_sentence_and_what_is_gone_comes_last():
    after = Book((msgspec.structs.replace(LARGE, when="amount > 900", do=Deed.BLOCK), LARGE.__class__(
        name="new", when="true", do=Deed.TAG, reason="all")), (), 5.0)  # fmt: skip
    found = changes_between(Book((LARGE, ODD), (BAD,)), after)
    assert [(one.name, one.what) for one in found.rules] == [("large", "changed"), ("new", "new"), ("odd", "gone")]
    assert [(one.name, one.what) for one in found.lists] == [("bad", "gone")]
    assert found.sentences == [
        "rule large: holds when amount > 900, and not when amount > 800; does block, and not review",
        "rule new: new", "rule odd: gone", "list bad: gone",
        "a rule becomes a shadow at 5 times its band, not 10",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("owner", "ben", "is of ben, and not of nobody"), ("state", "off", "is off, and was on"),
        ("since", "2026-12-01", "holds from 2026-12-01 on, and not from ever"), ("reason", "x", 'says "x", and not "large"'),
        ("until", "2026-12-01", "holds until 2026-12-01, and not until ever"),
        ("band", (0.001, 0.004), "is expected for 0.10% to 0.40% of a day's decisions, and not for ever"),
    ],
)  # fmt: skip
def test_every_field_has_its_sentence(field, value, said):
    (change,) = changes_between(Book((LARGE,)), Book((msgspec.structs.replace(LARGE, **{field: value}),))).rules
    assert change.said == [said]


def test_another_order_is_a_change_and_a_rule_between_two_others_is_none():
    between = msgspec.structs.replace(LARGE, name="between")
    assert changes_between(Book((LARGE, ODD)), Book((ODD, LARGE))).order
    assert not changes_between(Book((LARGE, ODD)), Book((LARGE, between, ODD))).order
    assert changes_between(Book((LARGE, ODD)), Book((LARGE, ODD))).sentences == []


def test_what_changes_leads_from_one_book_to_the_other():
    """Whatever the books: without what changed they are equal, and with it each is found again."""
    rng = random.Random(5)
    for _ in range(200):
        before, after = (_book(rng) for _ in range(2))
        changed = {one.name: one for one in changes_between(before, after).rules}
        assert {one.name: one for one in before.rules} == {
            one.name: one for one in after.rules if one.name not in changed
        } | {name: one.before for name, one in changed.items() if one.before is not None}


def _book(rng):
    names = [name for name in "abcdef" if rng.random() < 0.6]
    rng.shuffle(names)
    return Book(tuple(
        BookRule(name=name, when=f"amount > {rng.randrange(3)}", do=rng.choice(list(Deed)), reason="r") for name in names
    ))  # fmt: skip


@pytest.mark.parametrize(
    "book",
    [
        Book(), Book((LARGE, ODD), (BAD,), 3.0),
        Book((msgspec.structs.replace(LARGE, name="on: #1", reason="- 'a' \"b\"\nc", band=(0.0, 0.5), since="2026-12-01"),)),
        Book((msgspec.structs.replace(LARGE, when='shop == "yes"\n  and\n amount > 1', state="off", until="2026-12-01T10:00:00Z"),)),
    ],
)  # fmt: skip
def test_a_book_that_is_written_is_read_as_the_same(book):
    assert book_in(text_of(book)) == book
