"""The training pipeline: a history in, a certified bundle out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.detector import Detector, Training
from sentinel.errors import CertificateRefused, InvalidDefinition
from sentinel.events.files import History
from sentinel.events.stamps import part_of
from sentinel.features.plan import FeaturePlan
from sentinel.learner import CatBoost, Learner, LightGBM, LogisticRegression, RandomForest, XGBoost
from sentinel.model.bundle import (
    Bundle,
    HistoryFacts,
    Manifest,
    TableFacts,
    git_commit,
    library_versions,
    plan_sha256,
    write_bundle,
)
from sentinel.model.card_pages import card_files
from sentinel.model.certificate import Certificate, certify
from sentinel.model.known_rows import choose_known_rows
from sentinel.model.lineage import Lineage
from sentinel.model.reference import Reference, kind_of
from sentinel.model.registry import Registry
from sentinel.model.scorer import Scorer
from sentinel.model.signing import Sign
from sentinel.policy.policies import declares_costs
from sentinel.policy.score_curve import ScoreCurve
from sentinel.policy.thresholds import Action
from sentinel.train.figures.effects import effects
from sentinel.train.figures.evaluate import baselines, evaluate
from sentinel.train.fitting.cross_fit import Clock
from sentinel.train.fitting.fit import LIBRARIES, code_columns, is_installed
from sentinel.train.fitting.warm_start import Parent
from sentinel.train.judging.advice import advice
from sentinel.train.judging.doubts import ADVICE, BETWEEN, REVIEWS, doubts, rows_between
from sentinel.train.rows.dataset import NEWEST, Dataset, Part, build_dataset, joined
from sentinel.train.rows.fingerprint import history_sha256
from sentinel.train.search.experiment import QUICK, Experiment, Found, Refit, Report, Setting, explore, fitted_on
from sentinel.train.search.search import study_file

SEARCHED: tuple[Learner, ...] = (XGBoost(), LightGBM(), CatBoost(), RandomForest(), LogisticRegression())
"""The learners that a search tries beside the detector's own, as each comes."""

Tested = Callable[[NDArray[np.float32], NDArray[np.int8]], None]
"""Given the scores (n,) and labels (n,) of the test part."""


_UNKNOWN = Lineage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How a version is made of a history.

    `how` says what is tried and learned from; with a budget, trials are remembered in the folder `studies`. New trees
    are added to those of a `parent`. The bundle is signed with `sign`, and says its `lineage`. `tested` is told of the
    test part, and `admit` is shown the bundle before it is written: what it raises keeps it from that.
    """

    how: Experiment = QUICK
    parent: Parent | None = None
    studies: Path | None = None
    sign: Sign | None = None
    lineage: Lineage = _UNKNOWN
    tested: Tested = lambda _scores, _labels: None
    admit: Callable[[Bundle], None] = lambda _bundle: None
    clock: Clock = monotonic

    def __post_init__(self) -> None:
        if self.parent is not None and (self.how.folds, self.how.budget_s) != (1, None):
            raise InvalidDefinition("a warm start has one fold, the newest, and no search; leave folds and budget out")


AS_USUAL = Making()
"""One fit, unsigned."""


def train(
    detector: Detector, history: History, registry: Registry, report: Report, making: Making = AS_USUAL
) -> Manifest:
    """Train, choose thresholds out of fold, report on the test part, certify, write the bundle, and sign it.

    Raises CertificateRefused, and writes nothing, when the exported model differs from the trained one.
    """
    how, parent, told = making.how, making.parent, lambda done, of: report("features", done, of)
    data = build_dataset(detector, history, told, None if parent is None else parent.plan)
    facts = _facts(detector, history)
    codes = code_columns(data.plan)
    learners = [one for one in SEARCHED if is_installed(one)]
    study = making.studies and study_of(making.studies, facts.sha256, data.plan, detector.training, how, learners)
    declared = detector.policy if declares_costs(detector.policy) else None
    setting = Setting(codes, learners, study, making.clock, report, declared, parent)
    found = explore(data, detector.training, how, setting)
    scorer, model, certificate, found = _certified(found, data)
    policy, chosen_on = detector.policy, found.sample()
    thresholds = policy.choose(chosen_on)
    share = len(data.test.all_rows) / data.transactions if detector.training.split == "random" else 1.0
    counted = data.test.counted()
    test = counted.sample(scorer.score(counted.rows), share)
    rankings = baselines(data.plan, counted.rows)
    metrics = evaluate(test.scores, test.labels, thresholds, rankings, counted.cards)
    reference = _reference(data, scorer, found)
    if how.refit == "all" and found.is_refitted:
        everything = joined(data.train, data.validation, data.test)
        found = replace(found, model=fitted_on(everything, found.trainings, setting))
        scorer, model, certificate, found = _certified(found, data)
    training = {
        "trees_used": found.model.trees_used,
        "rows": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "stand_for": {
            "train": data.train.standing,
            "validation": data.validation.standing,
            "test": data.test.standing,
        },
        BETWEEN: rows_between(chosen_on.scores, thresholds),
        REVIEWS: Action.REVIEW in policy.actions,
        ADVICE: advice(policy, chosen_on, thresholds),
        NEWEST: _newest(learned_from(data, how.refit if found.is_refitted else "none"), parent),
        "warm_start": None if parent is None else _warm_start(parent, found),
        "experiment": _told(how, found),
    }
    version = registry.next_version()
    manifest = Manifest(
        version=version,
        detector=detector.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        plan=data.plan,
        plan_sha256=plan_sha256(data.plan),
        thresholds=msgspec.to_builtins(thresholds),
        policy=msgspec.to_builtins(policy),
        fallback=msgspec.to_builtins(detector.fallback),
        on_fault=msgspec.to_builtins(detector.on_fault),
        holdout=None if detector.holdout is None else msgspec.to_builtins(detector.holdout),
        reasons=detector.reasons,
        currency=detector.currency,
        metrics=msgspec.to_builtins(metrics)
        | {
            "warnings": doubts(metrics, training),
            "effects": msgspec.to_builtins(effects(test, thresholds, policy.costs, counted.cards)),
            "score_curve": msgspec.to_builtins(ScoreCurve.of(test, thresholds.begins)),
        },
        certificate=certificate,
        history=facts,
        training=msgspec.to_builtins(found.trainings[0]) | training,
        lineage=making.lineage,
        known_rows=choose_known_rows(data.test.rows, data.test.labels, scorer.score(data.test.rows)),
        git_commit=git_commit(),
        libraries=library_versions(*sorted({LIBRARIES[type(one.learner)] for one in found.trainings})),
        files={},
    )
    making.tested(test.scores, test.labels)
    making.admit(Bundle(manifest, scorer, reference, data.store.snapshot()))
    return write_bundle(registry, manifest, model, reference, data.store, making.sign, card_files)


def learned_from(data: Dataset, refit: Refit) -> tuple[Part, ...]:
    """The parts of the history that a model has learned from in the end."""
    return (data.train, data.validation, data.test)[: {"none": 1, "validation": 2, "all": 3}[refit]]


def _newest(learned: Sequence[Part], parent: Parent | None) -> int:
    own = max(int(part.time_us[-1]) for part in learned)
    return own if parent is None else max(own, parent.newest_us)


def _warm_start(parent: Parent, found: Found) -> dict[str, Any]:
    before, after = len(parent.trees.trees), found.model.trees_used or 0
    return {"parent": parent.version, "trees_before": before, "trees_added": after - before}


def study_of(
    folder: Path, history_sha256: str, plan: FeaturePlan, training: Training, how: Experiment,
    learners: Sequence[Learner],
) -> Path:  # fmt: skip
    """The file of the trials that were made on this history, of these features, in these folds."""
    return study_file(
        folder,
        history=history_sha256,
        plan=plan_sha256(plan),
        training=msgspec.to_builtins(training),
        folds=how.folds,
        libraries=library_versions(*sorted({LIBRARIES[type(one)] for one in learners})),
    )


def _certified(found: Found, data: Dataset) -> tuple[Scorer, bytes, Certificate, Found]:
    """The exported model and its certificate; without the calibration where that cannot be exported exactly enough."""
    fitted = found.calibrated()
    model = fitted.to_onnx(len(data.plan.features))
    scorer = Scorer(model)
    try:
        probes = fitted.split_probes(_middle_row(data.train))
        return scorer, model, certify(fitted.predict, scorer, data.test.rows, probes), found
    except CertificateRefused:
        if found.calibration is None:
            raise
        return _certified(found.without_calibration(), data)


def _told(how: Experiment, found: Found) -> dict[str, Any]:
    """What a manifest has of the experiment: what was asked for, on what it was tried, and what came of it."""
    return {
        **msgspec.to_builtins(how),
        "refit": how.refit if found.is_refitted else "none",
        "folds": found.folds,
        "trials": found.trials,
        "chosen": found.chosen,
        "models": msgspec.to_builtins(found.trainings),
        "calibrated": msgspec.to_builtins(found.calibration),
        "leaderboard": msgspec.to_builtins(found.board),
    }


def _reference(data: Dataset, scorer: Scorer, found: Found) -> Reference:
    """The reference for drift: features of what is learned from, and scores of the part after it, labelled or not."""
    names, kinds = data.plan.names, [kind_of(feature) for feature in data.plan.features]
    parts = (data.train, data.validation)
    part, after = (joined(*parts), data.test) if found.is_refitted else parts
    learned = Reference.learn(names, kinds, part.all_rows, np.zeros(len(part.all_rows), np.float32))
    unseen = Reference.learn(names, kinds, after.all_rows, scorer.score(after.all_rows))
    return msgspec.structs.replace(learned, score=unseen.score)


def _middle_row(part: Part) -> NDArray[np.float32]:
    """A row from the middle of the training part, to vary one feature at a time."""
    row: NDArray[np.float32] = part.rows[len(part) // 2]
    return row


def _facts(detector: Detector, history: History) -> HistoryFacts:
    times = history.frame[detector.schema.time].to_numpy()
    part = part_of(history.frame)
    return HistoryFacts(
        sha256=history_sha256(detector, history),
        transactions=len(history),
        frauds=int(history.frame[detector.schema.label].fill_null(0).sum()),
        first_us=int(times.min()),
        last_us=int(times.max()),
        skipped=history.skipped,
        log_id=None if part is None else part.log_id,
        log_end=None if part is None else part.end,
        tables={name: TableFacts(file.sha256(), len(file.rows)) for name, file in history.tables.items()},
    )
