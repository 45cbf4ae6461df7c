"""Runs a program of conditions over a batch: compiled, row by row, and only as far as the answer takes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.features.jit import entry, inlined
from sentinel.policy.rules.program import HOLDS, Program, Step

_PUSH_COLUMN = int(Step.PUSH_COLUMN)
_PUSH_NUMBER = int(Step.PUSH_NUMBER)
_ADD = int(Step.ADD)
_SUBTRACT = int(Step.SUBTRACT)
_MULTIPLY = int(Step.MULTIPLY)
_DIVIDE = int(Step.DIVIDE)
_LEAST = int(Step.LEAST)
_MOST = int(Step.MOST)
_ABSOLUTE = int(Step.ABSOLUTE)
_NEGATE = int(Step.NEGATE)
_COMPARE = int(Step.COMPARE)
_COLUMN_WITH_NUMBER = int(Step.COLUMN_WITH_NUMBER)
_AMONG_NUMBERS = int(Step.AMONG_NUMBERS)
_NUMBER_MISSING = int(Step.NUMBER_MISSING)
_SAME_TEXT = int(Step.SAME_TEXT)
_OTHER_TEXT = int(Step.OTHER_TEXT)
_SAME_TEXTS = int(Step.SAME_TEXTS)
_OTHER_TEXTS = int(Step.OTHER_TEXTS)
_AMONG_TEXTS = int(Step.AMONG_TEXTS)
_TEXT_MISSING = int(Step.TEXT_MISSING)
_ON_LIST = int(Step.ON_LIST)
_HOLDS = HOLDS


def run(
    program: Program, numbers: NDArray[np.float64], texts: NDArray[np.uint64], listed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which conditions hold, (n, r), for rows of its numbers (n, k), the hashes of its texts (n, t), and its look-ups.

    NaN is a missing number and 0 a missing text; `listed` (n, l) says whether a text is on a list.
    """
    found = np.empty((len(numbers), len(program.starts)), np.bool_)
    stack = np.empty(program.stack + 1)
    _run(
        program.steps, program.starts, program.constants, program.hashes, program.sets, numbers, texts, listed, stack,
        found,
    )  # fmt: skip
    return found


@entry
def _run(
    steps: NDArray[np.int32], starts: NDArray[np.int32], constants: NDArray[np.float64], hashes: NDArray[np.uint64],
    sets: NDArray[np.int32], numbers: NDArray[np.float64], texts: NDArray[np.uint64], listed: NDArray[np.bool_],
    stack: NDArray[np.float64], found: NDArray[np.bool_],
) -> None:  # fmt: skip
    for row in range(found.shape[0]):
        for condition in range(found.shape[1]):
            at, top = starts[condition], 0
            while at >= 0:
                step, a, b = steps[at, 0], steps[at, 1], steps[at, 2]
                if step >= _COLUMN_WITH_NUMBER and step < _AMONG_NUMBERS:
                    holds = _compared(step - _COLUMN_WITH_NUMBER, numbers[row, a], constants[b])
                elif step < _COMPARE:
                    top = _computed(step, a, numbers[row], constants, stack, top)
                    holds = True
                elif step == _COMPARE:
                    top -= 2
                    holds = _compared(a, stack[top], stack[top + 1])
                elif step == _AMONG_NUMBERS:
                    top -= 1
                    holds = _among(constants, a, b, stack[top])
                elif step == _NUMBER_MISSING:
                    top -= 1
                    holds = np.isnan(stack[top])
                elif step == _ON_LIST:
                    holds = listed[row, a]
                elif step < _ON_LIST:
                    holds = _asked(step, a, b, texts[row], hashes, sets)
                else:
                    holds = a == 1
                at = steps[at, 3] if holds else steps[at, 4]
            found[row, condition] = at == _HOLDS


@inlined
def _computed(
    step: int,
    a: int,
    numbers: NDArray[np.float64],
    constants: NDArray[np.float64],
    stack: NDArray[np.float64],
    top: int,
) -> int:
    """Carry out a step that leaves one number more, or less, on the stack; how many there are then."""
    if step == _PUSH_COLUMN:
        stack[top] = numbers[a]
        return top + 1
    if step == _PUSH_NUMBER:
        stack[top] = constants[a]
        return top + 1
    if step == _ABSOLUTE:
        stack[top - 1] = abs(stack[top - 1])
        return top
    if step == _NEGATE:
        stack[top - 1] = -stack[top - 1]
        return top
    left, right = stack[top - 2], stack[top - 1]
    if step == _ADD:
        found = left + right
    elif step == _SUBTRACT:
        found = left - right
    elif step == _MULTIPLY:
        found = left * right
    elif step == _DIVIDE:
        found = left / right if right != 0.0 else np.nan
    elif np.isnan(left) or np.isnan(right):
        found = np.nan
    elif step == _LEAST:
        found = min(left, right)
    else:
        found = max(left, right)
    stack[top - 2] = found
    return top - 1


@inlined
def _compared(op: int, left: float, right: float) -> bool:
    """Places of `COMPARISONS`; what is missing fulfils none."""
    if op == 0:
        return left == right
    if op == 1:
        return left < right or left > right
    if op == 2:
        return left < right
    if op == 3:
        return left <= right
    if op == 4:
        return left > right
    return left >= right


@inlined
def _asked(
    step: int, a: int, b: int, texts: NDArray[np.uint64], hashes: NDArray[np.uint64], sets: NDArray[np.int32]
) -> bool:
    """What is asked about a text; a missing one has the hash 0."""
    own = texts[a]
    if step == _TEXT_MISSING:
        return own == 0
    if own == 0:
        return False
    if step == _AMONG_TEXTS:
        return _among(hashes, sets[b, 0], sets[b, 1], own)
    other = hashes[b] if step < _SAME_TEXTS else texts[b]
    if step == _SAME_TEXT or step == _SAME_TEXTS:
        return own == other
    return other != 0 and own != other


@inlined
def _among(values: NDArray[Any], begin: int, end: int, value: Any) -> bool:
    """Whether a value is among the sorted values [begin, end)."""
    last = end
    while begin < end:
        middle = (begin + end) // 2
        if values[middle] < value:
            begin = middle + 1
        else:
            end = middle
    return begin < last and values[begin] == value
