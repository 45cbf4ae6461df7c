"""Editing a book: a form becomes a rule of it, and what is wrong is told with its place."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.card_numbers import masked, quoted
from sentinel.model.bundle import Manifest
from sentinel.policy.rules.book import SCORE, Book, BookRule, names_of
from sentinel.policy.rules.reading import RESERVED, Names, column_text, read_condition
from sentinel.policy.rules.words import RuleFault
from sentinel.transport.console.feature_words import words_of

_WORD = re.compile(r"\w+|\S")
RULE_FIELDS = ("name", "when", "do", "reason", "owner", "state", "from", "until")


class Fault(NamedTuple):
    """What is wrong with a field of a rule; in a condition at the character `place`, counted from 0.

    `line` is the line of it then, in three parts: before the word at that place, the word, and what comes after it.
    """

    rule: str
    field: str
    said: str
    place: int | None = None
    line: tuple[str, str, str] = ("", "", "")


class Word(NamedTuple):
    """Something that can be written in a condition: `text` is put in, `what` says what it is."""

    text: str
    what: str


def rule_in(form: Mapping[str, str]) -> BookRule:
    """The rule that a form says; what is left empty is as usual. Raises InvalidDefinition."""
    given: dict[str, Any] = {name: form[name].strip() for name in RULE_FIELDS if form.get(name, "").strip()}
    low, high = (form.get(name, "").strip() for name in ("least", "most"))
    if low or high:
        given["band"] = _share(low or "0"), _share(high or "100")
    for name in ("name", "when", "do", "reason"):
        given.setdefault(name, "")
    if not given["reason"]:
        raise InvalidDefinition("a rule needs a reason, in words for whoever looks at the payment")
    try:
        return msgspec.convert(given, BookRule)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(str(error).split(" - at")[0]) from None


def _share(text: str) -> float:
    try:
        return float(text.rstrip("%\u202f ").replace(",", ".")) / 100
    except ValueError:
        raise InvalidDefinition(f"{quoted(text, 20)} is no share in percent, as 0.4") from None


def with_rule(book: Book, was: str, rule: BookRule, place: int | None) -> Book:
    """The book with a rule in the place of the one of the name `was`, or as a new one, before the one at `place`.

    Raises InvalidDefinition for a name that another rule has.
    """
    rules = [one for one in book.rules if one.name != was]
    before = next((n for n, one in enumerate(book.rules) if one.name == was), len(rules))
    rules.insert(before if place is None else max(min(place, len(rules)), 0), rule)
    return Book(tuple(rules), book.lists, book.demote_at)


def without_rule(book: Book, name: str) -> Book:
    """The book without a rule. Raises InvalidDefinition where there is none of that name."""
    kept = tuple(one for one in book.rules if one.name != name)
    if len(kept) == len(book.rules):
        raise InvalidDefinition(f"there is no rule {quoted(name, 80)} in this book any more")
    return Book(kept, book.lists, book.demote_at)


def faults_of(rules: Sequence[BookRule], names: Names) -> list[Fault]:
    """What cannot be read in the conditions of these rules, the first fault of each."""
    found = []
    for rule in rules:
        try:
            read_condition(rule.when, names)
        except RuleFault as fault:
            found.append(Fault(rule.name, "when", fault.why, fault.place, _line_at(rule.when, fault.place)))
    return found


def _line_at(text: str, place: int) -> tuple[str, str, str]:
    r"""The line that a character stands in, parted around the word there, of which at most 200 characters are told.

    >>> _line_at("amount > 1 and\namuont > 2", 15)
    ('', 'amuont', ' > 2')
    """
    before = text[:place].rpartition("\n")[2][-100:]
    rest = text[place:].partition("\n")[0]
    word = _WORD.match(rest)
    end = word.end() if word else 0
    return before, rest[:end][:100] or " ", rest[end:][:100]


def names_for(manifest: Manifest, book: Book) -> Names:
    """What the conditions of a book may speak of. Raises InvalidDefinition for a list that cannot be."""
    return names_of(manifest.plan.schema, manifest.plan.names, book.lists)


def words_for(manifest: Manifest, book: Book) -> list[Word]:
    """All that can be written, in the order in which it is offered."""
    names = names_for(manifest, book)
    features = {one.name: manifest.reasons.get(one.name) or words_of(one) for one in manifest.plan.features}
    fields = set(manifest.plan.schema.whole_numbers) | set(manifest.plan.schema.plain_numbers)

    def what(name: str) -> str:
        if name == SCORE:
            return "fraud probability of the model"
        return features.get(name, "a number of the payment") if name not in fields else "a number of the payment"

    found = [Word(column_text(name), what(name)) for name in names.numbers]
    found += [Word(column_text(name), "a text of the payment") for name in names.texts]
    found += [Word(column_text(name), "kept as a hash: in list(...) or is missing") for name in names.hashed]
    found += [Word(f'list("{one.name}")', f"list of {one.by}, {one.kind}") for one in book.lists]
    signs = {"abs": "abs(x)", "min": "min(x, y)", "max": "max(x, y)"}
    found += [Word(f"{one}(", signs[one]) if one in signs else Word(one, "a word of the language")
              for one in sorted(RESERVED - {"list"})]  # fmt: skip
    return found


def from_payment(transaction: Mapping[str, Any], manifest: Manifest, moved: Sequence[str]) -> str:
    """A condition that holds for a payment: its amount, its open texts, and the features that spoke for fraud."""
    schema = manifest.plan.schema
    parts = []
    amount = transaction.get(schema.amount)
    if isinstance(amount, int | float):
        parts.append(f"{column_text(schema.amount)} >= {amount}")
    for name in schema.texts:
        value = transaction.get(name)
        if name in schema.hidden or not isinstance(value, str) or masked(value) != value or not value.isprintable():
            continue
        written = value.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'{column_text(name)} == "{written}"')
    parts += moved
    return " and\n".join(parts) or "true"


def rounded_down(value: float) -> str:
    """A number of at most four digits that is not above it.

    >>> rounded_down(222.30167), rounded_down(-1.99999), rounded_down(3.0), rounded_down(0.0), rounded_down(123456.7)
    ('222.3', '-2', '3', '0', '123400')
    """
    if not value:
        return "0"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return f"{math.floor(value / step) * step:.10g}"
