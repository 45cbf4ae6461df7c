"""The commands that read a history: features, training, evaluation, parity, the handbook."""

from pathlib import Path

import msgspec
import polars as pl

from sentinel.commands.declared_events import check_events_given, empty_kinds
from sentinel.commands.load_table import with_tables_read
from sentinel.commands.parity import ParityReport, parity
from sentinel.commands.progress import stages
from sentinel.commands.promote import promote_version
from sentinel.commands.terminal import Terminal, shown
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import BundleProblem, DataProblem
from sentinel.events.context_files import read_whole_history
from sentinel.events.files import History
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.events.wire import KIND
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import Manifest, load_bundle
from sentinel.model.registry import Registry
from sentinel.model.signing import read_trusted_keys, signer
from sentinel.record.applied import HomeDeployment
from sentinel.train import handbook
from sentinel.train.dataset import learn_vocabulary, replay
from sentinel.train.doubts import doubts
from sentinel.train.evaluate import baselines, evaluate
from sentinel.train.pipeline import train
from sentinel.train.unseen import unseen_rows

_terminal = Terminal()


def _read(settings: Settings, detector: Detector, data: Path, reading: Reading) -> History:
    check_events_given(detector, reading)
    history = read_whole_history(data, detector.schema, reading, secrets=settings.secrets())
    history = with_tables_read(history, detector.schema, reading, settings.secrets())
    for reason, n in history.skipped.items():
        first = f", first {shown(str(history.examples[reason]))}" if reason in history.examples else ""
        _terminal.print(f"[yellow]skipped {n:,} rows:[/yellow] {shown(reason)}{first}")
    if detector.schema.label in history.frame.columns:
        labels = history.frame[detector.schema.label]
        _terminal.print(
            f"{len(history):,} transactions: {labels.count():,} labelled, {labels.sum():,} of them fraud, "
            f"{labels.null_count():,} without a label"
        )
    else:
        _terminal.print(f"{len(history):,} transactions, none of them labelled: no column is {detector.schema.label}")
    if history.context is not None:
        _terminal.print(f"{len(history.context):,} context events{_by_kind(history.context)}")
        if warnings := empty_kinds(detector, history.context):
            _terminal.warn("context events that are not there", warnings)
    for name, file in history.tables.items():
        _terminal.print(f"{len(file.rows):,} rows of the table {name}")
    if history.relabelled:
        _terminal.print(f"{history.relabelled:,} transactions have another label in a later row: the last one counts")
    return history


def _by_kind(context: pl.DataFrame) -> str:
    counted = context[KIND].value_counts().sort(KIND)
    return ": " + ", ".join(f"{n:,} {kind}" for kind, n in counted.iter_rows()) if len(counted) else ""


def build_features(settings: Settings, name: str, data: Path, out: Path, reading: Reading) -> dict[str, object]:
    """Write a Parquet file of the id and every feature; categories are learned on the file itself."""
    if out.suffix != ".parquet":
        raise DataProblem(f"{out}: features are written as Parquet; end the name in .parquet")
    detector = load_detector(name)
    history = _read(settings, detector, data, reading)
    plan = detector.plan(learn_vocabulary(detector, history.frame))
    with stages() as stage:
        events = columns_of_frame(detector.schema, history.frame, detector.trusts, history.context)
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
    settings: Settings, name: str, data: Path, reading: Reading, *, promote: bool
) -> tuple[Manifest, str]:
    """Train and write a bundle; the manifest, and the champion afterwards, which it is where there was none."""
    sign, detector = signer(settings.signing_key_file), load_detector(name)
    history = _read(settings, detector, data, reading)
    registry = Registry(settings.models)
    with stages() as stage:
        manifest = train(detector, history, registry, stage, sign)
    deployment = HomeDeployment(settings.home)
    if promote or deployment.read().champion is None:
        promote_version(settings, manifest.version)
    return manifest, deployment.champion()


def evaluate_model(
    settings: Settings, name: str, data: Path, reading: Reading, *, version: str | None
) -> dict[str, object]:
    """Metrics of a bundle, on rows that it did not learn from."""
    detector = load_detector(name)
    registry = Registry(settings.models, read_trusted_keys(settings.trusted_keys_file))
    version = version or HomeDeployment(settings.home).champion()
    bundle = load_bundle(registry.path(version), registry.trusted)
    manifest = bundle.manifest
    if manifest.detector != detector.name:
        raise BundleProblem(
            f"{version} was trained by detector {manifest.detector!r}, not {detector.name!r}; give --detector FILE, "
            f"where {manifest.detector} is declared"
        )
    history = _read(settings, detector, data, reading)
    with stages() as stage:
        unseen = unseen_rows(bundle, detector, history, lambda done, of: stage("features", done, of))
    rows, labels = unseen.rows[unseen.labels >= 0], unseen.labels[unseen.labels >= 0]
    if labels.min(initial=1) == labels.max(initial=0):
        raise DataProblem(f"{data} has only one kind of transaction; both frauds and others are needed to measure")
    metrics = evaluate(bundle.scorer.score(rows), labels, bundle.thresholds, baselines(manifest.plan, rows))
    return {
        "version": version,
        "measured_on": unseen.said,
        "left_out": unseen.left_out,
        "metrics": msgspec.to_builtins(metrics) | {"warnings": doubts(metrics, manifest.training)},
        "skipped": history.skipped,
    }


def prove_parity(settings: Settings, name: str, data: Path, reading: Reading, events: int, seed: int) -> ParityReport:
    """Run the parity proof with bars."""
    detector = load_detector(name)
    history = _read(settings, detector, data, reading)
    with stages() as stage:
        return parity(detector, history, events, seed, stage)


def run_handbook(data: Path, train_days: int | None) -> handbook.HandbookResult:
    """Run the handbook's protocol with bars."""
    with stages() as stage:
        return handbook.run(data, train_days, lambda done, of: stage("folds", done, of))
