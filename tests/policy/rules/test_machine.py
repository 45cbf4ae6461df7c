"""The compiled program against an interpreter that takes a row at a time and knows nothing of it."""

import math
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.events.columns import hash_text
from sentinel.policy.rules import tree
from sentinel.policy.rules.machine import run
from sentinel.policy.rules.program import compile_conditions
from sentinel.policy.rules.reading import Names, read_condition

NAMES = Names(("a", "b", "c"), ("s", "t"), ("known", "none"))
ON_LIST = {"known": {"x", "y"}, "none": set()}
COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

numbers = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 1e300]) | st.floats(-5, 5)
amounts = st.recursive(
    numbers.map(lambda x: repr(x) if x >= 0 else f"({x!r})") | st.sampled_from(NAMES.numbers),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner)
        | st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner)
        | st.builds("abs({})".format, inner)
        | st.builds("-{}".format, inner)
    ),
    max_leaves=4,
)
quoted = st.sampled_from(["'x'", '"y"', "'z'"])
text_columns = st.sampled_from(NAMES.texts)
questions = (
    st.builds("{} {} {}".format, amounts, st.sampled_from([*COMPARE]), amounts)
    | st.builds("{} {} {}".format, text_columns, st.sampled_from(["==", "!="]), quoted | text_columns)
    | st.builds("{} {} ({})".format, text_columns, st.sampled_from(["in", "not in"]), quoted)
    | st.builds("{} {} ('x', {})".format, text_columns, st.sampled_from(["in", "not in"]), quoted)
    | st.builds("{} {} list('{}')".format, text_columns, st.sampled_from(["in", "not in"]), st.sampled_from([*ON_LIST]))
    | st.builds("{} in (3, -1.0, {})".format, st.sampled_from(NAMES.numbers), numbers)
    | st.builds(
        "{} is {}missing".format, st.sampled_from([*NAMES.numbers, *NAMES.texts]), st.sampled_from(["", "not "])
    )
    | st.sampled_from(["true", "false"])
)
conditions = st.recursive(
    questions,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner) | st.builds("not {}".format, inner)
    ),
    max_leaves=6,
)
values = st.sampled_from([math.nan, -1.0, 0.0, 0.5, 3.0, 1e300]) | st.floats(-5, 5)
texts = st.sampled_from([None, "x", "y", "z"])
rows = st.lists(st.tuples(values, values, values, texts, texts), max_size=5)


def amount_of(one, row):
    """The amount of a row, as a float; NaN where it is missing."""
    if isinstance(one, tree.Number):
        return one.value
    if isinstance(one, tree.Column):
        return row[NAMES.numbers.index(one.name)]
    parts = [amount_of(part, row) for part in one.parts]
    if any(map(math.isnan, parts)) or (one.op == "/" and parts[1] == 0):
        return math.nan
    with np.errstate(all="ignore"):
        first, second = np.float64(parts[0]), np.float64(parts[-1])
        return float({
            "+": lambda: first + second, "-": lambda: first - second, "*": lambda: first * second,
            "/": lambda: first / second, "min": lambda: min(first, second), "max": lambda: max(first, second),
            "abs": lambda: abs(first), "negative": lambda: -first,
        }[one.op]())  # fmt: skip


def text_of(one, row):
    return one.value if isinstance(one, tree.Text) else row[3 + NAMES.texts.index(one.name)]


def holds(one, row):
    match one:
        case tree.Always():
            return one.holds
        case tree.Not():
            return not holds(one.part, row)
        case tree.And():
            return all(holds(part, row) for part in one.parts)
        case tree.Or():
            return any(holds(part, row) for part in one.parts)
        case tree.Comparison():
            left, right = amount_of(one.left, row), amount_of(one.right, row)
            return not math.isnan(left) and not math.isnan(right) and COMPARE[one.op](left, right)
        case tree.SameText():
            left, right = text_of(one.column, row), text_of(one.other, row)
            return None not in (left, right) and (left == right) != one.not_equal
        case tree.AmongNumbers():
            return amount_of(one.amount, row) in one.values
        case tree.AmongTexts():
            return text_of(one.column, row) in one.values
        case tree.OnList():
            return text_of(one.column, row) in ON_LIST[one.name]
        case tree.Missing(of=tree.TextColumn()):
            return text_of(one.of, row) is None
        case tree.Missing():
            return math.isnan(amount_of(one.of, row))


def found_by_program(trees, table):
    program = compile_conditions(trees, hash_text)
    wide = [[row[NAMES.numbers.index(name)] for name in program.numbers] for row in table]
    hashes = [[hash_text(text) if (text := text_of(tree.TextColumn(name), row)) else 0 for name in program.texts]
              for row in table]  # fmt: skip
    listed = [[text_of(tree.TextColumn(name), row) in ON_LIST[which] for name, which in program.lookups]
              for row in table]  # fmt: skip
    return run(
        program,
        np.array(wide, np.float64).reshape(len(table), len(program.numbers)),
        np.array(hashes, np.uint64).reshape(len(table), len(program.texts)),
        np.array(listed, np.bool_).reshape(len(table), len(program.lookups)),
    ).tolist()


@settings(deadline=None, max_examples=300)  # the first call compiles
@given(st.lists(conditions, max_size=4), rows)
def test_every_condition_holds_where_brute_force_says_so(several, table):
    trees = [read_condition(one, NAMES) for one in several]
    assert found_by_program(trees, table) == [[holds(one, row) for one in trees] for row in table]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a > 1", [True, False, False]),
        ("not a > 1", [False, True, True]),
        ("a != 1", [True, True, False]),
        ("b / 0 > 1 or b / 0 <= 1", [False, False, False]),
        ("b / 0 is missing", [True, True, True]),
        ("s != 'x'", [False, True, False]),
        ("s not in list('known')", [False, True, False]),
        ("s == t", [True, False, False]),
    ],
)
def test_what_is_missing_fulfils_no_comparison(text, expected):
    table = [(2.0, 1.0, 0.0, "x", "x"), (0.0, 1.0, 0.0, "z", "x"), (math.nan, 1.0, 0.0, None, None)]
    assert [row[0] for row in found_by_program([read_condition(text, NAMES)], table)] == expected
