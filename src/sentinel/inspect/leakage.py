"""Leaks: columns that tell the label by themselves, as what is only written once a fraud is known does."""

from collections.abc import Collection, Sequence

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.events import cells
from sentinel.inspect.columns import ColumnFound

SUSPECT = 0.95
"""An AUC from which a single column is too good."""

LATE = "is it known when the transaction comes?"
"""What is to be asked of such a column."""

_FEWEST = 10
_SEED = 42


class Separation(msgspec.Struct, frozen=True):
    """How well one column alone tells frauds from others: an AUC from 0.5 to 1.

    By its values, and by whether it has one. What is known of a text is learned on one half of the rows and measured on
    the other. That frauds come back to the same keys is no leak.
    """

    column: str
    by_value: float
    by_missing: float
    is_key: bool = False

    @property
    def best(self) -> float:
        """The better of the two."""
        return max(self.by_value, self.by_missing)

    @property
    def tells(self) -> str:
        """How it nearly separates the classes."""
        how = "whether it is missing tells" if self.by_missing > self.by_value else "it tells"
        return f"{how} the label nearly by itself (AUC {self.best:.3f})"

    @property
    def is_suspect(self) -> bool:
        """Whether the column nearly separates the classes."""
        return (self.by_missing if self.is_key else self.best) >= SUSPECT


def separations(
    sample: pl.DataFrame, labels: NDArray[np.int8], columns: Sequence[ColumnFound], keys: Collection[str]
) -> list[Separation]:
    """Of every column that can be judged, the best first; none where one class has too few rows."""
    frauds = int(labels.sum())
    if min(frauds, len(labels) - frauds) < _FEWEST:
        return []
    able = [one for one in columns if one.kind not in ("other", "empty")]
    found = [_separation(sample[one.name], labels, one, is_key=one.name in keys) for one in able]
    return sorted(found, key=lambda one: -one.best)


def _separation(column: pl.Series, labels: NDArray[np.int8], one: ColumnFound, *, is_key: bool) -> Separation:
    if column.dtype.is_float():
        column = column.fill_nan(None)
    if column.dtype == pl.String:
        is_missing = column.str.strip_chars().str.to_lowercase().is_in(list(cells.MISSING_WORDS))
        column = column.set(is_missing if one.is_number else column == "", None)
    missing = column.is_null().to_numpy()
    by_value, by_missing = _auc(_ranked(column, labels, one), labels), _auc(missing.astype(float), labels)
    return Separation(one.name, by_value, by_missing, is_key)


def _ranked(column: pl.Series, labels: NDArray[np.int8], one: ColumnFound) -> NDArray[np.float64]:
    """A number for each row that may rank frauds above others."""
    if one.is_number:
        decimal = "," if one.comma_decimals else "."
        numbers = cells.numbers(column, one.name, decimal=decimal).values
        return numbers.fill_null(numbers.median()).to_numpy()
    if column.dtype.is_temporal():
        times = column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64)
        return times.fill_null(times.median()).to_numpy()
    return _learned(column, labels)


def _learned(column: pl.Series, labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """The share of frauds among the rows of the other half that have the same text, drawn towards that of all."""
    overall = float(labels.mean())
    half = np.random.default_rng(_SEED).integers(0, 2, len(labels))
    frame = pl.DataFrame({"value": column.cast(pl.String), "label": labels, "half": half})
    by = frame.group_by("value", "half").agg(n=pl.len(), frauds=pl.col("label").cast(pl.Int64).sum())
    share = (pl.col("frauds") + 5 * overall) / (pl.col("n") + 5)
    other = by.select("value", (1 - pl.col("half")).alias("half"), share.alias("share"))
    found = frame.join(other, on=["value", "half"], how="left", maintain_order="left", nulls_equal=True)
    return found["share"].fill_null(overall).to_numpy()


def _auc(scores: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Area under the ROC curve, or one less it where that is more."""
    ranks = pl.Series(scores).rank("average").to_numpy()
    frauds = int(labels.sum())
    above = float(ranks[labels == 1].sum()) - frauds * (frauds + 1) / 2
    area = above / (frauds * (len(labels) - frauds))
    return max(area, 1 - area)
