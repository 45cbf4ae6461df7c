"""A book of rules and lists: what people add to the decisions of a model, as a file says it.

Which rule wins is in `precedence.py`. Rules in `shadow` are counted and decide nothing.
"""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from msgspec.structs import fields

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.schema import Schema
from sentinel.events.times import instant_us
from sentinel.policy.rules.reading import Names, column_text, read_condition
from sentinel.policy.rules.tree import Condition
from sentinel.policy.rules.words import RuleFault
from sentinel.policy.written_files import check_known, read_yaml, yaml_in

MOST_RULES = 1_000
MOST_LISTS = 200
_MOST_FAULTS = 20
SCORE = "score"
"""The name of the model's fraud probability. It is missing where no model has answered."""


class Deed(StrEnum):
    """What a rule does with a transaction; a `tag` is told with the decision, and decides nothing."""

    APPROVE = "approve"
    CHALLENGE = "challenge"
    REVIEW = "review"
    BLOCK = "block"
    TAG = "tag"


class BookRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"since": "from"}):
    """A rule: when `when` holds, `do` this, for this `reason`, in words for an analyst.

    `state` is `on`, `shadow` (counted, decides nothing) or `off`. It holds from `from` until before `until` (ISO 8601),
    by the moment of the decision; None is always. `owner` is whom to ask about it. `band` is the lowest and the highest
    share of a day's decisions that it is expected to hold for.
    """

    name: str
    when: str
    do: Deed
    reason: str
    owner: str = ""
    state: Literal["on", "shadow", "off"] = "on"
    since: str | None = None
    until: str | None = None
    band: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 80 or not self.name.isprintable():
            raise InvalidDefinition("a rule needs a name of at most 80 characters, all of them printable")
        if len(self.reason) > 500 or len(self.owner) > 200:
            raise InvalidDefinition(f"rule {self.name!r}: a reason has at most 500 characters, an owner 200")
        begin, end = self.period_us
        if begin >= end:
            raise InvalidDefinition(f"rule {self.name!r}: from ({self.since}) must be before until ({self.until})")
        if self.band is not None and not 0.0 <= self.band[0] <= self.band[1] <= 1.0:
            raise InvalidDefinition(f"rule {self.name!r}: band is two shares of decisions, as [0.001, 0.004]")

    @property
    def period_us(self) -> tuple[float, float]:
        """From when until before when it holds, microseconds since 1970."""
        try:
            return (
                -math.inf if self.since is None else instant_us(self.since),
                math.inf if self.until is None else instant_us(self.until),
            )
        except InvalidInput as error:
            raise InvalidDefinition(f"rule {self.name!r}: from and until are ISO 8601: {error}") from None


class BookList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A list of values of the field `by`; its entries are told apart from the book.

    `allow`: transactions with such a value are approved. `deny`: they are blocked. `watch`: they are tagged. `custom`:
    nothing but what rules ask of it, as they may of each.
    """

    name: str
    kind: Literal["allow", "deny", "watch", "custom"]
    by: str
    reason: str = ""
    owner: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or len(self.name) > 60:
            raise InvalidDefinition("the name of a list is a word of at most 60 letters, digits and _, as deny_cards")

    @property
    def rule(self) -> BookRule | None:
        """What it does by itself, as a rule."""
        deeds = {"allow": Deed.APPROVE, "deny": Deed.BLOCK, "watch": Deed.TAG}
        if self.kind == "custom":
            return None
        when = f'{column_text(self.by)} in list("{self.name}")'
        reason = self.reason or f"{self.by} is on the list {self.name}"
        return BookRule(name=f"list {self.name}", when=when, do=deeds[self.kind], reason=reason, owner=self.owner)


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Lists, and rules, each with a name of its own, in the order in which their reasons are told.

    A rule that holds for more than `demote_at` times the highest share of its band becomes a shadow.
    """

    rules: tuple[BookRule, ...] = ()
    lists: tuple[BookList, ...] = ()
    demote_at: float = 10.0

    def __post_init__(self) -> None:
        if len(self.rules) > MOST_RULES or len(self.lists) > MOST_LISTS:
            raise InvalidDefinition(
                f"{len(self.rules):,} rules and {len(self.lists):,} lists; at most {MOST_RULES:,} and {MOST_LISTS:,}"
            )
        for what, given in (("rules", self.all_rules), ("lists", self.lists)):
            twice = sorted(name for name, n in Counter(one.name for one in given).items() if n > 1)
            if twice:
                raise InvalidDefinition(f"two {what} have the name {twice[0]!r}")
        if not 1.0 < self.demote_at < math.inf:
            raise InvalidDefinition(f"demote_at is {self.demote_at}; give a factor above 1")

    @cached_property
    def all_rules(self) -> tuple[BookRule, ...]:
        """What lists do by themselves, then the rules."""
        return (*(one.rule for one in self.lists if one.rule is not None), *self.rules)

    def check_texts(self) -> None:
        """Raise InvalidDefinition for what the log is not to keep for ever and show to everyone who reads.

        That are card numbers, which can be put on a list, and signs that move a screen or turn a text around.
        """
        written: tuple[BookRule | BookList, ...] = (*self.rules, *self.lists)
        for one in written:
            texts = [value for value in msgspec.structs.astuple(one) if isinstance(value, str)]
            name = quoted(one.name, 80)
            if any(masked(text) != text for text in texts):
                raise InvalidDefinition(f"{name} has a card number in it; put it on a list, and ask for that")
            if not all(text.replace("\n", " ").replace("\t", " ").isprintable() for text in texts):
                raise InvalidDefinition(f"{name} has signs in it that cannot be seen; write it anew")

    def list_of(self, name: str) -> BookList | None:
        """The list of this name."""
        return next((one for one in self.lists if one.name == name), None)

    def conditions(self, names: Names) -> list[Condition]:
        """What each of all rules asks. Raises InvalidDefinition with the first that cannot be read, and their names."""
        found, faults = [], []
        for rule in self.all_rules:
            try:
                found.append(read_condition(rule.when, names))
            except RuleFault as fault:
                faults.append(f"rule {rule.name!r}: {fault}")
                if len(faults) == _MOST_FAULTS:
                    faults.append("and what comes after these was not looked at")
                    break
        if faults:
            raise InvalidDefinition("\n".join(faults))
        return found

    def with_shadows(self, names: Sequence[str]) -> "Book":
        """The same, and the rules of these names are shadows; what a list does by itself is left out then."""
        rules = [
            msgspec.structs.replace(one, state="shadow") if one.name in names and one.state == "on" else one
            for one in self.rules
        ]
        lists = [
            msgspec.structs.replace(one, kind="custom") if one.rule is not None and one.rule.name in names else one
            for one in self.lists
        ]
        return Book(tuple(rules), tuple(lists), self.demote_at)


def read_book(path: Path) -> Book:
    """The book of a YAML file. Raises FileNotFoundError, and InvalidDefinition for what cannot be meant or kept."""
    return _book_in(read_yaml(path), str(path))


def book_in(text: str) -> Book:
    """The book of such a text. Raises InvalidDefinition as `read_book` does."""
    return _book_in(yaml_in(text, "the text"), "the text")


def text_of(book: Book) -> str:
    """A book as people write it: YAML that `book_in` reads as the same book; what is usual is left out.

    >>> print(text_of(Book((BookRule(name="large", when="amount > 800", do=Deed.BLOCK, reason="large"),))), end="")
    rules:
    - name: large
      when: amount > 800
      do: block
      reason: large
    """
    usual = {field.encode_name: field.default for kind in (BookRule, BookList, Book) for field in fields(kind)}
    found = {name: value for name, value in msgspec.to_builtins(book).items() if value != usual[name] and value != ()}
    for part in ("lists", "rules"):
        if part in found:
            found[part] = [_unusual(one, usual) for one in found[part]]
    ordered = {name: found[name] for name in ("demote_at", "lists", "rules") if name in found}
    text: str = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)
    return text if ordered else "rules: []\n"


def _unusual(one: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in one.items() if usual[name] is msgspec.NODEFAULT or value != usual[name]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def _book_in(found: Any, where: str) -> Book:
    if not isinstance(found, dict) or not isinstance(found.get("rules", []), list) or not found:
        raise InvalidDefinition(f"{where} has no rules; begin with a line `rules:`, and a list below it")
    check_known(found, Book, where, {"rules": BookRule, "lists": BookList})
    book = book_of({**found, "rules": [_as_written(rule) for rule in found.get("rules", [])]}, where)
    book.check_texts()
    return book


def book_of(found: Any, where: str) -> Book:
    """The book that plain data says. Raises InvalidDefinition, which names `where` it stands."""
    try:
        return msgspec.convert(found, Book)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f"{where}: {error}") from error


def _as_written(rule: Any) -> Any:
    """YAML takes `on` and `off` for truth, and moments for objects."""
    if not isinstance(rule, dict):
        return rule
    states = {True: "on", False: "off"}
    return {name: states[one] if isinstance(one, bool) else _moment(one) for name, one in rule.items()}


def _moment(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return f"{value.isoformat()}T00:00:00Z" if isinstance(value, date) else value


def names_of(schema: Schema, features: Sequence[str], lists: Sequence[BookList] = ()) -> Names:
    """What rules may speak of: the fields of transactions, the features, the score, lists. A field hides a feature.

    Fields that are kept as a hash can be looked up in lists of such, and in nothing else: what is stored of them equals
    no text that anyone writes. Raises InvalidDefinition for a list of a field that is no text.
    """
    texts = tuple(name for name in schema.texts if name not in schema.hidden)
    for one in lists:
        if one.by not in schema.texts:
            raise InvalidDefinition(
                f"list {one.name!r} is of {one.by[:80]!r}, no text of transactions; {', '.join(schema.texts)} are"
            )
    fields = field_numbers(schema)
    hidden = {*texts, *fields, *schema.texts}
    return Names(
        (*fields, *(name for name in features if name not in hidden), SCORE), texts, tuple(one.name for one in lists),
        tuple(name for name in schema.texts if name in schema.hidden),
        tuple(one.name for one in lists if one.by in schema.hidden),
    )  # fmt: skip


def field_numbers(schema: Schema) -> tuple[str, ...]:
    """The numbers of a transaction; instants are none."""
    return (*schema.exact_numbers, *schema.plain_numbers)
