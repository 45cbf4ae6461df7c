"""Training from one end to the other: a history in, a certified bundle out."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import numpy as np

from sentinel.detector import Detector
from sentinel.events.files import History
from sentinel.model.bundle import (
    HistoryFacts,
    Manifest,
    git_commit,
    library_versions,
    plan_sha256,
    write_bundle,
)
from sentinel.model.certificate import Certificate
from sentinel.model.registry import Registry
from sentinel.model.scorer import Scorer
from sentinel.policy.thresholds import choose_thresholds
from sentinel.train.dataset import build_dataset
from sentinel.train.evaluate import evaluate
from sentinel.train.export import to_onnx
from sentinel.train.fit import fit

Stage = Callable[[str, int, int], None]
"""Told the name of the stage, and how much of how much of it is done."""


def train(detector: Detector, history: History, registry: Registry, stage: Stage) -> Manifest:
    """Train, choose thresholds on the validation part, report on the test part, certify, write the bundle.

    Raises CertificateRefused, and writes nothing, when the exported model differs from the trained one.
    """
    data = build_dataset(detector, history, lambda done, of: stage("features", done, of))
    booster = fit(data.train, data.validation, detector.training, lambda done, of: stage("trees", done, of))
    model = to_onnx(booster, len(data.plan.features))
    scorer = Scorer(model)
    certificate = Certificate()
    thresholds = choose_thresholds(scorer.score(data.validation.rows), data.validation.labels, detector.policy)
    metrics = evaluate(scorer.score(data.test.rows), data.test.labels, thresholds)
    version = registry.next_version()
    manifest = Manifest(
        version=version,
        detector=detector.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        plan=data.plan,
        plan_sha256=plan_sha256(data.plan),
        thresholds=msgspec.to_builtins(thresholds),
        metrics=msgspec.to_builtins(metrics),
        certificate=certificate,
        history=_facts(detector, history),
        training=msgspec.to_builtins(detector.training)
        | {"trees_used": booster.num_boosted_rounds(), "rows": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}},
        git_commit=git_commit(),
        libraries=library_versions(),
        files={},
    )
    return write_bundle(registry.folder / version, manifest, model, data.store)


def _facts(detector: Detector, history: History) -> HistoryFacts:
    frame = history.frame
    times = frame[detector.schema.time]
    digest = hashlib.sha256()
    for column in frame.columns:
        digest.update(column.encode())
        digest.update(frame[column].hash(seed=0).to_numpy().tobytes())
    return HistoryFacts(
        sha256=digest.hexdigest(),
        transactions=len(frame),
        frauds=int(np.sum(frame[detector.schema.label].fill_null(0).to_numpy())),
        first_us=int(times[0]),
        last_us=int(times[-1]),
        skipped=history.skipped,
    )
