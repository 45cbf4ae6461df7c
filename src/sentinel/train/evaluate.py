"""Evaluation: the metrics of a model with confidence intervals, beside those of simple rankings."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sentinel.features.plan import FeaturePlan
from sentinel.policy.thresholds import Thresholds
from sentinel.review.average_precision import average_precision

REPLICATES = 200
Scores: TypeAlias = NDArray[np.floating[Any]]


class Estimate(msgspec.Struct, frozen=True):
    """A figure and its 95 % confidence interval (percentiles of a bootstrap over transactions)."""

    value: float
    low: float
    high: float


class AtThreshold(msgspec.Struct, frozen=True):
    """Precision, recall and false-positive rate when everything from `threshold` on is an alarm."""

    threshold: float
    precision: float
    recall: float
    false_positive_rate: float
    caught: int
    false_alarms: int


class Metrics(msgspec.Struct, frozen=True):
    """Metrics on rows the model has not seen. `block` is None where the policy never blocks."""

    transactions: int
    frauds: int
    average_precision: Estimate
    auc_roc: Estimate
    recall_at_1pct_fpr: Estimate
    review: AtThreshold
    block: AtThreshold | None
    baselines: dict[str, Estimate]
    lift_over_best_baseline: Estimate | None


def evaluate(
    scores: Scores, labels: NDArray[np.int8], thresholds: Thresholds, rankings: Mapping[str, Scores], seed: int = 42
) -> Metrics:
    """Metrics of scores (n,) against labels (n,), 0 or 1, both kinds present.

    `rankings` are other scores of the same rows, such as the amount alone: their average precision is the
    baseline, and the lift over the best of them is estimated on the same resamples.
    """
    samples = _resamples(scores, labels, seed)
    points = (average_precision(scores, labels), auc_roc(scores, labels), recall_at_fpr(scores, labels, 0.01))
    estimates = [_estimate(point, sample) for point, sample in zip(points, samples, strict=True)]
    others = {
        name: (average_precision(one, labels), _resamples(one, labels, seed)[0]) for name, one in rankings.items()
    }
    best = max(others.values(), key=lambda one: one[0], default=None)
    return Metrics(
        transactions=len(labels),
        frauds=int(labels.sum()),
        average_precision=estimates[0],
        auc_roc=estimates[1],
        recall_at_1pct_fpr=estimates[2],
        review=at_threshold(scores, labels, thresholds.review),
        block=None if thresholds.block is None else at_threshold(scores, labels, thresholds.block),
        baselines={name: _estimate(*one) for name, one in others.items()},
        lift_over_best_baseline=None if best is None else _estimate(points[0] - best[0], samples[0] - best[1]),
    )


def baselines(plan: FeaturePlan, rows: NDArray[np.float32]) -> dict[str, Scores]:
    """Rankings without a model: the size of every exact number among the features."""
    exact = plan.schema.decimals.keys() - set(plan.schema.place or ())
    return {
        feature.name: np.abs(np.nan_to_num(rows[:, i]))
        for i, feature in enumerate(plan.features)
        if feature.kind == "field" and feature.of in exact
    }


def _estimate(point: float, sample: NDArray[np.float64]) -> Estimate:
    low, high = np.nanpercentile(sample, [2.5, 97.5])
    return Estimate(point, float(low), float(high))


def auc_roc(scores: Scores, labels: NDArray[np.int8]) -> float:
    """Area under the ROC curve (scikit-learn)."""
    return float(roc_auc_score(labels, scores))


def recall_at_fpr(scores: Scores, labels: NDArray[np.int8], share: float) -> float:
    """Share of frauds caught when at most `share` of the legitimate transactions raise an alarm."""
    legitimate = np.sort(scores[labels == 0])[::-1]
    threshold = legitimate[int(np.floor(share * len(legitimate)))]
    return float(np.mean(scores[labels == 1] > threshold))


def at_threshold(scores: Scores, labels: NDArray[np.int8], threshold: float) -> AtThreshold:
    """The metrics at one threshold."""
    alarms = scores >= threshold
    caught, false_alarms = int(np.sum(alarms & (labels == 1))), int(np.sum(alarms & (labels == 0)))
    return AtThreshold(
        threshold=threshold,
        precision=caught / max(caught + false_alarms, 1),
        recall=caught / max(int(np.sum(labels == 1)), 1),
        false_positive_rate=false_alarms / max(int(np.sum(labels == 0)), 1),
        caught=caught,
        false_alarms=false_alarms,
    )


def _resamples(scores: Scores, labels: NDArray[np.int8], seed: int) -> NDArray[np.float64]:
    """Average precision, AUC ROC and recall at 1 % (3, replicates) on resamples of the transactions.

    Rows are drawn by Poisson weights in their given order, so that the same seed draws the same rows whatever
    the scores; each set of scores is sorted only once.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], labels[order] == 1
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last row of each distinct score
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(REPLICATES):
        weights = rng.poisson(1.0, len(ranked))[order]
        hits, misses = np.cumsum(weights * truth)[ends], np.cumsum(weights * ~truth)[ends]
        if hits[-1] == 0 or misses[-1] == 0:
            found.append((np.nan, np.nan, np.nan))
            continue
        precision = hits / np.maximum(hits + misses, 1)
        average = np.sum(precision * np.diff(hits, prepend=0)) / hits[-1]
        between = (hits + np.concatenate([[0], hits[:-1]])) / 2
        area = np.sum(np.diff(misses, prepend=0) * between) / (hits[-1] * misses[-1])
        within = np.searchsorted(misses, 0.01 * misses[-1], side="right") - 1
        found.append((average, area, hits[within] / hits[-1] if within >= 0 else 0.0))
    return np.array(found).T
