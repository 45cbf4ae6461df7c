"""The plan of derived columns: keys of several fields, and which conditions an event fulfils.

The kernel sees a key of several fields as one more text column, and the conditions as one more exact column, whose bits
they are.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import hash_text
from sentinel.events.schema import Schema
from sentinel.events.wire import text_of
from sentinel.features.conditions import MOST_NESTED, Value, Where

MOST_CONDITIONS, MOST_STEPS = 64, 1000
"""Conditions of a plan, and comparisons and combinations in all of them."""

_LARGEST = 2**62

# What a step does: push a comparison, combine what was pushed last, or take it as a condition's.
(
    STEP_TEXT,
    STEP_EXACT,
    STEP_PLAIN,
    STEP_NO_TEXT,
    STEP_NO_EXACT,
    STEP_NO_PLAIN,
    STEP_AND,
    STEP_OR,
    STEP_NOT,
    STEP_STORE,
) = range(10)
# Its columns. LOW and HIGH bound an exact number; they are the ends of a part of `words`; LOW is a row of `ranges`.
DO, COLUMN, LOW, HIGH, NEGATED, STEP_COLUMNS = range(6)


class DerivedPlan(NamedTuple):
    """The columns to add.

    - `parts` (p, 2): a key of several fields by its number, and the text column of a part, in order.
    - `steps` (s, 5): the conditions, each in postfix form and then stored as a bit.
    - `words` uint64: the texts that comparisons name, as hashes, each comparison's sorted.  `ranges` (r, 2): least and
      greatest plain number of a comparison.
    """

    parts: NDArray[np.int64]
    steps: NDArray[np.int64]
    words: NDArray[np.uint64]
    ranges: NDArray[np.float64]


class DerivedColumns:
    """The growing plan of derived columns: who needs one asks for its place."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.keys: list[tuple[str, ...]] = []
        self.conditions: list[Where] = []
        self._steps: list[tuple[int, ...]] = []
        self._words: list[int] = []
        self._ranges: list[tuple[float, float]] = []

    @property
    def bits(self) -> int:
        """The exact column of the conditions."""
        return len(self.schema.whole_numbers)

    def key(self, fields: tuple[str, ...]) -> int:
        """The text column of a key of these fields, which are texts of the schema."""
        if len(fields) == 1:
            return self.schema.texts.index(fields[0])
        if fields not in self.keys:
            self.keys.append(fields)
        return len(self.schema.texts) + self.keys.index(fields)

    def key_name(self, column: int) -> str:
        """The fields of a text column, joined by +."""
        texts = self.schema.texts
        return texts[column] if column < len(texts) else "+".join(self.keys[column - len(texts)])

    def condition(self, where: Where) -> int:
        """The bit of a condition. Raises InvalidDefinition for what cannot be compared, and one too many."""
        if where not in self.conditions:
            if len(self.conditions) == MOST_CONDITIONS:
                raise InvalidDefinition(f"the detector has more than {MOST_CONDITIONS} different conditions (where=)")
            self._compile(where, 1)
            self._push(STEP_STORE, len(self.conditions))
            self.conditions.append(where)
        return self.conditions.index(where)

    def plan(self) -> DerivedPlan | None:
        """The columns that were asked for; None without any."""
        if not self.keys and not self.conditions:
            return None
        parts = [(number, self.schema.texts.index(one)) for number, key in enumerate(self.keys) for one in key]
        return DerivedPlan(
            parts=np.array(parts, np.int64).reshape(len(parts), 2),
            steps=np.array(self._steps, np.int64).reshape(len(self._steps), STEP_COLUMNS),
            words=np.array(self._words, np.uint64),
            ranges=np.array(self._ranges, np.float64).reshape(len(self._ranges), 2),
        )

    def _push(self, do: int, column: int = 0, low: int = 0, high: int = 0, negated: bool = False) -> None:
        if len(self._steps) == MOST_STEPS:
            raise InvalidDefinition(f"the detector's conditions (where=) have more than {MOST_STEPS} parts")
        self._steps.append((do, column, low, high, int(negated)))

    def _compile(self, where: Where, depth: int) -> None:
        if depth > MOST_NESTED:
            raise InvalidDefinition(f"a condition is nested in more than {MOST_NESTED} others")
        if where.op in ("and", "or", "not"):
            if len(where.parts) != (1 if where.op == "not" else 2):
                raise InvalidDefinition(f"a condition combines {len(where.parts)} others by {where.op}")
            for waiting, part in enumerate(where.parts):
                self._compile(part, depth + 1 + waiting)
            self._push({"and": STEP_AND, "or": STEP_OR, "not": STEP_NOT}[where.op])
        else:
            self._compare(where)

    def _compare(self, where: Where) -> None:
        name, schema = where.of or "", self.schema
        is_missing = where.op == "missing"
        if not is_missing and (not where.values or (where.op != "in" and len(where.values) > 1)):
            raise InvalidDefinition(f"a condition on {name} compares it with {len(where.values)} values")
        if name in schema.texts:
            column = schema.texts.index(name)
            self._push(STEP_NO_TEXT, column) if is_missing else self._compare_text(where, column)
        elif name in schema.exact_numbers:
            column = list(schema.exact_numbers).index(name)
            self._push(STEP_NO_EXACT, column) if is_missing else self._compare_exact(where, column)
        elif name in schema.plain_numbers:
            column = schema.plain_numbers.index(name)
            self._push(STEP_NO_PLAIN, column) if is_missing else self._compare_plain(where, column)
        else:
            fields = ", ".join((*schema.texts, *schema.exact_numbers, *schema.plain_numbers))
            raise InvalidDefinition(f"a condition compares {name!r}, which is no field of the schema ({fields})")

    def _compare_text(self, where: Where, column: int) -> None:
        name = where.of or ""
        if name in self.schema.hidden:
            raise InvalidDefinition(
                f"a condition compares {name}, which is hashed; only is_missing() can be asked of it"
            )
        if where.op not in ("==", "!=", "in"):
            raise InvalidDefinition(f"a condition on {name} asks {where.op}, and it is a text; use ==, != or is_in")
        if any(isinstance(value, float) for value in where.values):
            raise InvalidDefinition(f"a condition on {name} compares it with a number, and it is a text")
        words = sorted({hash_text(one if isinstance(one, str) else text_of(one)) for one in where.values})  # type: ignore[arg-type]
        first = len(self._words)
        self._words += words
        self._push(STEP_TEXT, column, first, len(self._words), where.op == "!=")

    def _compare_exact(self, where: Where, column: int) -> None:
        scale = 10 ** self.schema.exact_numbers[where.of or ""]
        for n, value in enumerate(where.values):
            exact = Fraction(str(_number(where, value))) * scale
            below, above = math.floor(exact), math.ceil(exact)
            low, high = {
                "<": (-_LARGEST, above - 1), "<=": (-_LARGEST, below),
                ">": (below + 1, _LARGEST), ">=": (above, _LARGEST),
            }.get(where.op, (above, below))  # fmt: skip
            self._push(STEP_EXACT, column, _within(low), _within(high), where.op == "!=")
            if n:
                self._push(STEP_OR)

    def _compare_plain(self, where: Where, column: int) -> None:
        for n, value in enumerate(where.values):
            number = float(_number(where, value))
            self._ranges.append({
                "<": (-math.inf, math.nextafter(number, -math.inf)), "<=": (-math.inf, number),
                ">": (math.nextafter(number, math.inf), math.inf), ">=": (number, math.inf),
            }.get(where.op, (number, number)))  # fmt: skip
            self._push(STEP_PLAIN, column, len(self._ranges) - 1, 0, where.op == "!=")
            if n:
                self._push(STEP_OR)


def _number(where: Where, value: Value) -> int | float:
    if isinstance(value, str):
        raise InvalidDefinition(f"a condition on {where.of} compares it with the text {value!r}, and it is a number")
    return value


def _within(number: int) -> int:
    return max(-_LARGEST, min(number, _LARGEST))
