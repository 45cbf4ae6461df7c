"""A training tried on folds: what its models say of rows that they have not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.detector import Training
from sentinel.review.average_precision import average_precision
from sentinel.train.fitting.fit import fit
from sentinel.train.fitting.grown import EarlierTrees, trees_fitted
from sentinel.train.learners.fitted import Fitted
from sentinel.train.rows.dataset import Part
from sentinel.train.rows.folds import Fold

FEWEST_TREES = 10
FEW_TREES_COST, TIES_COST, UNSTEADY_COST = 0.02, 0.1, 0.3
"""What average precision is lowered by for a model of few trees, for one whose highest scores are all tied, and for a
training whose models share no scale."""
_TOP, _STEADY = 0.01, 0.05
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class CrossFit:
    """One training on each fold: log-odds float64 (m,) of the rows that are validated on, fold by fold, and the models.

    `precisions` has the average precision of each fold, `fit_s` the seconds that a fit took on average, and `cost` what
    speaks against the training beside its ranking.
    """

    training: Training
    logits: NDArray[np.float64]
    models: tuple[Fitted, ...]
    precisions: tuple[float, ...]
    fit_s: float
    cost: float

    @property
    def worth(self) -> float:
        """What the training is worth: average precision, less what speaks against it."""
        return float(np.mean(self.precisions)) - self.cost

    @property
    def trees(self) -> int | None:
        """The middle of how many trees were fitted; None where the models have none."""
        counts = [n for n in map(trees_fitted, self.models) if n is not None]
        return int(np.median(counts)) if counts else None


def cross_fit(
    part: Part, folds: Sequence[Fold], training: Training, codes: Mapping[int, int], clock: Clock,
    progress: Callable[[int, int], None] = lambda _done, _of: None, earlier: EarlierTrees | None = None,
) -> CrossFit:  # fmt: skip
    """Fit on each fold, stopped early by what it validates on; `progress` is told the folds that are done."""
    logits, labels, models, precisions, costs, begun = [], [], [], [], [], clock()
    for done, fold in enumerate(folds):
        progress(done, len(folds))
        held = part.take(fold.validation)
        models.append(fit(part.take(fold.train), held, training, codes, earlier=earlier))
        scores = models[-1].predict(held.rows)
        logits.append(models[-1].log_odds(held.rows))
        labels.append(held.labels)
        precisions.append(average_precision(scores, held.labels))
        costs.append(_cost(models[-1], scores))
    progress(len(folds), len(folds))
    return CrossFit(
        training=training,
        logits=np.concatenate(logits),
        models=tuple(models),
        precisions=tuple(precisions),
        fit_s=(clock() - begun) / len(folds),
        cost=float(np.mean(costs)) + UNSTEADY_COST * unsteadiness(logits, labels),
    )


def with_trees(training: Training, trees: int | None) -> Training:
    """The training with so many trees, for a fit that nothing stops early; as it is where its learner has no such."""
    if trees is None or not hasattr(training.learner, "trees"):
        return training
    return msgspec.structs.replace(training, learner=msgspec.structs.replace(training.learner, trees=max(trees, 1)))


def _cost(model: Fitted, scores: NDArray[np.float32]) -> float:
    """What speaks against a model beside its ranking: thresholds need different scores where alarms begin."""
    trees = model.trees_used
    few = FEW_TREES_COST if trees is not None and trees < FEWEST_TREES else 0.0
    return few + TIES_COST * tied_share(scores)


def unsteadiness(logits: Sequence[NDArray[np.float64]], labels: Sequence[NDArray[np.int8]]) -> float:
    """How far a threshold goes wrong that is chosen on the other folds: 0 for not at all, 1 where everything alarms.

    It lets 1 % of the legitimate rows of the others alarm. What it lets alarm of a fold itself, in the worst fold, is
    this, and nothing up to 5 %: a model that is fitted anew has the thresholds that were chosen on the folds. With one
    fold there is nothing to tell.
    """
    legitimate = [ranked[truth == 0] for ranked, truth in zip(logits, labels, strict=True)]
    if len(legitimate) < 2:
        return 0.0
    others = [np.concatenate([*legitimate[:n], *legitimate[n + 1 :]]) for n in range(len(legitimate))]
    shares = [float(np.mean(own > np.quantile(rest, 0.99))) for own, rest in zip(legitimate, others, strict=True)]
    return max(shares) if max(shares) > _STEADY else 0.0


def tied_share(scores: NDArray[np.float32], top: float = _TOP) -> float:
    """The share of the `top` highest scores that the most frequent one of them has; 0 where all differ.

    >>> tied_share(np.array([0.1, 0.9, 0.9, 0.9], np.float32), top=1.0)
    0.75
    """
    highest = np.sort(scores)[::-1][: max(int(len(scores) * top), 1)]
    most = int(np.unique(highest, return_counts=True)[1].max())
    return most / len(highest) if most > 1 else 0.0
