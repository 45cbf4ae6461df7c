"""The training distribution: what live rows are compared with, small enough to be stored with the model."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.features.definitions import Feature

Kind = Literal["numeric", "categorical", "constant", "time"]
Statistic = Literal["mean", "psi", "ks", "missing", "other"]
TESTS: dict[Kind, tuple[Statistic, ...]] = {
    "numeric": ("mean", "psi", "ks", "missing"),
    "categorical": ("psi", "other", "missing"),
    "constant": ("other", "missing"),
    "time": (),
}
"""The tests of each kind of column. Parts of the time change within a day by nature."""

BINS, GRID = 20, 100
CLIPPED_SHARE = 0.001  # values beyond this share of a tail count as its quantile; a column then flat is constant
FREQUENT_SHARE, MOST_VALUES = 0.005, 30  # categories with a bin of their own
_TIME_PARTS = ("hour_of_day", "day_of_week", "is_weekend", "is_night", "time_of_day")
_CYCLIC = ("sine", "cosine")
_LARGEST = float(np.finfo(np.float32).max)

Singles = NDArray[np.float32]
Counts = NDArray[np.int64]


def kind_of(feature: Feature) -> Kind:
    """How a feature's column is to be compared, from its definition alone."""
    if feature.kind in _TIME_PARTS or (feature.kind in _CYCLIC and kind_of(feature.parts[0]) == "time"):
        return "time"
    return "categorical" if feature.kind == "category" else "numeric"


class Moments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clipping bounds, and mean and standard deviation of the values clipped to them."""

    low: float
    high: float
    mean: float
    std: float


class ColumnReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The training distribution of one column. Values are float32 in shortest form.

    `moments` is None where all is missing or the values are codes. `edges` are the upper ends of all numeric
    bins but the last, or the values that have a bin of their own; `counts` the rows of each bin, then of the
    rest (numeric: above the last edge) and the missing. `at_most` are the rows up to each `grid` value.
    """

    name: str
    kind: Kind
    rows: int
    missing: int
    moments: Moments | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    grid: tuple[float, ...]
    at_most: tuple[int, ...]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The training distribution of every feature and of the score; stored as JSON, about 2 kB a column."""

    features: tuple[ColumnReference, ...]
    score: ColumnReference

    @classmethod
    def learn(
        cls, names: Sequence[str], kinds: Sequence[Kind], rows: NDArray[Any], scores: NDArray[Any]
    ) -> "Reference":
        """The distribution of `rows` (n, F) and `scores` (n,); NaN is missing, an infinity the largest float32.

        Raises InvalidDefinition when names, kinds, rows and scores do not fit each other or there are no rows.
        """
        if rows.shape != (len(scores), len(names)) or len(kinds) != len(names) or len(scores) == 0:
            raise InvalidDefinition(
                f"reference: {len(names)} names, {len(kinds)} kinds, rows {rows.shape} and {len(scores)} scores do "
                "not fit; give (n, F) rows and n scores, n at least 1"
            )
        parts = zip(names, kinds, rows.T, strict=True)
        return cls(
            features=tuple(_learn_column(name, kind, values) for name, kind, values in parts),
            score=_learn_column("score", "numeric", scores),
        )

    @property
    def tests(self) -> int:
        """How many tests one evaluation makes."""
        return sum(len(TESTS[column.kind]) for column in (*self.features, self.score))


def ordered_values(values: NDArray[Any]) -> tuple[Singles, int]:
    """The values that are not missing as ascending float32, infinities as the largest numbers; how many are missing."""
    with np.errstate(over="ignore"):
        singles = np.sort(np.asarray(values, dtype=np.float32))
    present = len(singles) - int(np.isnan(singles).sum())
    ordered: Singles = np.clip(singles[:present], -_LARGEST, _LARGEST)
    return ordered, len(singles) - present


def bin_counts(kind: Kind, ordered: Singles, missing: int, edges: Singles) -> Counts:
    """Rows in each bin: numeric ones by upper edge, otherwise one value each and the others; then the missing."""
    to = np.searchsorted(ordered, edges, side="right")
    if kind in ("numeric", "time"):
        return np.concatenate([np.diff(to, prepend=0, append=len(ordered)), [missing]]).astype(np.int64)
    equal = to - np.searchsorted(ordered, edges, side="left")
    return np.concatenate([equal, [len(ordered) - equal.sum(), missing]]).astype(np.int64)


def _quantiles(ordered: Singles, shares: NDArray[np.float64]) -> Singles:
    """The least values that at least these shares of the sample do not exceed, each once."""
    places = np.maximum(np.ceil(shares * len(ordered)).astype(np.int64) - 1, 0)
    return np.unique(ordered[places]) if len(ordered) else ordered


def _short(values: Singles) -> tuple[float, ...]:
    """Float32 numbers in the fewest digits that read back to the same float32."""
    return tuple(float(str(value)) for value in values)


def _moments(ordered: Singles) -> Moments | None:
    if len(ordered) == 0:
        return None
    low, high = (_short(_quantiles(ordered, np.array([share])))[0] for share in (CLIPPED_SHARE, 1 - CLIPPED_SHARE))
    clipped = np.clip(ordered.astype(np.float64), low, high)
    return Moments(low, high, float(clipped.mean()), float(clipped.std()))


def _frequent(ordered: Singles, rows: int) -> Singles:
    values, counts = np.unique(ordered, return_counts=True)
    first = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    found: Singles = np.sort(values[first[counts[first] >= FREQUENT_SHARE * rows]])
    return found


def _learn_column(name: str, kind: Kind, values: NDArray[Any]) -> ColumnReference:
    ordered, missing = ordered_values(values)
    moments = None if kind == "categorical" else _moments(ordered)
    if kind == "categorical":
        edges = _frequent(ordered, len(values))
    elif kind == "numeric" and (moments is None or moments.low == moments.high):
        kind = "constant"
        edges = np.array([moments.low] if moments else [], dtype=np.float32)
    else:
        edges = _quantiles(ordered, np.arange(1, BINS) / BINS)
        edges = edges[edges < ordered[-1]] if len(ordered) else edges
    grid = _quantiles(ordered, np.linspace(0.0, 1.0, GRID)) if kind == "numeric" else ordered[:0]
    return ColumnReference(
        name=name,
        kind=kind,
        rows=len(values),
        missing=missing,
        moments=moments,
        edges=_short(edges),
        counts=tuple(bin_counts(kind, ordered, missing, edges).tolist()),
        grid=_short(grid),
        at_most=tuple(np.searchsorted(ordered, grid, side="right").tolist()),
    )
