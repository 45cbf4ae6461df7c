"""The commands that read a history: features, training, evaluation, parity, the handbook."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from sentinel.commands.parity import ParityReport, parity
from sentinel.commands.progress import stages
from sentinel.commands.promote import promote_version
from sentinel.commands.terminal import Terminal, shown
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import BundleProblem, DataProblem
from sentinel.events.files import History, read_history
from sentinel.events.replay import columns_of_frame
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import Manifest, load_bundle
from sentinel.model.registry import Registry
from sentinel.model.signing import read_trusted_keys, signer
from sentinel.record.applied import HomeDeployment
from sentinel.train import handbook
from sentinel.train.dataset import learn_vocabulary, replay, split
from sentinel.train.evaluate import baselines, evaluate
from sentinel.train.pipeline import history_sha256, train

_terminal = Terminal()


def _read(settings: Settings, detector: Detector, data: Path, renames: Mapping[str, str], *, strict: bool) -> History:
    history = read_history(data, detector.schema, renames=renames, secrets=settings.secrets(), strict=strict)
    for reason, n in history.skipped.items():
        _terminal.print(f"[yellow]skipped {n:,} rows:[/yellow] {shown(reason)}")
    return history


def build_features(
    settings: Settings, name: str, data: Path, out: Path, renames: Mapping[str, str], *, strict: bool
) -> dict[str, object]:
    """Write a Parquet file of the id and every feature; categories are learned on the file itself."""
    if out.suffix != ".parquet":
        raise DataProblem(f"{out}: features are written as Parquet; end the name in .parquet")
    detector = load_detector(name)
    history = _read(settings, detector, data, renames, strict=strict)
    plan = detector.plan(learn_vocabulary(detector, history.frame))
    with stages() as stage:
        events = columns_of_frame(detector.schema, history.frame, detector.trusts)
        rows = replay(MemoryStore(plan), events, lambda done, of: stage("features", done, of))
    frame = pl.DataFrame({detector.schema.id: history.frame[detector.schema.id]})
    frame = frame.with_columns(pl.Series(name, rows[:, i]) for i, name in enumerate(plan.names))
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        frame.write_parquet(out)
    except OSError as error:
        raise DataProblem(f"{out} cannot be written: {error}") from error
    return {"transactions": len(frame), "features": len(plan.names), "skipped": history.skipped, "out": str(out)}


def train_detector(
    settings: Settings, name: str, data: Path, renames: Mapping[str, str], *, strict: bool, promote: bool
) -> tuple[Manifest, str]:
    """Train and write a bundle; the manifest, and the champion afterwards."""
    sign, detector = signer(settings.signing_key_file), load_detector(name)
    history = _read(settings, detector, data, renames, strict=strict)
    registry = Registry(settings.models)
    first = not registry.versions()
    with stages() as stage:
        manifest = train(detector, history, registry, stage, sign)
    if first or promote:
        promote_version(settings, manifest.version)
    return manifest, HomeDeployment(settings.home).champion()


def evaluate_model(
    settings: Settings, name: str, data: Path, renames: Mapping[str, str], *, strict: bool, version: str | None
) -> dict[str, object]:
    """Metrics of a bundle, on rows that it did not learn from."""
    detector = load_detector(name)
    registry = Registry(settings.models, read_trusted_keys(settings.trusted_keys_file))
    version = version or HomeDeployment(settings.home).champion()
    bundle = load_bundle(registry.path(version), registry.trusted)
    manifest = bundle.manifest
    if manifest.detector != detector.name:
        raise BundleProblem(f"{version} was trained by detector {manifest.detector!r}, not {detector.name!r}")
    history = _read(settings, detector, data, renames, strict=strict)
    frame = history.frame
    if detector.schema.label not in frame.columns:
        raise DataProblem(f"{data} has no {detector.schema.label}; say which column it is with --map")
    same = history_sha256(detector, history) == manifest.history.sha256
    begin = split(detector, frame[detector.schema.time].to_numpy())[3] if same else 0
    with stages() as stage:
        rows = replay(
            MemoryStore(manifest.plan),
            columns_of_frame(manifest.plan.schema, frame, manifest.plan.trusted_sources),
            lambda done, of: stage("features", done, of),
        )[begin:].astype(np.float32)
    labels = frame[detector.schema.label].fill_null(-1).to_numpy().astype(np.int8)[begin:]
    rows, labels = rows[labels >= 0], labels[labels >= 0]
    if labels.min(initial=1) == labels.max(initial=0):
        raise DataProblem(f"{data} has only one kind of transaction; both frauds and others are needed to measure")
    metrics = evaluate(bundle.scorer.score(rows), labels, bundle.thresholds, baselines(manifest.plan, rows))
    return {
        "version": version,
        "measured_on": "the test part of the model's own history"
        if same
        else "the whole file, which the model never saw",
        "metrics": metrics,
        "skipped": history.skipped,
    }


def prove_parity(
    settings: Settings, name: str, data: Path, renames: Mapping[str, str], events: int, seed: int, *, strict: bool
) -> ParityReport:
    """Run the parity proof with bars."""
    detector = load_detector(name)
    history = _read(settings, detector, data, renames, strict=strict)
    with stages() as stage:
        return parity(detector, history, events, seed, stage)


def run_handbook(data: Path, train_days: int | None) -> handbook.HandbookResult:
    """Run the handbook's protocol with bars."""
    with stages() as stage:
        return handbook.run(data, train_days, lambda done, of: stage("folds", done, of))
