"""Conditions as a program: steps that each compute a number, or compare and jump to where the answer is known.

A comparison has two targets, one for each answer, so `and`, `or` and `not` are no steps: they are where a comparison
leads to. `machine.run` carries the steps out.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sentinel.policy.rules.tree import (
    Always,
    AmongNumbers,
    AmongTexts,
    Amount,
    And,
    Column,
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

HOLDS, FAILS = -1, -2
"""Targets that end a condition."""
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


class Step(IntEnum):
    """What a step does with its operands a and b; what is pushed and popped are numbers on a stack."""

    PUSH_COLUMN = 0  # a: column
    PUSH_NUMBER = 1  # a: place among the constants
    ADD = 2
    SUBTRACT = 3
    MULTIPLY = 4
    DIVIDE = 5
    LEAST = 6
    MOST = 7
    ABSOLUTE = 8
    NEGATE = 9
    COMPARE = 10  # pops two; a: which comparison
    COLUMN_WITH_NUMBER = 11  # a: column, b: place among the constants; from here on one step for each comparison
    AMONG_NUMBERS = 20  # pops one; a, b: from where to where among the constants, sorted
    NUMBER_MISSING = 21  # pops one
    SAME_TEXT = 22  # a: text column, b: place among the hashes
    OTHER_TEXT = 23
    SAME_TEXTS = 24  # a, b: text columns
    OTHER_TEXTS = 25
    AMONG_TEXTS = 26  # a: text column; b: place among the sets
    TEXT_MISSING = 27  # a: text column
    ON_LIST = 28  # a: place among the look-ups
    ALWAYS = 29  # a: 1 or 0


COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_ARITHMETIC = {
    "+": Step.ADD, "-": Step.SUBTRACT, "*": Step.MULTIPLY, "/": Step.DIVIDE, "min": Step.LEAST, "max": Step.MOST,
    "abs": Step.ABSOLUTE, "negative": Step.NEGATE,
}  # fmt: skip


class Program(NamedTuple):
    """Conditions, r of them, ready to run.

    - `numbers`, `texts`: the columns it needs, in the order of its operands.  `lookups`: (text, list) pairs likewise.
    - `steps` int32 (m, 5): step, a, b, where to go on if it holds, where if it fails.  `starts` int32 (r,).
    - `constants` float64; `hashes` uint64; `sets` int32 (s, 2): from where to where among the hashes, sorted.
    - `stack`: how many numbers are on the stack at most.
    """

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    lookups: tuple[tuple[str, str], ...]
    steps: NDArray[np.int32]
    starts: NDArray[np.int32]
    constants: NDArray[np.float64]
    hashes: NDArray[np.uint64]
    sets: NDArray[np.int32]
    stack: int


def compile_conditions(conditions: Iterable[Condition], hash_of: Callable[[str], int]) -> Program:
    """The program of these conditions; `hash_of` is what texts are compared by, never 0, which is a missing text."""
    writer = _Writer(hash_of)
    starts = [writer.whole(one) for one in conditions]
    return writer.program(starts)


_T = TypeVar("_T")


class _Label:
    """A place in the program that is known once it is reached."""

    __slots__ = ("place",)

    def __init__(self, place: int | None = None) -> None:
        self.place = place


class _Writer:
    """Writes the steps of one condition after the other."""

    def __init__(self, hash_of: Callable[[str], int]) -> None:
        self._hash_of = hash_of
        self._numbers: dict[str, int] = {}
        self._texts: dict[str, int] = {}
        self._lookups: dict[tuple[str, str], int] = {}
        self._constants: list[float] = []
        self._hashes: list[int] = []
        self._sets: list[tuple[int, int]] = []
        self._steps: list[tuple[int, int, int, _Label, _Label]] = []
        self._on_stack = self._most_on_stack = 0

    def whole(self, condition: Condition) -> int:
        """Write a condition; where it starts."""
        start = len(self._steps)
        self._condition(condition, _Label(HOLDS), _Label(FAILS))
        return start

    def program(self, starts: Sequence[int]) -> Program:
        steps = [(step, a, b, holds.place, fails.place) for step, a, b, holds, fails in self._steps]
        return Program(
            tuple(self._numbers), tuple(self._texts), tuple(self._lookups),
            np.array(steps, np.int32).reshape(-1, 5), np.array(starts, np.int32), np.array(self._constants, np.float64),
            np.array(self._hashes, np.uint64), np.array(self._sets, np.int32).reshape(-1, 2), self._most_on_stack,
        )  # fmt: skip

    def _condition(self, one: Condition, holds: _Label, fails: _Label) -> None:
        if isinstance(one, Not):
            self._condition(one.part, fails, holds)
        elif isinstance(one, And):
            for part in one.parts[:-1]:
                then = _Label()
                self._condition(part, then, fails)
                then.place = len(self._steps)
            self._condition(one.parts[-1], holds, fails)
        elif isinstance(one, Or):
            for part in one.parts[:-1]:
                then = _Label()
                self._condition(part, holds, then)
                then.place = len(self._steps)
            self._condition(one.parts[-1], holds, fails)
        elif isinstance(one, Comparison):
            self._comparison(one, holds, fails)
        else:
            self._question(one, holds, fails)

    def _comparison(self, one: Comparison, holds: _Label, fails: _Label) -> None:
        left, op, right = one.left, one.op, one.right
        if isinstance(left, Number) and isinstance(right, Column):
            left, op, right = right, _SWAPPED[op], left  # type: ignore[assignment]
        if isinstance(left, Column) and isinstance(right, Number):
            step = Step.COLUMN_WITH_NUMBER + COMPARISONS.index(op)
            self._jump(step, self._column(left), self._constant(right.value), holds, fails)
            return
        self._amount(left)
        self._amount(right)
        self._on_stack -= 2
        self._jump(Step.COMPARE, COMPARISONS.index(op), 0, holds, fails)

    def _question(self, one: Condition, holds: _Label, fails: _Label) -> None:
        if isinstance(one, SameText):
            column, other = _place(self._texts, one.column.name), one.other
            if isinstance(other, Text):
                step = Step.OTHER_TEXT if one.not_equal else Step.SAME_TEXT
                self._hashes.append(self._hash_of(other.value))
                self._jump(step, column, len(self._hashes) - 1, holds, fails)
            else:
                step = Step.OTHER_TEXTS if one.not_equal else Step.SAME_TEXTS
                self._jump(step, column, _place(self._texts, other.name), holds, fails)
        elif isinstance(one, AmongNumbers):
            begin = len(self._constants)
            self._constants += sorted(one.values)
            self._amount(one.amount)
            self._on_stack -= 1
            self._jump(Step.AMONG_NUMBERS, begin, begin + len(one.values), holds, fails)
        elif isinstance(one, AmongTexts):
            begin = len(self._hashes)
            self._hashes += sorted(map(self._hash_of, one.values))
            self._sets.append((begin, len(self._hashes)))
            self._jump(Step.AMONG_TEXTS, _place(self._texts, one.column.name), len(self._sets) - 1, holds, fails)
        elif isinstance(one, OnList):
            self._jump(Step.ON_LIST, _place(self._lookups, (one.column.name, one.name)), 0, holds, fails)
        elif isinstance(one, Missing):
            self._missing(one.of, holds, fails)
        elif isinstance(one, Always):
            self._jump(Step.ALWAYS, int(one.holds), 0, holds, fails)

    def _missing(self, of: Amount | TextColumn, holds: _Label, fails: _Label) -> None:
        if isinstance(of, TextColumn):
            self._jump(Step.TEXT_MISSING, _place(self._texts, of.name), 0, holds, fails)
        else:
            self._amount(of)
            self._on_stack -= 1
            self._jump(Step.NUMBER_MISSING, 0, 0, holds, fails)

    def _amount(self, one: Amount) -> None:
        if isinstance(one, Computed):
            for part in one.parts:
                self._amount(part)
            self._on_stack -= len(one.parts)
            self._push(_ARITHMETIC[one.op], 0)
        elif isinstance(one, Column):
            self._push(Step.PUSH_COLUMN, self._column(one))
        else:
            self._push(Step.PUSH_NUMBER, self._constant(one.value))

    def _push(self, step: int, a: int) -> None:
        then = _Label(len(self._steps) + 1)
        self._steps.append((step, a, 0, then, then))
        self._on_stack += 1
        self._most_on_stack = max(self._most_on_stack, self._on_stack)

    def _jump(self, step: int, a: int, b: int, holds: _Label, fails: _Label) -> None:
        self._steps.append((step, a, b, holds, fails))

    def _column(self, one: Column) -> int:
        return _place(self._numbers, one.name)

    def _constant(self, value: float) -> int:
        self._constants.append(value)
        return len(self._constants) - 1


def _place(places: dict[_T, int], key: _T) -> int:
    return places.setdefault(key, len(places))
