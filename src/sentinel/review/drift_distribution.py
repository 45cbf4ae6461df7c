"""The distribution of one column then and now: what a person looks at when a test says that it moved."""

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.model.reference import ColumnReference, Kind, Singles, bin_counts, ordered_values

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """The shares of rows in a bin, in training (`then`) and in the window (`now`, None while that is empty).

    `value` is the upper end of a bin of numbers, without which `above` says from where on, or the value itself of what
    has few. `what`: `upto` or `value`; `rest` is above all others, or any other value; `missing` has none.
    """

    what: Literal["upto", "value", "rest", "missing"]
    value: float | None
    then: float
    now: float | None


class Quantile(msgspec.Struct, frozen=True, kw_only=True):
    """The value that a share of the rows does not exceed; `then` is that of the grid that is kept of training."""

    share: float
    then: float | None
    now: float | None


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Of one column: how many rows it was taken of, and how they lie. Codes of words have no quantiles."""

    name: str
    kind: Kind
    rows_then: int
    rows_now: int
    bins: list[Bin]
    quantiles: list[Quantile]


def distribution(base: ColumnReference, values: NDArray[np.float32]) -> Distribution:
    """The training distribution of a column beside that of live values (n,), of which NaN are missing."""
    ordered, missing = ordered_values(values)
    edges = np.array(base.edges, dtype=np.float32)
    counts = bin_counts(base.kind, ordered, missing, edges)
    is_number = base.kind in ("numeric", "time")
    places = [("upto" if is_number else "value", value) for value in base.edges] + [("rest", None), ("missing", None)]
    bins = [
        Bin(what=what, value=value, then=then / base.rows, now=int(now) / len(values) if len(values) else None)  # type: ignore[arg-type]
        for (what, value), then, now in zip(places, base.counts, counts, strict=True)
    ]
    return Distribution(
        name=base.name, kind=base.kind, rows_then=base.rows, rows_now=len(values), bins=bins,
        quantiles=[] if base.kind == "categorical" else _quantiles(base, ordered),
    )  # fmt: skip


def _quantiles(base: ColumnReference, ordered: Singles) -> list[Quantile]:
    present = base.rows - base.missing
    found = []
    for share in QUANTILES:
        then = next((value for value, n in zip(base.grid, base.at_most, strict=True) if n >= share * present), None)
        now = float(ordered[max(int(np.ceil(share * len(ordered))) - 1, 0)]) if len(ordered) else None
        found.append(Quantile(share=share, then=then, now=now))
    return found
