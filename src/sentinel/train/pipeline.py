"""The training pipeline: a history in, a certified bundle out."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.detector import Detector
from sentinel.events.files import History
from sentinel.events.replay import context_columns, text_hashes
from sentinel.model.bundle import (
    HistoryFacts,
    Manifest,
    TableFacts,
    git_commit,
    library_versions,
    plan_sha256,
    write_bundle,
)
from sentinel.model.certificate import certify
from sentinel.model.reference import Reference, kind_of
from sentinel.model.registry import Registry
from sentinel.model.scorer import Scorer
from sentinel.model.signing import Sign
from sentinel.policy.thresholds import choose_thresholds
from sentinel.train.dataset import Dataset, Part, build_dataset
from sentinel.train.doubts import BETWEEN, doubts, rows_between
from sentinel.train.evaluate import baselines, evaluate
from sentinel.train.export import split_probes, to_onnx
from sentinel.train.fit import fit, predict

Report = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and how much there is to do."""


def train(
    detector: Detector, history: History, registry: Registry, report: Report, sign: Sign | None = None
) -> Manifest:
    """Train, choose thresholds on the validation part, report on the test part, certify, write the bundle, and sign it.

    Raises CertificateRefused, and writes nothing, when the exported model differs from the trained one.
    """
    data = build_dataset(detector, history, lambda done, of: report("features", done, of))
    booster = fit(data.train, data.validation, detector.training, lambda done, of: report("trees", done, of))
    model = to_onnx(booster, len(data.plan.features))
    scorer = Scorer(model)
    certificate = certify(
        lambda rows: predict(booster, rows), scorer, data.test.rows, split_probes(booster, _middle_row(data.train))
    )
    validation = scorer.score(data.validation.rows)
    thresholds = choose_thresholds(validation, data.validation.labels, detector.policy)
    metrics = evaluate(scorer.score(data.test.rows), data.test.labels, thresholds, baselines(data.plan, data.test.rows))
    facts = {
        "trees_used": booster.num_boosted_rounds(),
        "rows": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        BETWEEN: rows_between(validation, thresholds),
    }
    version = registry.next_version()
    manifest = Manifest(
        version=version,
        detector=detector.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        plan=data.plan,
        plan_sha256=plan_sha256(data.plan),
        thresholds=msgspec.to_builtins(thresholds),
        fallback=msgspec.to_builtins(detector.fallback),
        on_fault=msgspec.to_builtins(detector.on_fault),
        reasons=detector.reasons,
        metrics=msgspec.to_builtins(metrics) | {"warnings": doubts(metrics, facts)},
        certificate=certificate,
        history=_facts(detector, history),
        training=msgspec.to_builtins(detector.training) | facts,
        git_commit=git_commit(),
        libraries=library_versions(),
        files={},
    )
    return write_bundle(registry.folder / version, manifest, model, _reference(data, scorer), data.store, sign)


def _reference(data: Dataset, scorer: Scorer) -> Reference:
    """The reference for drift: features of the training part and scores of the validation part, labelled or not."""
    names, kinds = data.plan.names, [kind_of(feature) for feature in data.plan.features]
    learned = Reference.learn(names, kinds, data.train.all_rows, np.zeros(len(data.train.all_rows), np.float32))
    unseen = Reference.learn(names, kinds, data.validation.all_rows, scorer.score(data.validation.all_rows))
    return msgspec.structs.replace(learned, score=unseen.score)


def _middle_row(part: Part) -> NDArray[np.float32]:
    """A row from the middle of the training part, to vary one feature at a time."""
    row: NDArray[np.float32] = part.rows[len(part) // 2]
    return row


def history_sha256(detector: Detector, history: History) -> str:
    """Fingerprint of a history: every field of every row and every context event, in order."""
    schema, frame = detector.schema, history.frame
    digest = hashlib.sha256()
    for name in (schema.id, *schema.texts):
        digest.update(name.encode() + text_hashes(frame[name]).tobytes())
    for name in (schema.time, *schema.whole_numbers, *schema.plain_numbers, schema.label):
        digest.update(name.encode() + frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().tobytes())
    if history.context is not None:
        context = context_columns(schema, history.context)
        for column in context.columns():
            digest.update(column.tobytes())
    return digest.hexdigest()


def _facts(detector: Detector, history: History) -> HistoryFacts:
    times = history.frame[detector.schema.time]
    return HistoryFacts(
        sha256=history_sha256(detector, history),
        transactions=len(history),
        frauds=int(history.frame[detector.schema.label].fill_null(0).sum()),
        first_us=int(times[0]),
        last_us=int(times[-1]),
        skipped=history.skipped,
        tables={name: TableFacts(file.sha256(), len(file.rows)) for name, file in history.tables.items()},
    )
