"""Conditions on the fields of an event: `where=(col("status") == "declined") & (col("amount") > 100)`.

What is built is plain data; `derived_plan` turns it into steps that are run once for each event. A missing value is
neither equal to anything nor different from it, neither more nor less: only `is_missing` holds for it.
"""

import math
import re
from typing import Literal, NoReturn, TypeAlias

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.wire import text_of

Value: TypeAlias = str | int | float
Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">=", "in", "missing", "and", "or", "not"]

_WORDS = {"==": "is", "!=": "is_not", "<": "below", "<=": "up_to", ">": "above", ">=": "from", "in": "in"}
_LONGEST_NAME = 80
MOST_NESTED = 60
"""How deep conditions may be combined: the results that wait for others are bits of one number."""


class Where(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A condition: a comparison of the field `of` with `values`, or others (`parts`) combined by and, or, not."""

    op: Operator
    of: str | None = None
    values: tuple[Value, ...] = ()
    parts: tuple["Where", ...] = ()

    def __post_init__(self) -> None:
        level = self.parts
        for _ in range(MOST_NESTED):
            if not level:
                return
            level = tuple({id(one): one for part in level for one in part.parts}.values())
        raise InvalidDefinition(
            f"a condition is nested in more than {MOST_NESTED} others; compare with many values by "
            'col("field").is_in(value, value, ...)'
        )

    def __and__(self, other: "Where") -> "Where":
        return Where("and", parts=(self, other))

    def __or__(self, other: "Where") -> "Where":
        return Where("or", parts=(self, other))

    def __invert__(self) -> "Where":
        return Where("not", parts=(self,))

    def __bool__(self) -> NoReturn:
        raise InvalidDefinition(
            'conditions are combined by & | ~ and parentheses, as in (col("a") == "x") & (col("b") > 9)'
        )

    @property
    def fields(self) -> set[str]:
        """The fields that it compares."""
        return ({self.of} if self.of else set()).union(*(part.fields for part in self.parts))

    @property
    def words(self) -> str:
        """The condition as part of a column's name."""
        name = re.sub(r"[^A-Za-z0-9]+", "_", _words(self)).strip("_")
        return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME].rstrip("_")


def _words(where: Where) -> str:
    if where.op == "missing":
        return f"{where.of}_is_missing"
    if where.op == "not":
        return "_".join(("not", *map(_words, where.parts)))
    if where.parts:
        return f"_{where.op}_".join(map(_words, where.parts))
    return "_".join((where.of or "", _WORDS[where.op], *map(str, where.values)))


class FieldRef:
    """A field of the event, to be compared: see `col`."""

    __hash__ = None  # type: ignore[assignment]  # nothing is looked up by it

    def __init__(self, of: str) -> None:
        self._of = of

    def _compare(self, op: Operator, *values: object) -> Where:
        return Where(op, self._of, tuple(_value(self._of, one) for one in values))

    def __eq__(self, value: object) -> Where:  # type: ignore[override]
        return self._compare("==", value)

    def __ne__(self, value: object) -> Where:  # type: ignore[override]
        return self._compare("!=", value)

    def __lt__(self, value: float) -> Where:
        return self._compare("<", value)

    def __le__(self, value: float) -> Where:
        return self._compare("<=", value)

    def __gt__(self, value: float) -> Where:
        return self._compare(">", value)

    def __ge__(self, value: float) -> Where:
        return self._compare(">=", value)

    def is_in(self, *values: Value) -> Where:
        """Whether the field is one of these values."""
        return self._compare("in", *values)

    def is_missing(self) -> Where:
        """Whether the field is missing."""
        return Where("missing", self._of)


def col(of: str) -> FieldRef:
    """A field of the event, for the condition of a feature: compared by `==`, `!=`, `<`, `<=`, `>`, `>=` with a value.

    Beside these there are `.is_in(value, ...)` and `.is_missing()`; `&`, `|` and `~` combine conditions. Exact numbers
    are compared in major units (12.34). A missing value fulfils no comparison, not even `!=`.

    >>> (col("status") == "declined") & ~col("amount").is_missing()
    Where(op='and', of=None, values=(), parts=(Where(op='==', of='status', values=('declined',), parts=()), \
Where(op='not', of=None, values=(), parts=(Where(op='missing', of='amount', values=(), parts=()),))))
    """
    return FieldRef(of)


def _value(of: str, value: object) -> Value:
    if isinstance(value, bool):
        return text_of(value)
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    hint = f"write col({of!r}).is_missing()" if value is None else "compare it with a text or a finite number"
    raise InvalidDefinition(f"a condition on {of} compares it with {value!r}; {hint}")
