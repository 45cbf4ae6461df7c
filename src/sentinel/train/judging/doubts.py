"""What speaks against a model or its thresholds, in sentences for the one who would promote it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.policy.thresholds import Thresholds
from sentinel.train.figures.evaluate import Metrics
from sentinel.train.judging.advice import FEWEST_BETWEEN, LEAST_RECALL, shown_score

LEAST_AUC = 0.6
MOST_ALARMS = 0.2
FEWEST_TREES = 10
BETWEEN = "rows_between_thresholds"
"""Where the training facts of a manifest have what `rows_between` counts."""

ADVICE = "policy_advice"
"""Where they have what `advice` says of the policy on the validation part."""

REVIEWS = "policy_reviews"
"""Where they have whether the policy means anything to be reviewed."""


def rows_between(scores: NDArray[np.float32], thresholds: Thresholds) -> int | None:
    """How many of these scores (n,) would be reviewed and not blocked; None where nothing is ever blocked."""
    if thresholds.block is None:
        return None
    return int(np.count_nonzero(thresholds.levels(scores.astype(np.float64)) == 1))


def doubts(metrics: Metrics, training: Mapping[str, Any]) -> tuple[str, ...]:
    """Why this model, or its policy, can hardly work; empty where nothing says so.

    `training` has `trees_used`, None for a model without trees, and of the rows that thresholds were chosen on, where
    that was looked at, `rows_between_thresholds` and `policy_advice`.
    """
    return (
        *_of_ranking(metrics),
        *_of_thresholds(metrics, training.get(BETWEEN), reviews=training.get(REVIEWS, True)),
        *training.get(ADVICE, ()),
        *_of_trees(training["trees_used"]),
    )


def _of_ranking(metrics: Metrics) -> list[str]:
    found, precision = [], metrics.average_precision.value
    base_rate = metrics.frauds / metrics.transactions
    if precision <= base_rate:
        found.append(
            f"the model finds no fraud that chance would not: average precision {precision:.4g}, "
            f"share of fraud {base_rate:.4g}"
        )
    for name, ranking in metrics.baselines.items():
        if precision <= ranking.value:
            found.append(
                f"ranking by {name} alone is as good as the model: average precision {ranking.value:.4g}, "
                f"the model's {precision:.4g}"
            )
    if metrics.auc_roc.value < LEAST_AUC:
        found.append(f"the model hardly tells fraud from the rest: AUC ROC {metrics.auc_roc.value:.3f} (0.5 is chance)")
    return found


def _of_thresholds(metrics: Metrics, between: int | None, *, reviews: bool) -> list[str]:
    found, review, block = [], metrics.review, metrics.block
    if review.false_positive_rate > MOST_ALARMS:
        found.append(
            f"review and block together take {review.false_positive_rate:.0%} of the legitimate transactions of the "
            "test part: what came later scores higher than what the thresholds were chosen on"
        )
    if review.recall < LEAST_RECALL:
        found.append(
            f"review and block together find {review.caught:,} of {metrics.frauds:,} frauds: allow more false alarms "
            "by review_at_fpr in Policy, or bring features that tell more"
        )
    if block is None:
        return found
    if reviews and block.threshold == review.threshold:
        found.append(
            f"review and block begin at the same score ({shown_score(review.threshold)}): nothing is ever reviewed"
        )
    elif reviews and between is not None and between < FEWEST_BETWEEN:
        found.append(
            f"review and block begin at nearly the same score: {between:,} validation rows lie between, so next to "
            "nothing is reviewed"
        )
    if block.caught == 0:
        found.append("block finds no fraud of the test part")
    return found


def _of_trees(trees: int | None) -> list[str]:
    if trees is None or trees >= FEWEST_TREES:
        return []
    return [f"the model has only {trees} trees, so few different scores: it learned little before validation got worse"]
