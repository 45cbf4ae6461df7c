"""Measuring trained models: one on a file, or two on the same rows of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel.commands.given_history import read_data
from sentinel.commands.progress import Stage, stages
from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import BundleProblem, InvalidDefinition
from sentinel.events.files import History
from sentinel.events.reading import Reading
from sentinel.events.times import duration_us
from sentinel.model.bundle import Bundle, load_bundle
from sentinel.policy.sample import Sample
from sentinel.record.applied import HomeDeployment
from sentinel.train.figures.compare import Comparison, compare, shared_rows
from sentinel.train.figures.effects import costs_of, effects
from sentinel.train.figures.evaluate import baselines, evaluate
from sentinel.train.figures.reliability import reliability
from sentinel.train.figures.segments import segments
from sentinel.train.figures.threshold_table import threshold_table
from sentinel.train.judging.doubts import doubts
from sentinel.train.rows.measured import Measured, bundled_detector, measure, without_known_cards


class Source(NamedTuple):
    """A file to measure on, how it is read, and how long labels take (None: all that it says is final)."""

    data: Path
    reading: Reading
    label_delay: str | None = None

    @property
    def delay_us(self) -> int | None:
        """The delay in microseconds. Raises InvalidDefinition."""
        return None if self.label_delay is None else duration_us(self.label_delay)


def bundle_of(settings: Settings, version: str) -> Bundle:
    """A version of the registry, loaded as a server would load it. Raises BundleProblem."""
    registry = registry_of(settings)
    return load_bundle(registry.path(version), registry.trusted)


def detector_for(bundle: Bundle, name: str | None) -> Detector:
    """The detector that reads a file for a bundle: the bundle's own, unless one is named, which has to be that."""
    manifest = bundle.manifest
    if name is None:
        return bundled_detector(manifest)
    detector = load_detector(name)
    if manifest.detector != detector.name:
        raise BundleProblem(
            f"{manifest.version} was trained by detector {manifest.detector!r}, not {detector.name!r}; give "
            f"--detector FILE, where {manifest.detector} is declared, or leave it out"
        )
    return detector


def chosen(settings: Settings, version: str | None, model: str | None) -> str:
    """The version that is named in one of two ways; the champion where none is."""
    if version and model and version != model:
        raise InvalidDefinition(f"{version} and --model {model} are two versions; name one")
    return version or model or HomeDeployment(settings.home).champion()


def evaluate_model(
    settings: Settings,
    version: str,
    source: Source,
    *,
    detector_name: str | None = None,
    by: Sequence[str] = (),
    known_after: str | None = None,
) -> dict[str, object]:
    """Metrics of a version on rows that it did not learn from, by the segments `by` too.

    With `known_after`, such as `7d`, cards whose first fraud is as old are left out.
    """
    delay_us, bundle = source.delay_us, bundle_of(settings, version)
    known_us = None if known_after is None else duration_us(known_after)
    detector = detector_for(bundle, detector_name)
    history = read_data(settings, detector, source.data, source.reading)
    with stages() as stage:
        measured = measured_on(bundle, detector, history, stage, delay_us)
    rows = len(measured.labels)
    if known_us is not None:
        measured = without_known_cards(measured, detector.schema, history, known_us)
    manifest, scores, labels = bundle.manifest, measured.scores, measured.labels
    rankings = baselines(manifest.plan, measured.rows)
    metrics = evaluate(scores, labels, bundle.thresholds, rankings, measured.cards)
    sample = Sample(scores, labels, measured.amounts, measured.time_us, len(labels) + measured.unlabelled)
    money = effects(sample, bundle.thresholds, costs_of(manifest), measured.cards)
    return {
        "version": version,
        "measured_on": measured.said,
        "left_out": measured.left_out,
        "unlabelled": measured.unlabelled,
        "immature": measured.immature,
        "of_known_cards": rows - len(labels),
        "metrics": msgspec.to_builtins(metrics)
        | {"warnings": doubts(metrics, manifest.training), "effects": msgspec.to_builtins(money)},
        "reliability": reliability(scores, labels),
        "thresholds": threshold_table(scores, labels),
        "segments": {one: segments(measured, manifest.plan.schema, one, bundle.thresholds.review) for one in by},
        "skipped": history.skipped,
    }


def measured_on(
    bundle: Bundle, detector: Detector, history: History, stage: Stage, delay_us: int | None = None
) -> Measured:
    """What a bundle's model says of a history, with a bar."""
    name = f"features {bundle.manifest.version}"
    return measure(bundle, detector, history, lambda done, of: stage(name, done, of), delay_us)


def compare_models(settings: Settings, versions: tuple[str, str], source: Source, fpr: float = 0.01) -> Comparison:
    """Two versions on the same rows of a file, which neither learned from."""
    delay_us = source.delay_us
    bundles = [bundle_of(settings, version) for version in versions]
    detector = bundled_detector(bundles[1].manifest)
    history = read_data(settings, detector, source.data, source.reading)
    with stages() as stage:
        first, second = (
            measured_on(one, bundled_detector(one.manifest), history, stage, delay_us) for one in bundles
        )  # fmt: skip
    thresholds = [(one.thresholds.review, one.thresholds.block) for one in bundles]
    return compare(versions, shared_rows(first, second), thresholds, fpr=fpr)
