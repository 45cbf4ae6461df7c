"""An experiment: trainings are tried on folds, and the best is fitted anew on all that may be learned from."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sentinel.detector import Training
from sentinel.errors import InvalidDefinition
from sentinel.events.times import duration_us, iso
from sentinel.learner import Learner
from sentinel.policy.policies import AnyPolicy
from sentinel.policy.sample import Sample
from sentinel.train.fitting.calibrate import Calibration, Method, calibrate
from sentinel.train.fitting.calibrated import Calibrated
from sentinel.train.fitting.cross_fit import Clock, CrossFit, cross_fit, with_trees
from sentinel.train.fitting.fit import fit
from sentinel.train.fitting.grown import EarlierTrees, as_one
from sentinel.train.fitting.vote import can_vote
from sentinel.train.fitting.warm_start import Parent, fold_after
from sentinel.train.learners.fitted import Fitted
from sentinel.train.rows.dataset import Dataset, Part, joined
from sentinel.train.rows.folds import Fold, merged, random_folds, time_folds
from sentinel.train.search.leaderboard import Contender, Entry, leaderboard, pays
from sentinel.train.search.search import Search

Refit = Literal["none", "validation", "all"]
Report: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and how much there is to do."""
FINALISTS, SEEDS, FOR_TRIALS = 3, 2, 0.7
"""Trainings that come onto the leaderboard, seeds of each, and the share of a budget that trials may use."""
SLOWEST_VOTE_US, MOST_ALARMS = 100.0, 0.05


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a model is looked for.

    `budget_s` are the seconds in which other trainings than the detector's own are tried; None for its own alone.
    `folds` older parts of the history, one after the other, are validated on. `refit` says what the model that is kept
    has learned from: the training part, the validation part too, or `all`, the test part too once it was reported on.
    A single training is refitted with so many `seeds`, whose models vote, where they can.
    """

    budget_s: float | None = None
    folds: int = 3
    refit: Refit = "validation"
    seeds: int = 3
    calibration: Method = "beta"

    def __post_init__(self) -> None:
        if min(self.folds, self.seeds) < 1 or (self.budget_s is not None and self.budget_s <= 0):
            raise InvalidDefinition(
                f"an experiment has a fold or more, a seed or more and a budget above 0; this has {self}"
            )


QUICK = Experiment(folds=1, seeds=1, refit="none", calibration="none")
"""One fit on the training part, stopped early by the validation part, which sets the thresholds, too."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an experiment takes place in: codes of `code_columns`, where studies are kept, and the time.

    `policy` is that of a detector that declares costs, for the leaderboard. New trees are added to those of a `parent`.
    """

    codes: Mapping[int, int]
    learners: Sequence[Learner]
    study: Path | None
    clock: Clock
    report: Report
    policy: AnyPolicy | None = None
    parent: Parent | None = None

    @property
    def earlier(self) -> EarlierTrees | None:
        """The trees that others are added to."""
        return None if self.parent is None else self.parent.trees


@dataclass(frozen=True, slots=True)
class Found:
    """What an experiment has found.

    `trainings` were fitted to make `model`; `calibration` belongs to it. `held` has the rows that the models of the
    folds had not seen, m of them, which are a `share` of the transactions of their time; `scores` float32 (m,) are
    theirs, calibrated, and `raw_scores` are not. Where the model is not refitted, it is that of the newest fold.
    `chosen` is the name of its line on the leaderboard.
    """

    model: Fitted
    trainings: tuple[Training, ...]
    calibration: Calibration | None
    scores: NDArray[np.float32]
    raw_scores: NDArray[np.float32]
    held: Part
    share: float
    folds: list[dict[str, Any]]
    board: list[Entry]
    chosen: str
    trials: int
    is_refitted: bool

    def sample(self) -> Sample:
        """What thresholds are chosen on."""
        return self.held.sample(self.scores, self.share)

    def calibrated(self) -> Fitted:
        """The model with its calibration."""
        return self.model if self.calibration is None else Calibrated(self.model, self.calibration)

    def without_calibration(self) -> "Found":
        """The same, with the scores as they were."""
        return replace(self, calibration=None, scores=self.raw_scores)


def explore(data: Dataset, training: Training, how: Experiment, setting: Setting) -> Found:
    """Try, choose, fit anew and calibrate; the test part is not looked at."""
    part = joined(data.train, data.validation)
    folds = folds_of(data, training, how) if setting.parent is None else [fold_after(setting.parent, data)]
    folds = [one._replace(validation=part.repeated(one.validation)) for one in folds]
    chosen, board, trials = _chosen(part, folds, training, how, setting)
    held = part.take(merged(folds))
    calibration = calibrate(how.calibration, chosen.logits, held.labels)
    logits = chosen.logits if calibration is None else calibration(chosen.logits)
    trainings = _with_seeds(chosen, how.seeds)
    model = None if how.refit == "none" else fitted_on(part, trainings, setting)
    is_refitted = model is not None and shares_scale(model, part, chosen.logits, held.labels)
    if model is None or not is_refitted:
        trainings = tuple(one.training for one in chosen.fits)
        model = as_one([one.models[-1] for one in chosen.fits])
    return Found(
        model=model,
        trainings=trainings,
        calibration=calibration,
        scores=np.asarray(expit(logits), np.float32),
        raw_scores=np.asarray(expit(chosen.logits), np.float32),
        held=held,
        share=len(held) / data.transactions if training.split == "random" else part.standing / len(part.all_rows),
        folds=[_facts(part, fold) for fold in folds],
        board=board,
        chosen=chosen.name,
        trials=trials,
        is_refitted=is_refitted,
    )


def _with_seeds(chosen: Contender, seeds: int) -> tuple[Training, ...]:
    """What the model that is kept is fitted with; a single training with several seeds, where its models can vote."""
    trainings = tuple(with_trees(one.training, one.trees) for one in chosen.fits)
    if len(trainings) > 1 or not can_vote(chosen.fits[0].models[-1]):
        return trainings
    return tuple(msgspec.structs.replace(trainings[0], seed=trainings[0].seed + n) for n in range(seeds))


def shares_scale(model: Fitted, part: Part, logits: NDArray[np.float64], labels: NDArray[np.int8]) -> bool:
    """Whether a refitted model has the scale of the folds' log-odds (m,), on which its thresholds are chosen.

    Where the folds let 1 % of the legitimate rows alarm, it may let 5 % of those that it learned from; they score lower
    than new ones, if anything. Models of few frauds can differ by more than what separates their scores.
    """
    highest = np.quantile(logits[labels == 0], 0.99)
    legitimate = part.rows[part.labels == 0]
    return float(np.mean(model.log_odds(legitimate) > highest)) <= MOST_ALARMS


def fitted_on(part: Part, trainings: Sequence[Training], setting: Setting) -> Fitted:
    """The model of these trainings, each with all of its trees, on all rows of the part."""
    models = []
    for n, training in enumerate(trainings):
        setting.report("refit", n, len(trainings))
        models.append(fit(part, None, training, setting.codes, earlier=setting.earlier))
    setting.report("refit", len(trainings), len(trainings))
    return as_one(models)


def folds_of(data: Dataset, training: Training, how: Experiment) -> list[Fold]:
    """Folds of the rows of the training part and, after them, the validation part."""
    n, size = len(data.train) + len(data.validation), len(data.validation)
    if how.folds == 1:
        return [Fold(np.arange(n - size), np.arange(n - size, n))]
    part = joined(data.train, data.validation)
    if training.split == "random":
        return random_folds(part.labels, folds=how.folds, size=size, seed=training.seed)
    gap_us = duration_us(training.gap) if training.gap else 0
    return time_folds(part.time_us, part.labels, folds=how.folds, size=size, gap_us=gap_us)


def _chosen(
    part: Part, folds: Sequence[Fold], training: Training, how: Experiment, setting: Setting
) -> tuple[Contender, list[Entry], int]:
    """The contender that is best, the leaderboard, and how many trials there were."""
    if how.budget_s is None:
        alone = _tried(part, folds, training, setting, lambda done, of: setting.report("trees", done, of))
        return Contender("own", (alone,)), [], 0
    search = Search(setting.study, training.seed)
    search.run(
        training, setting.learners, lambda one: _tried(part, folds, one, setting).worth, how.budget_s * FOR_TRIALS,
        setting.clock, lambda done, of: setting.report("search", done, of),
    )  # fmt: skip
    trials = search.trials()
    finalists = [trial.training for trial in trials[:FINALISTS]]
    if training not in finalists:
        finalists.append(training)
    singles = []
    for n, one in enumerate(finalists):
        setting.report("finalists", n, len(finalists))
        singles.append(_contender(part, folds, one, training, setting))
    setting.report("finalists", len(finalists), len(finalists))
    best, board = _best(singles, part, folds, training.seed, setting)
    return best, board, len(trials)


def _best(
    singles: Sequence[Contender], part: Part, folds: Sequence[Fold], seed: int, setting: Setting
) -> tuple[Contender, list[Entry]]:
    """The best single training, or a vote of several where that pays; and the leaderboard of all."""
    held, numbers = part.take(merged(folds)), np.repeat(np.arange(len(folds)), [len(fold.validation) for fold in folds])
    votes = [one for one in singles if all(can_vote(fit.models[-1]) for fit in one.fits)][:FINALISTS]
    vote = Contender("vote of " + ", ".join(one.name for one in votes), tuple(fit for one in votes for fit in one.fits))
    contenders = [*singles, vote] if len(votes) > 1 else list(singles)
    board = leaderboard(contenders, held, numbers, clock=setting.clock, seed=seed, policy=setting.policy)
    by_name = {one.name: one for one in contenders}
    best = next(by_name[line.name] for line in board if line.name != vote.name)
    quick = next((line.row_us or np.inf) <= SLOWEST_VOTE_US for line in board if line.name in (vote.name, best.name))
    if len(votes) > 1 and quick and pays(vote, best, held, numbers, seed):
        return vote, board
    return best, board


def _contender(part: Part, folds: Sequence[Fold], training: Training, own: Training, setting: Setting) -> Contender:
    """A training with several seeds, where models of it can vote; with one where not."""
    fits = [_tried(part, folds, training, setting)]
    if can_vote(fits[0].models[-1]):
        others = [msgspec.structs.replace(training, seed=training.seed + n) for n in range(1, SEEDS)]
        fits += [_tried(part, folds, other, setting) for other in others]
    learner = type(training.learner).__name__.lower()
    name = f"{learner}, the detector's own" if training == own else f"{learner} {_digest(training)}"
    return Contender(name, tuple(fits))


def _digest(training: Training) -> str:
    return hashlib.sha256(msgspec.json.encode(training)).hexdigest()[:6]


def _tried(
    part: Part, folds: Sequence[Fold], training: Training, setting: Setting,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> CrossFit:  # fmt: skip
    return cross_fit(part, folds, training, setting.codes, setting.clock, progress, setting.earlier)


def _facts(part: Part, fold: Fold) -> dict[str, Any]:
    return {
        "validates_from": iso(int(part.time_us[fold.validation].min())),
        "validates_to": iso(int(part.time_us[fold.validation].max())),
        **{
            name: {"rows": len(rows), "frauds": int((part.labels[rows] == 1).sum())}
            for name, rows in (("train", fold.train), ("validation", np.unique(fold.validation)))
        },
    }
