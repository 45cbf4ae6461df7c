"""How large what a model computes can become: some hundred KB of numbers can be spread into gigabytes."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

from sentinel.errors import BundleProblem

ROWS, MOST_ELEMENTS = 1_024, 1 << 26
"""Numbers in all that a model computes together, for so many rows."""

Attributes: TypeAlias = Mapping[str, Any]


class Size(NamedTuple):
    """At most these sizes; or, where it is not known how they lie, so many numbers in all as the only size."""

    sizes: tuple[int, ...]
    is_known: bool = True

    @property
    def elements(self) -> int:
        """Of all numbers."""
        return prod(self.sizes)


def _spread(one: Size, other: Size) -> Size:
    """What an operator makes that repeats the smaller one to fit the larger."""
    if not (one.is_known and other.is_known):
        return Size((one.elements * other.elements,), is_known=False)
    length = max(len(one.sizes), len(other.sizes))
    pairs = zip(_filled(one.sizes, length), _filled(other.sizes, length), strict=True)
    return Size(tuple(max(pair) for pair in pairs))


def _filled(sizes: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (1,) * (length - len(sizes)) + sizes


def _same(inputs: Sequence[Size], _: Attributes) -> Size:
    return inputs[0]


def _spread_all(inputs: Sequence[Size], _: Attributes) -> Size:
    found = inputs[0]
    for one in inputs[1:]:
        found = _spread(found, one)
    return found


def _reduced(inputs: Sequence[Size], attributes: Attributes) -> Size:
    """The sizes that are summed up become 1, or are no more: then it is not known where the others are."""
    keeps = attributes.get("keepdims", 1)
    return inputs[0] if keeps else Size((inputs[0].elements,), is_known=False)


def _product(inputs: Sequence[Size], attributes: Attributes) -> Size:
    one, other = inputs[:2]
    if not (one.is_known and other.is_known) or min(len(one.sizes), len(other.sizes)) < 2:
        return Size((one.elements * other.elements,), is_known=False)
    first, last = one.sizes[-2:][attributes.get("transA", 0) != 0], other.sizes[-2:][attributes.get("transB", 0) == 0]
    outer = _spread(Size(one.sizes[:-2]), Size(other.sizes[:-2]))
    found = Size((*outer.sizes, first, last))
    return _spread(found, inputs[2]) if len(inputs) > 2 else found


def _targets(name: str) -> Callable[[Sequence[Size], Attributes], Size]:
    def found(inputs: Sequence[Size], attributes: Attributes) -> Size:
        return Size((inputs[0].sizes[0], max(attributes.get(name, 1), 1)), inputs[0].is_known)

    return found


def _constant(_: Sequence[Size], attributes: Attributes) -> Size:
    given = list(attributes.values())
    if len(given) != 1:
        raise _refused("a constant has not one value")
    value = given[0]
    if isinstance(value, tuple):
        return Size(value)
    return Size((len(value),) if isinstance(value, list) else ())


_OF = {
    **dict.fromkeys(
        ("Abs", "Cast", "Exp", "Identity", "Imputer", "IsNaN", "Log", "Neg", "Relu", "Scaler", "Sigmoid", "Tanh"), _same
    ),
    **dict.fromkeys(("Add", "Clip", "Div", "Max", "Min", "Mul", "Sub"), _spread_all),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduced),
    "MatMul": _product, "Gemm": _product, "Constant": _constant,
    "LinearRegressor": _targets("targets"), "TreeEnsembleRegressor": _targets("n_targets"),
}  # fmt: skip


def check_sizes(nodes: Sequence[Any], tensors: Mapping[str, tuple[int, ...]], inputs: Mapping[str, int]) -> None:
    """Raise BundleProblem where the nodes compute more than is accepted.

    `tensors` are the sizes of those in the file, `inputs` the widths of rows.
    """
    known = {name: Size((ROWS, max(width, 1))) for name, width in inputs.items()}
    known |= {name: Size(sizes) for name, sizes in tensors.items()}
    total = 0
    for node in nodes:
        missing = [name for name in node.inputs if name and name not in known]
        if missing or (not node.inputs and node.operator != "Constant"):
            raise BundleProblem(
                f"the model is not accepted: {node.operator} takes what nothing before it makes; train anew"
            )
        size = _OF[node.operator]([known[name] for name in node.inputs if name], node.attributes)
        known |= dict.fromkeys(node.outputs, size)
        total += size.elements
        if total > MOST_ELEMENTS:
            raise _refused(
                f"for {ROWS:,} rows it would compute {total:,} numbers at {node.operator}, and {MOST_ELEMENTS:,} are "
                "accepted"
            )


def _refused(why: str) -> BundleProblem:
    return BundleProblem(f"the model is not accepted: {why}; train anew")
