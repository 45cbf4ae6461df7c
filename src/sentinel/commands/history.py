"""The commands that read a history: training, parity, the handbook."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from sentinel.commands.gate import admitting, hold_against
from sentinel.commands.given_history import read_data
from sentinel.commands.parity import ParityReport, parity
from sentinel.commands.progress import stages
from sentinel.commands.promote import promote_version
from sentinel.commands.registry_of_home import registry_of
from sentinel.commands.report import report_beside
from sentinel.commands.tracking import Drawn, Tracking, ready_to_track, track
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.events.reading import Reading
from sentinel.events.stamps import without_stamps
from sentinel.model.bundle import Bundle, Manifest, load_bundle
from sentinel.model.gate_verdicts import Verdict, policy_in
from sentinel.model.lineage import lineage_of
from sentinel.model.signing import signer
from sentinel.record.applied import HomeDeployment
from sentinel.train import handbook
from sentinel.train.pipeline import Making, train
from sentinel.train.search.experiment import Experiment


class Trained(NamedTuple):
    """The manifest of a new version, the champion afterwards, what the promotion policy says, and where the report is.

    `verdict` is None where the home folder has no policy. There is no champion where the first version has not passed.
    """

    manifest: Manifest
    champion: str | None
    verdict: Verdict | None
    report: Path


def train_detector(
    settings: Settings, detector: Detector, data: Path, reading: Reading, how: Experiment, *, promote: bool,
    gate: bool = False, tracking: Tracking | None = None,
) -> Trained:  # fmt: skip
    """Train and write a bundle, which becomes the champion where there was none, or with `promote`.

    Where the home folder has a promotion policy, only one that passes is promoted; with `gate` one that does not is not
    even written. Raises GateRefused then. Where MLflow is to be told and cannot be, that is said and all else is done.
    """
    tracking = ready_to_track(tracking)
    sign, policy, registry = signer(settings.signing_key_file), policy_in(settings.home), registry_of(settings)
    registry.next_version()  # where models cannot be kept, nobody should have to wait for one
    history = read_data(settings, detector, data, reading)
    deployment = HomeDeployment(settings.home)
    lineage = lineage_of(deployment.read().champion)
    with stages() as stage:
        drawn = Drawn()
        admit = admitting(settings, history, policy, stage) if gate else _anyone
        making = Making(
            how=how, studies=settings.studies, sign=sign, lineage=lineage, tested=drawn.keep, admit=admit
        )  # fmt: skip
        manifest = train(detector, history, registry, stage, making)
        bundle = load_bundle(registry.path(manifest.version))
        report = report_beside(settings, bundle, history, stage)
        verdict = None
        if policy is not None:
            verdict = hold_against(settings, bundle, history, policy, "promote", stage).verdict
    may = verdict is None or verdict.passed
    if may and (promote or deployment.read().champion is None):
        promote_version(settings, manifest.version)
    if tracking is not None:
        track(tracking, manifest, registry, deployment.read(), data.name, drawn)
    return Trained(manifest, deployment.read().champion, verdict, report)


def _anyone(_bundle: Bundle) -> None:
    """Without a gate every model is written."""


def prove_parity(settings: Settings, name: str, data: Path, reading: Reading, events: int, seed: int) -> ParityReport:
    """Run the parity proof with bars."""
    detector = load_detector(name)
    history = read_data(settings, detector, data, reading)
    time = detector.schema.time  # it is sent anew, in an order of its own
    context = None if history.context is None else without_stamps(history.context, time)
    history = dataclasses.replace(history, frame=without_stamps(history.frame, time), context=context)
    with stages() as stage:
        return parity(detector, history, events, seed, stage)


def run_handbook(data: Path, train_days: int | None) -> handbook.HandbookResult:
    """Run the handbook's protocol with bars."""
    with stages() as stage:
        return handbook.run(data, train_days, lambda done, of: stage("folds", done, of))
