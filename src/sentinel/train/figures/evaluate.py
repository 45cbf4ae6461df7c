"""Evaluation: the metrics of a model with confidence intervals, beside those of simple rankings."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sentinel.features.plan import FeaturePlan
from sentinel.policy.thresholds import Thresholds
from sentinel.review.average_precision import average_precision
from sentinel.train.figures.reliability import calibration_error
from sentinel.train.figures.resampling import SEED, Estimate, Ranking, Scores, card_weights, estimate, numbered


class AtThreshold(msgspec.Struct, frozen=True):
    """What follows when everything from `threshold` on is an alarm. `confusion` is ((tn, fp), (fn, tp))."""

    threshold: float
    precision: float
    recall: float
    f1: float
    accuracy: float
    false_positive_rate: float
    caught: int
    false_alarms: int
    confusion: tuple[tuple[int, int], tuple[int, int]]


class Metrics(msgspec.Struct, frozen=True):
    """Metrics on rows the model has not seen.

    Each threshold is judged as if everything from it on were an alarm. `block` and `challenge` are None where the
    policy never does that. `cards` are the values of the first key, by which the intervals are drawn. `expected_frauds`
    is the sum of the scores, and `calibration_error` how far they are from what happened (see `reliability`).
    """

    transactions: int
    frauds: int
    cards: int
    expected_frauds: float
    calibration_error: float
    average_precision: Estimate
    auc_roc: Estimate
    recall_at_1pct_fpr: Estimate
    review: AtThreshold
    block: AtThreshold | None
    baselines: dict[str, Estimate]
    lift_over_best_baseline: Estimate | None
    challenge: AtThreshold | None = None


def evaluate(
    scores: Scores,
    labels: NDArray[np.int8],
    thresholds: Thresholds,
    rankings: Mapping[str, Scores],
    cards: NDArray[Any] | None = None,
    *,
    seed: int = SEED,
) -> Metrics:
    """Metrics of scores (n,) against labels (n,), 0 or 1, both kinds present.

    `rankings` are other scores of the same rows, such as the amount alone: their average precision is the
    baseline, and the lift over the best of them is estimated on the same resamples. `cards` (n,) says whose each row
    is; None takes each row for a card of its own.
    """
    numbers = numbered(cards, len(labels))
    model, others = Ranking(scores, labels), {name: Ranking(one, labels) for name, one in rankings.items()}
    drawn, drawn_of_others = [], []
    for weights in card_weights(numbers, seed):
        drawn.append(model.figures(weights))
        drawn_of_others.append([one.figures(weights).average_precision for one in others.values()])
    samples, samples_of_others = np.array(drawn).T, np.array(drawn_of_others).T
    points = (average_precision(scores, labels), auc_roc(scores, labels), recall_at_fpr(scores, labels, 0.01))
    precision, area, recall = (estimate(point, sample) for point, sample in zip(points, samples, strict=True))
    simple = {
        name: (average_precision(one, labels), sample)
        for (name, one), sample in zip(rankings.items(), samples_of_others, strict=True)
    }
    best = max(simple.values(), key=lambda one: one[0], default=None)
    return Metrics(
        transactions=len(labels),
        frauds=int(labels.sum()),
        cards=int(numbers.max(initial=-1)) + 1,
        expected_frauds=float(scores.sum(dtype=np.float64)),
        calibration_error=calibration_error(scores, labels),
        average_precision=precision,
        auc_roc=area,
        recall_at_1pct_fpr=recall,
        review=at_threshold(scores, labels, thresholds.review),
        block=None if thresholds.block is None else at_threshold(scores, labels, thresholds.block),
        baselines={name: estimate(*one) for name, one in simple.items()},
        lift_over_best_baseline=None if best is None else estimate(points[0] - best[0], samples[0] - best[1]),
        challenge=None if thresholds.challenge is None else at_threshold(scores, labels, thresholds.challenge),
    )


def baselines(plan: FeaturePlan, rows: NDArray[np.float32]) -> dict[str, Scores]:
    """Rankings without a model: the size of every exact number among the features."""
    exact = plan.schema.decimals.keys() - set(plan.schema.place or ())
    return {
        feature.name: np.abs(np.nan_to_num(rows[:, i]))
        for i, feature in enumerate(plan.features)
        if feature.kind == "field" and feature.of in exact
    }


def auc_roc(scores: Scores, labels: NDArray[np.int8]) -> float:
    """Area under the ROC curve (scikit-learn)."""
    return float(roc_auc_score(labels, scores))


def recall_at_fpr(scores: Scores, labels: NDArray[np.int8], share: float) -> float:
    """Share of frauds caught when at most `share` of the legitimate transactions raise an alarm."""
    legitimate = np.sort(scores[labels == 0])[::-1]
    threshold = legitimate[int(np.floor(share * len(legitimate)))]
    return float(np.mean(scores[labels == 1] > threshold))


def at_threshold(scores: Scores, labels: NDArray[np.int8], threshold: float) -> AtThreshold:
    """The metrics at one threshold. What has nothing to be a share of is 0."""
    alarms, fraud = scores >= threshold, labels == 1
    caught, false_alarms = int(np.sum(alarms & fraud)), int(np.sum(alarms & ~fraud))
    missed, passed = int(np.sum(fraud)) - caught, int(np.sum(~fraud)) - false_alarms
    return AtThreshold(
        threshold=threshold,
        precision=caught / max(caught + false_alarms, 1),
        recall=caught / max(caught + missed, 1),
        f1=2 * caught / max(2 * caught + false_alarms + missed, 1),
        accuracy=(caught + passed) / max(len(labels), 1),
        false_positive_rate=false_alarms / max(false_alarms + passed, 1),
        caught=caught,
        false_alarms=false_alarms,
        confusion=((passed, false_alarms), (missed, caught)),
    )
