"""What a condition says, as a tree of types: amounts are made of columns and numbers, conditions of comparisons.

A missing value, or a division by zero, fulfils no comparison, not even `!=`; only `is missing` holds for it.
"""

from typing import Literal, TypeAlias

import msgspec

Compared: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
Arithmetic: TypeAlias = Literal["+", "-", "*", "/", "min", "max", "abs", "negative"]


class Number(msgspec.Struct, frozen=True):
    """A constant."""

    value: float


class Column(msgspec.Struct, frozen=True):
    """A number of the transaction: a field, a feature, or the score."""

    name: str


class Computed(msgspec.Struct, frozen=True):
    """One or two amounts combined."""

    op: Arithmetic
    parts: tuple["Amount", ...]


class Text(msgspec.Struct, frozen=True):
    """A constant text."""

    value: str


class TextColumn(msgspec.Struct, frozen=True):
    """A text of the transaction."""

    name: str


class Comparison(msgspec.Struct, frozen=True):
    """Two amounts compared."""

    op: Compared
    left: "Amount"
    right: "Amount"


class SameText(msgspec.Struct, frozen=True):
    """A text of the transaction that is another text, or, where `not_equal`, is there and is not."""

    column: TextColumn
    other: Text | TextColumn
    not_equal: bool = False


class AmongNumbers(msgspec.Struct, frozen=True):
    """An amount that is one of these."""

    amount: "Amount"
    values: tuple[float, ...]


class AmongTexts(msgspec.Struct, frozen=True):
    """A text that is one of these."""

    column: TextColumn
    values: tuple[str, ...]


class OnList(msgspec.Struct, frozen=True):
    """A text that is on a named list at the moment of the decision."""

    column: TextColumn
    name: str


class Missing(msgspec.Struct, frozen=True):
    """An amount, or a text, that is not there."""

    of: "Amount | TextColumn"


class Not(msgspec.Struct, frozen=True):
    """The opposite of a condition."""

    part: "Condition"


class And(msgspec.Struct, frozen=True):
    """All of these."""

    parts: tuple["Condition", ...]


class Or(msgspec.Struct, frozen=True):
    """At least one of these."""

    parts: tuple["Condition", ...]


class Always(msgspec.Struct, frozen=True):
    """`true` and `false`."""

    holds: bool


Amount: TypeAlias = Number | Column | Computed
Condition: TypeAlias = Comparison | SameText | AmongNumbers | AmongTexts | OnList | Missing | Not | And | Or | Always
