"""How good a detector is, with how sure we are of it."""

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from sentinel.policy.thresholds import Thresholds

REPLICATES = 200


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
    """What the model does on rows it never saw."""

    transactions: int
    frauds: int
    average_precision: Estimate
    auc_roc: Estimate
    recall_at_1pct_fpr: Estimate
    review: AtThreshold
    block: AtThreshold


def evaluate(
    scores: NDArray[np.float32], labels: NDArray[np.int8], thresholds: Thresholds, seed: int = 42
) -> Metrics:
    """Metrics of scores (n,) against labels (n,), 0 or 1, both kinds present."""
    samples = _bootstrap(scores, labels, seed)
    points = (average_precision(scores, labels), auc_roc(scores, labels), recall_at_fpr(scores, labels, 0.01))
    estimates = [
        Estimate(point, *(float(edge) for edge in np.percentile(sample, [2.5, 97.5])))
        for point, sample in zip(points, samples, strict=True)
    ]
    return Metrics(
        len(labels),
        int(labels.sum()),
        *estimates,
        at_threshold(scores, labels, thresholds.review),
        at_threshold(scores, labels, thresholds.block),
    )


def average_precision(scores: NDArray[np.floating], labels: NDArray[np.int8]) -> float:
    """Area under the precision-recall curve, by steps (scikit-learn)."""
    return float(average_precision_score(labels, scores))


def auc_roc(scores: NDArray[np.floating], labels: NDArray[np.int8]) -> float:
    """Area under the ROC curve (scikit-learn)."""
    return float(roc_auc_score(labels, scores))


def recall_at_fpr(scores: NDArray[np.floating], labels: NDArray[np.int8], share: float) -> float:
    """Share of frauds caught when at most `share` of the honest transactions raise an alarm."""
    honest = np.sort(scores[labels == 0])[::-1]
    bar = honest[int(np.floor(share * len(honest)))]
    return float(np.mean(scores[labels == 1] > bar))


def at_threshold(scores: NDArray[np.float32], labels: NDArray[np.int8], threshold: float) -> AtThreshold:
    """What happens at one threshold."""
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


def _bootstrap(scores: NDArray[np.float32], labels: NDArray[np.int8], seed: int) -> tuple[list[float], ...]:
    """The three figures on resamples of the transactions, each sorted only once."""
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], labels[order] == 1
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last row of each distinct score
    rng = np.random.default_rng(seed)
    found: tuple[list[float], ...] = ([], [], [])
    for _ in range(REPLICATES):
        weights = rng.poisson(1.0, len(ranked))
        hits, misses = np.cumsum(weights * truth)[ends], np.cumsum(weights * ~truth)[ends]
        if hits[-1] == 0 or misses[-1] == 0:
            continue
        new_hits = np.diff(hits, prepend=0)
        precision = hits / np.maximum(hits + misses, 1)
        found[0].append(float(np.sum(precision * new_hits) / hits[-1]))
        between = (hits + np.concatenate([[0], hits[:-1]])) / 2
        found[1].append(float(np.sum(np.diff(misses, prepend=0) * between) / (hits[-1] * misses[-1])))
        within = np.searchsorted(misses, 0.01 * misses[-1], side="right") - 1
        found[2].append(float(hits[within] / hits[-1]) if within >= 0 else 0.0)
    return found
