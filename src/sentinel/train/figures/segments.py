"""Segments: how well a model does on parts of the transactions, which a figure over all of them may hide."""

import itertools
from collections.abc import Iterator

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.errors import DataProblem
from sentinel.events.schema import Schema
from sentinel.review.average_precision import average_precision
from sentinel.train.figures.evaluate import recall_at_fpr
from sentinel.train.rows.measured import Measured

AMOUNT = "amount"
MOST_SEGMENTS = 30
_OTHERS, _MISSING = "all others", "missing"
_BAND_EDGES = (10, 30, 100, 300, 1_000, 3_000, 10_000)


class Segment(msgspec.Struct, frozen=True):
    """One part of the transactions. Figures are None where it has no fraud, or nothing else.

    `recall_at_fpr` is the recall while at most `fpr` of this segment's own legitimate transactions are alarms;
    `alarms` and `caught` are at the model's own review threshold.
    """

    by: str
    value: str
    transactions: int
    frauds: int
    alarms: int
    caught: int
    average_precision: float | None
    recall_at_fpr: float | None


def segments(
    measured: Measured, schema: Schema, by: str, review: float, fpr: float = 0.01, *, most: int = MOST_SEGMENTS
) -> list[Segment]:
    """The segments by a category, a text or `amount` (bands of it), the largest first; beyond `most` they are one.

    Raises DataProblem for what transactions cannot be told apart by.
    """
    return [
        _segment(measured, where, (by, value), review, fpr)
        for value, where in _parts(measured, schema, by, most)
    ]  # fmt: skip


def _parts(measured: Measured, schema: Schema, by: str, most: int) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    if by == AMOUNT:
        yield from _bands(measured.amounts)
        return
    if by not in schema.categories:
        known = ", ".join((*schema.categories, AMOUNT))
        raise DataProblem(f"transactions are not told apart by {by!r}; take one of {known}")
    column = measured.frame[by].fill_null(_MISSING)
    counted = column.alias("value").value_counts().sort(["count", "value"], descending=[True, False])
    named = counted["value"].to_list()[:most]
    for value in named:
        yield value, (column == value).to_numpy()
    if len(named) < len(counted):
        yield _OTHERS, (~column.is_in(pl.Series(named).implode())).to_numpy()


def _bands(amounts: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Bands with fixed borders, so that those of two files are the same; those without a row are left out."""
    band = np.searchsorted(_BAND_EDGES, amounts, side="right")
    names = [f"below {_BAND_EDGES[0]:,}"]
    names += [f"{low:,} to {high:,}" for low, high in itertools.pairwise(_BAND_EDGES)]
    names.append(f"from {_BAND_EDGES[-1]:,}")
    for number, name in enumerate(names):
        where = band == number
        if where.any():
            yield name, where


def _segment(
    measured: Measured, where: NDArray[np.bool_], named: tuple[str, str], review: float, fpr: float
) -> Segment:
    scores, labels = measured.scores[where], measured.labels[where]
    frauds = int(np.count_nonzero(labels == 1))
    alarms = scores >= review
    can_rank = 0 < frauds < len(labels)
    return Segment(
        by=named[0],
        value=named[1],
        transactions=len(labels),
        frauds=frauds,
        alarms=int(np.count_nonzero(alarms)),
        caught=int(np.count_nonzero(alarms & (labels == 1))),
        average_precision=average_precision(scores, labels) if can_rank else None,
        recall_at_fpr=recall_at_fpr(scores, labels, fpr) if can_rank else None,
    )
