"""Reading a condition: text to tree, with names looked up. Nothing is ever executed on the way.

condition  = and_part ("or" and_part)*
and_part   = not_part ("and" not_part)*
not_part   = "not" not_part | "true" | "false" | "(" condition ")" | comparison
comparison = amount ("==" | "!=" | "<" | "<=" | ">" | ">=") amount
           | amount ["not"] "in" "(" constant ("," constant)* ")"  |  text ["not"] "in" list("name")
           | amount "is" ["not"] "missing"
amount     = term (("+" | "-") term)*;  term = factor (("*" | "/") factor)*
factor     = number | name | "-" factor | "(" amount ")" | abs(amount) | min(amount, amount) | max(amount, amount)
"""

import difflib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, cast

from sentinel.policy.rules.tree import (
    Always,
    AmongNumbers,
    AmongTexts,
    Amount,
    And,
    Arithmetic,
    Column,
    Compared,
    Comparison,
    Computed,
    Condition,
    Missing,
    Not,
    Number,
    OnList,
    Or,
    SameText,
    Text,
    TextColumn,
)
from sentinel.policy.rules.words import RuleFault, Word, value_of, words_of

MOST_NESTED = 50
"""How deep parentheses, `not` and signs may be nested."""
MOST_CONSTANTS = 1_000
"""How many constants an `in (...)` has at most; more of them are a list."""
MOST_TERMS = 100
"""How many terms a sum or a product has at most."""
_COMPARED = ("==", "!=", "<", "<=", ">", ">=")
_FUNCTIONS = {"abs": 1, "min": 2, "max": 2}
RESERVED = frozenset(("and", "or", "not", "in", "is", "missing", "true", "false", "list", *_FUNCTIONS))
"""Words that mean something: a field of such a name stands in backquotes, as any that is no plain word."""
_Side: TypeAlias = Amount | Text | TextColumn
_Part: TypeAlias = Callable[[], _Side]


class Names(NamedTuple):
    """What a condition may speak of: numbers and texts of a transaction, and lists by their names.

    `hashed` are texts that are kept as a hash, and `hashed_lists` the lists of such.
    """

    numbers: Sequence[str]
    texts: Sequence[str] = ()
    lists: Sequence[str] = ()
    hashed: Sequence[str] = ()
    hashed_lists: Sequence[str] = ()


def read_condition(text: str, names: Names) -> Condition:
    """The tree of a condition. Raises RuleFault, which shows the place and, for a name, the nearest there is.

    >>> read_condition('amount > 2 * mean', Names(numbers=("amount", "mean")))
    Comparison(op='>', left=Column(name='amount'), right=Computed(op='*', parts=(Number(value=2.0), \
Column(name='mean'))))
    """
    return _Reader(text, names).whole()


def column_text(name: str) -> str:
    """How a field or a feature is written in a condition.

    >>> column_text("amount"), column_text("list"), column_text("first of all")
    ('amount', '`list`', '`first of all`')
    """
    return name if name.isidentifier() and name not in RESERVED else f"`{name}`"


class _Reader:
    """Goes through the words of one condition from the first to the last."""

    def __init__(self, text: str, names: Names) -> None:
        self._text, self._names = text, names
        self._words, self._at, self._depth = words_of(text), 0, 0

    def whole(self) -> Condition:
        if self._word.kind == "end":
            raise self._fault("there is no condition", self._word)
        found = self._condition()
        if self._word.kind != "end":
            raise self._fault(
                f"here the condition could end, or go on with `and` or `or`; found {self._word.text}", self._word
            )
        return found

    # Conditions

    def _condition(self) -> Condition:
        parts = [self._and_part()]
        while self._takes("or"):
            parts.append(self._and_part())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and_part(self) -> Condition:
        parts = [self._not_part()]
        while self._takes("and"):
            parts.append(self._not_part())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _not_part(self) -> Condition:
        if self._takes("not"):
            self._deeper()
            found: Condition = Not(self._not_part())
            self._depth -= 1
            return found
        if self._word.text in ("true", "false") and self._word.kind == "name":
            return Always(self._next().text == "true")
        if self._word.text == "(" and self._is_condition_in_parentheses():
            self._next()
            self._deeper()
            found = self._condition()
            self._depth -= 1
            self._need(")")
            return found
        return self._comparison()

    def _is_condition_in_parentheses(self) -> bool:
        """Whether what these parentheses hold is a condition, and no amount."""
        depth = 0
        for word in self._words[self._at :]:
            depth += (word.text in "([") - (word.text in ")]") if word.kind == "sign" else 0
            if word.kind == "end" or (depth == 0 and word.text == ")"):
                return False
            if word.text in (*_COMPARED, "and", "or", "not", "in", "is", "true", "false") and word.kind != "text":
                return True
        return False

    def _comparison(self) -> Condition:
        begin = self._word
        left = self._amount()
        word = self._next()
        if word.kind == "sign" and word.text in _COMPARED:
            after = self._word
            return self._compared(left, cast("Compared", word.text), self._amount(), begin, after)
        if word.kind == "name" and word.text == "is":
            opposite = self._takes("not")
            self._need("missing")
            found: Condition = Missing(self._not_constant(left, begin))
            return Not(found) if opposite else found
        opposite = word.kind == "name" and word.text == "not"
        if opposite:
            word = self._next()
        if word.kind == "name" and word.text == "in":
            found = self._among(self._not_constant(left, begin), begin)
            if not opposite:
                return found
            there = Not(Missing(self._not_constant(left, begin)))
            return And((there, Not(found)))
        raise self._fault("here a comparison is expected: ==, !=, <, <=, >, >=, in (...), or is missing", word)

    def _compared(self, left: _Side, op: Compared, right: _Side, begin: Word, after: Word) -> Condition:
        for one, word in ((left, begin), (right, after)):
            other = right if one is left else left
            if _is_text(one) and not _is_text(other):
                raise self._fault(f"a text cannot be compared with a number ({word.text} is a text)", word)
        if not _is_text(left):
            return Comparison(op, cast("Amount", left), cast("Amount", right))
        if op not in ("==", "!="):
            raise self._fault("texts are compared by ==, != and in", begin)
        if isinstance(left, Text):
            left, right = right, left
        if isinstance(left, Text):
            raise self._fault("two constants are compared; one side has to be a field", begin)
        return SameText(cast("TextColumn", left), cast("Text | TextColumn", right), op == "!=")

    def _among(self, left: Amount | TextColumn, begin: Word) -> Condition:
        if self._word.text == "list" and self._word.kind == "name":
            return self._on_list(left, begin)
        opened = self._next()
        if isinstance(left, TextColumn) and left.name in self._names.hashed:
            raise self._fault(f'{left.name} is kept as a hash: write {begin.text} in list("...")', opened)
        if opened.text not in ("(", "["):
            raise self._fault('after `in` there are constants, in ("a", "b"), or a list, in list("name")', opened)
        words = []
        while True:
            words.append(self._constant(is_text=isinstance(left, TextColumn)))
            if not self._takes(","):
                break
        self._need(")" if opened.text == "(" else "]")
        if len(words) > MOST_CONSTANTS:
            raise self._fault(f"these are {len(words):,} constants; more than {MOST_CONSTANTS:,} are a list", opened)
        if isinstance(left, TextColumn):
            return AmongTexts(left, tuple(dict.fromkeys(map(str, words))))
        return AmongNumbers(left, tuple(dict.fromkeys(map(float, words))))

    def _constant(self, *, is_text: bool) -> str | float:
        negative = not is_text and self._takes("-")
        word = self._next()
        if word.kind != ("text" if is_text else "number"):
            raise self._fault(
                'here a text in quotes is expected, like "de"' if is_text else "here a number is expected", word
            )
        return value_of(word) if is_text else self._number(word) * (-1.0 if negative else 1.0)

    def _on_list(self, left: Amount | TextColumn, begin: Word) -> Condition:
        if not isinstance(left, TextColumn):
            raise self._fault(f"only texts are on lists, and {begin.text} is a number", begin)
        self._next()
        self._need("(")
        word = self._next()
        if word.kind != "text":
            raise self._fault('a list is named in quotes: list("home_countries")', word)
        self._need(")")
        name = value_of(word)
        if name not in self._names.lists:
            raise self._fault(f"there is no list {name}{_near(name, self._names.lists)}", word)
        if (left.name in self._names.hashed) != (name in self._names.hashed_lists):
            kept, other = ("a hash", "texts") if left.name in self._names.hashed else ("text", "hashes")
            raise self._fault(f"{begin.text} is kept as {kept}, and the list {name} is of {other}", word)
        return OnList(left, name)

    # Amounts

    def _amount(self) -> _Side:
        return self._chain(("+", "-"), self._term)

    def _term(self) -> _Side:
        return self._chain(("*", "/"), self._factor)

    def _chain(self, signs: tuple[str, str], part: _Part) -> _Side:
        begin, terms = self._word, 1
        found = part()
        while self._word.kind == "sign" and self._word.text in signs:
            op = cast("Arithmetic", self._next().text)
            after = self._word
            right = part()
            found = Computed(op, (self._as_number(found, begin), self._as_number(right, after)))
            terms += 1
            if terms > MOST_TERMS:
                raise self._fault(f"a sum or a product has at most {MOST_TERMS} terms", after)
        return found

    def _factor(self) -> _Side:
        word = self._next()
        if word.kind == "number":
            return Number(self._number(word))
        if word.kind == "text":
            return Text(value_of(word))
        if word.text in ("-", "(") and word.kind == "sign":
            self._deeper()
            begin = self._word
            inner = self._factor() if word.text == "-" else self._amount()
            self._depth -= 1
            if word.text == "(":
                self._need(")")
                return inner
            amount = self._as_number(inner, begin)
            return Number(-amount.value) if isinstance(amount, Number) else Computed("negative", (amount,))
        if word.kind == "name" and word.text in _FUNCTIONS:
            return self._function(word)
        if word.kind == "quoted":
            return self._named(word, word.text[1:-1])
        if word.kind != "name" or word.text in RESERVED:
            expected = "here a field, a feature or a constant is expected"
            raise self._fault(f"{expected}, and not {word.text}" if word.text else expected, word)
        return self._named(word, word.text)

    def _function(self, word: Word) -> Amount:
        self._need("(")
        self._deeper()
        parts = []
        for n in range(_FUNCTIONS[word.text]):
            if n:
                self._need(",")
            begin = self._word
            parts.append(self._as_number(self._amount(), begin))
        self._depth -= 1
        self._need(")")
        return Computed(cast("Arithmetic", word.text), tuple(parts))

    def _named(self, word: Word, name: str) -> _Side:
        if self._word.text == "(":
            functions = ", ".join([*_FUNCTIONS, "list"])
            raise self._fault(f"{word.text} is no function; there are {functions}", word)
        if name in self._names.numbers:
            return Column(name)
        if name in self._names.texts:
            return TextColumn(name)
        if name in self._names.hashed:
            if self._word.text not in ("in", "not", "is"):
                raise self._fault(f"{word.text} is kept as a hash: it can be missing, or be on a list", word)
            return TextColumn(name)
        known = [*self._names.numbers, *self._names.texts]
        raise self._fault(f"there is no {name}{_near(name, known)}", word)

    def _number(self, word: Word) -> float:
        found = float(word.text)
        if not math.isfinite(found):
            raise self._fault("this number is too large", word)
        return found

    def _as_number(self, side: _Side, word: Word) -> Amount:
        if _is_text(side):
            raise self._fault(f"nothing can be computed with a text ({word.text})", word)
        return cast("Amount", side)

    def _not_constant(self, side: _Side, word: Word) -> Amount | TextColumn:
        if isinstance(side, Text | Number):
            raise self._fault("before `in` and `is` there is a field or a feature, and no constant", word)
        return side

    # Words

    @property
    def _word(self) -> Word:
        return self._words[self._at]

    def _next(self) -> Word:
        word = self._word
        self._at += word.kind != "end"
        return word

    def _takes(self, text: str) -> bool:
        found = self._word.text == text and self._word.kind in ("name", "sign")
        self._at += found
        return found

    def _need(self, text: str) -> None:
        word = self._next()
        if word.text != text or word.kind == "text":
            raise self._fault(f"here {text} is expected", word)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise self._fault(f"this is nested in more than {MOST_NESTED} others; make several rules of it", self._word)

    def _fault(self, why: str, word: Word) -> RuleFault:
        return RuleFault(why, self._text, word.place)


def _is_text(side: _Side) -> bool:
    return isinstance(side, Text | TextColumn)


def _near(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name[:100], known, 1, 0.5)
    if found:
        return f"; did you mean {found[0]}?"
    return f"; there are {', '.join(sorted(known)[:8])}{', ...' if len(known) > 8 else ''}" if known else ""
