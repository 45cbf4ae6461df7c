"""Two models on the same rows: what one is better at, and whether that is more than chance."""

from collections.abc import Sequence

import msgspec
import numpy as np

from sentinel.errors import DataProblem
from sentinel.review.average_precision import average_precision
from sentinel.train.figures.evaluate import AtThreshold, at_threshold, auc_roc, recall_at_fpr
from sentinel.train.figures.reliability import calibration_error
from sentinel.train.figures.resampling import SEED, Estimate, Ranking, card_weights, estimate, numbered
from sentinel.train.rows.measured import Measured

FIGURES = ("average_precision", "auc_roc", "recall_at_fpr")


class Paired(msgspec.Struct, frozen=True):
    """A figure of both, and `difference`, of the second less the first, with the interval of the same resamples."""

    first: float
    second: float
    difference: Estimate


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on the same labelled rows. Intervals are of a bootstrap over cards, paired.

    `frauds` counts each of them once, however many it stands for. `recall_at_fpr` is at `fpr`; `review` and `block` are
    each model's own thresholds, where the second has one.
    """

    first: str
    second: str
    measured_on: str
    transactions: int
    frauds: int
    cards: int
    fpr: float
    average_precision: Paired
    auc_roc: Paired
    recall_at_fpr: Paired
    calibration_error: tuple[float, float]
    review: tuple[AtThreshold, AtThreshold]
    block: tuple[AtThreshold | None, AtThreshold | None]


def shared_rows(first: Measured, second: Measured) -> tuple[Measured, Measured]:
    """The rows of one file that neither model learned from. Raises DataProblem where not both kinds are left."""
    begin = max(first.time_us[0], second.time_us[0])
    both = first.where(first.time_us >= begin), second.where(second.time_us >= begin)
    if len(both[0].labels) != len(both[1].labels) or (both[0].labels != both[1].labels).any():
        raise DataProblem("the two models read this file in two ways, so their rows cannot be compared one by one")
    if both[0].frauds in (0, len(both[0].labels)):
        raise DataProblem(
            f"of the rows that neither model learned from {both[0].frauds:,} are frauds, of {len(both[0].labels):,}; "
            "both kinds are needed: give a file of what came later"
        )
    return both


def compare(
    versions: tuple[str, str],
    measured: tuple[Measured, Measured],
    thresholds: Sequence[tuple[float, float | None]],
    *,
    fpr: float = 0.01,
    seed: int = SEED,
) -> Comparison:
    """Compare two models on `shared_rows`. `thresholds` are review and block of each; block None never blocks."""
    first, second = measured
    labels, numbers = first.labels, numbered(first.cards, len(first.labels))
    points = [_points(one, fpr) for one in measured]
    rankings = [Ranking(one.scores, labels) for one in measured]
    drawn = np.array([[one.figures(weights, fpr) for one in rankings] for weights in card_weights(numbers, seed)])
    differences = drawn[:, 1] - drawn[:, 0]
    figures = {
        name: Paired(points[0][n], points[1][n], estimate(points[1][n] - points[0][n], differences[:, n]))
        for n, name in enumerate(FIGURES)
    }
    review = [at_threshold(one.scores, labels, both[0]) for one, both in zip(measured, thresholds, strict=True)]
    block = [
        None if both[1] is None else at_threshold(one.scores, labels, both[1])
        for one, both in zip(measured, thresholds, strict=True)
    ]
    return Comparison(
        first=versions[0],
        second=versions[1],
        measured_on=first.said if len(first.labels) < len(second.labels) else second.said,
        transactions=len(labels),
        frauds=first.frauds_seen,
        cards=int(numbers.max(initial=-1)) + 1,
        fpr=fpr,
        **figures,
        calibration_error=(calibration_error(first.scores, labels), calibration_error(second.scores, labels)),
        review=(review[0], review[1]),
        block=(block[0], block[1]),
    )


def _points(measured: Measured, fpr: float) -> tuple[float, float, float]:
    scores, labels = measured.scores, measured.labels
    return average_precision(scores, labels), auc_roc(scores, labels), recall_at_fpr(scores, labels, fpr)
