"""A book of rules: what people add to the decisions of a model, as a file says it, and which of them wins.

The order of precedence, for each transaction:

1. an `approve` rule holds: it is approved;
2. else a `block` rule holds: it is blocked;
3. else what the model decided, made as strict as the strictest `challenge` or `review` rule that holds.

Rules in `shadow` are counted and decide nothing.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.schema import Schema
from sentinel.events.times import instant_us
from sentinel.policy.rules.reading import Names, read_condition
from sentinel.policy.rules.tree import Condition
from sentinel.policy.rules.words import RuleFault
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.policy.written_files import check_known, read_yaml

MOST_RULES = 1_000
SCORE = "score"
"""The name of the model's fraud probability, or of the score of what stood in for it."""

_STRICTNESS = np.array([list(Action).index(action) for action in ACTIONS], np.uint8)
_LEVEL_OF = np.array([ACTIONS.index(action) for action in Action], np.uint8)


class BookRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"since": "from"}):
    """A rule: when `when` holds, `do` this, for this `reason`, in words for an analyst.

    `state` is `on`, `shadow` (counted, decides nothing) or `off`. It holds from `from` until before `until` (ISO 8601),
    by the moment of the decision; None is always. `owner` is whom to ask about it.
    """

    name: str
    when: str
    do: Action
    reason: str
    owner: str = ""
    state: Literal["on", "shadow", "off"] = "on"
    since: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 80:
            raise InvalidDefinition("a rule needs a name of at most 80 characters")
        begin, end = self.period_us
        if begin >= end:
            raise InvalidDefinition(f"rule {self.name!r}: from ({self.since}) must be before until ({self.until})")

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


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules, each with a name of its own, in the order in which their reasons are told."""

    rules: tuple[BookRule, ...] = ()

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidDefinition(f"two rules have the name {twice[0]!r}")
        if len(names) > MOST_RULES:
            raise InvalidDefinition(f"{len(names):,} rules; {MOST_RULES:,} are possible")

    def conditions(self, names: Names) -> list[Condition]:
        """What each rule asks. Raises InvalidDefinition, which names the rule, with all that cannot be read."""
        found, faults = [], []
        for rule in self.rules:
            try:
                found.append(read_condition(rule.when, names))
            except RuleFault as fault:
                faults.append(f"rule {rule.name!r}: {fault}")
        if faults:
            raise InvalidDefinition("\n".join(faults))
        return found


def read_book(path: Path) -> Book:
    """The rules of a YAML file. Raises FileNotFoundError, and InvalidDefinition for what cannot be meant."""
    found = read_yaml(path)
    if not isinstance(found, dict) or not isinstance(found.get("rules"), list):
        raise InvalidDefinition(f"{path} has no rules; begin with a line `rules:`, and a list below it")
    check_known(found, Book, str(path), {"rules": BookRule})
    try:
        return msgspec.convert({"rules": [_as_written(rule) for rule in found["rules"]]}, Book)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f"{path}: {error}") from error


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


def names_of(schema: Schema, features: Sequence[str]) -> Names:
    """What rules may speak of: the fields of transactions, the features, and the score. A field hides a feature.

    Fields that are kept as a hash or encrypted are none: what is stored of them equals no text that anyone writes.
    """
    texts = tuple(name for name in schema.texts if name not in schema.secret and name not in schema.personal)
    fields = field_numbers(schema)
    hidden = {*texts, *fields, *schema.texts}
    return Names((*fields, *(name for name in features if name not in hidden), SCORE), texts)


def field_numbers(schema: Schema) -> tuple[str, ...]:
    """The numbers of a transaction; instants are none."""
    return (*schema.exact_numbers, *schema.plain_numbers)


def decided_levels(
    book: Book, hits: NDArray[np.bool_], levels: NDArray[np.uint8], times_us: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """What is decided (n,), by the levels of the model (n,) and where rules hold (n, r), at these moments (n,)."""
    acts = hits & in_force(book, times_us)
    found = _STRICTNESS[levels]
    for action in (Action.CHALLENGE, Action.REVIEW):
        strictness = list(Action).index(action)
        raised = _any_of(book, acts, action) & (found < strictness)
        found[raised] = strictness
    found[_any_of(book, acts, Action.BLOCK)] = list(Action).index(Action.BLOCK)
    found[_any_of(book, acts, Action.APPROVE)] = list(Action).index(Action.APPROVE)
    return _LEVEL_OF[found]


def in_force(book: Book, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rules decide at which moment, (n, r): those that are on, within their time."""
    periods = [rule.period_us for rule in book.rules]
    found = np.tile(np.array([rule.state == "on" for rule in book.rules], np.bool_), (len(times_us), 1))
    for n, (begin, end) in enumerate(periods):
        found[:, n] &= (times_us >= begin) & (times_us < end)
    return found


def _any_of(book: Book, acts: NDArray[np.bool_], action: Action) -> NDArray[np.bool_]:
    which = [n for n, rule in enumerate(book.rules) if rule.do is action]
    found: NDArray[np.bool_] = np.any(acts[:, which], axis=1)
    return found
