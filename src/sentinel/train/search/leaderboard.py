"""The leaderboard: what each training that was tried is worth, on rows that its models had not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sentinel.detector import Training
from sentinel.errors import CertificateRefused
from sentinel.model.scorer import Scorer
from sentinel.policy.policies import AnyPolicy
from sentinel.train.figures.costs import cost_per_transaction
from sentinel.train.figures.evaluate import recall_at_fpr
from sentinel.train.figures.fold_precisions import fold_precisions
from sentinel.train.figures.resampling import Estimate
from sentinel.train.fitting.cross_fit import Clock, CrossFit
from sentinel.train.handbook import card_precision
from sentinel.train.rows.dataset import Part

FPRS = (0.001, 0.01)
TOP_CARDS = 100
SURE, LIKELY, FEW_FRAUDS = 0.9, 0.5, 200
"""A vote takes the place of the best model where it is better on the share `SURE` of the resamples; on the share
`LIKELY` where there are fewer frauds than `FEW_FRAUDS`. On so few nothing is sure, the best of many trainings is best
by chance for the most part, and a vote hangs less on which one was chosen."""
_TIMED_ROWS, _TIMES = 2_000, 3
_DAY_US = 86_400_000_000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line: figures over all folds, of models that had not seen the rows.

    `worth`, by which they are ordered, is average precision less what speaks against the training: few trees, ties,
    models that share no scale. `recall` is the share of frauds found where a share of the others, the key, is let
    alarm. `card_precision_100` is the share of frauds among the 100 cards with the highest scores of each day, None
    without cards. `cost` is what a transaction costs where the detector declares costs, decided by thresholds that its
    policy chooses on the other folds (with a single fold, on the same one). `fit_s` is what one fit took, and `row_us`
    what a row takes in the exported model, None where it cannot be exported.
    """

    name: str
    worth: float
    average_precision: Estimate
    recall: dict[str, float]
    card_precision_100: float | None
    cost: float | None
    trees: int | None
    fit_s: float
    row_us: float | None
    seeds: int
    training: Sequence[Training]


@dataclass(frozen=True, slots=True)
class Contender:
    """A training that was tried with several seeds, or a vote of several trainings."""

    name: str
    fits: tuple[CrossFit, ...]

    @property
    def logits(self) -> NDArray[np.float64]:
        """Mean log-odds (m,) over the fits: what a vote of them says."""
        return np.asarray(np.mean([fit.logits for fit in self.fits], axis=0))

    @property
    def cost(self) -> float:
        """What speaks against the fits beside their ranking, on average."""
        return float(np.mean([fit.cost for fit in self.fits]))


def leaderboard(
    contenders: Sequence[Contender], held: Part, folds: NDArray[np.int64], *, clock: Clock, seed: int,
    policy: AnyPolicy | None = None,
) -> list[Entry]:  # fmt: skip
    """Their lines, the best first, on the rows `held` (m,) that are validated on; `folds` (m,) numbers their folds.

    `policy` is the one of a detector that declares costs.
    """
    drawn = fold_precisions([one.logits for one in contenders], held.labels, folds, held.cards, seed)
    lines = [_entry(one, held, folds, row, clock, policy) for one, row in zip(contenders, drawn, strict=True)]
    return sorted(lines, key=lambda line: -line.worth)


def pays(vote: Contender, single: Contender, held: Part, folds: NDArray[np.int64], seed: int) -> bool:
    """Whether a vote is better than one model as it is, and on enough resamples of the same cards."""
    enough = SURE if held.frauds >= FEW_FRAUDS else LIKELY
    drawn = fold_precisions([vote.logits, single.logits], held.labels, folds, held.cards, seed)
    return bool(drawn[0, 0] > drawn[1, 0] and (drawn[0, 1:] > drawn[1, 1:]).mean() >= enough)


def _entry(
    one: Contender, held: Part, folds: NDArray[np.int64], drawn: NDArray[np.float64], clock: Clock,
    policy: AnyPolicy | None,
) -> Entry:  # fmt: skip
    low, high = np.percentile(drawn[1:], [2.5, 97.5])
    each = [folds == number for number in np.unique(folds)]
    trees = [fit.trees for fit in one.fits if fit.trees is not None]
    return Entry(
        name=one.name,
        worth=float(drawn[0]) - one.cost,
        average_precision=Estimate(float(drawn[0]), float(low), float(high)),
        recall={
            f"{fpr:g}": float(np.mean([recall_at_fpr(one.logits[here], held.labels[here], fpr) for here in each]))
            for fpr in FPRS
        },
        card_precision_100=None
        if held.cards is None
        else float(np.mean([_card_precision(one.logits, held, held.cards, np.flatnonzero(here)) for here in each])),
        cost=None if policy is None else cost_out_of_fold(one.logits, held, folds, policy),
        trees=sum(trees) if trees else None,
        fit_s=float(sum(fit.fit_s for fit in one.fits)),
        row_us=_row_us(one, held.rows, clock),
        seeds=len({fit.training.seed for fit in one.fits}),
        training=[fit.training for fit in one.fits],
    )


def cost_out_of_fold(logits: NDArray[np.float64], held: Part, folds: NDArray[np.int64], policy: AnyPolicy) -> float:
    """What a row of `held` (m,) costs on average, decided by thresholds that are chosen on the folds beside its own."""
    scores, total, numbers = expit(logits).astype(np.float32), 0.0, np.unique(folds)
    for number in numbers:
        here, rest = np.flatnonzero(folds == number), np.flatnonzero((folds != number) | (len(numbers) == 1))
        thresholds, own = policy.choose(held.take(rest).sample(scores[rest])), held.take(here).sample(scores[here])
        cost = cost_per_transaction(own.scores, own.labels, own.amounts, thresholds, policy.costs)
        total += cost * len(here)
    return total / len(held)


def _card_precision(
    logits: NDArray[np.float64], held: Part, cards: NDArray[np.uint64], here: NDArray[np.int64]
) -> float:
    day = held.time_us[here] // _DAY_US
    return card_precision(logits[here], held.labels[here], day, cards[here], TOP_CARDS)


def _row_us(one: Contender, rows: NDArray[np.float32], clock: Clock) -> float | None:
    """What a row takes in the exported models of the newest fold, the least of some tries, in microseconds."""
    some, total = rows[:_TIMED_ROWS], 0.0
    for fit in one.fits:
        try:
            scorer = Scorer(fit.models[-1].to_onnx(rows.shape[1]))
        except CertificateRefused:
            return None
        scorer.score(some[:1])
        took = []
        for _ in range(_TIMES):
            begun = clock()
            scorer.score(some)
            took.append(clock() - begun)
        total += min(took) / len(some) * 1e6
    return total
