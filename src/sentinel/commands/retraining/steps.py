"""The steps of a retraining. Each takes what those before it found, and gives what those after it need."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import msgspec

from sentinel.commands.evaluation import measured_on
from sentinel.commands.gate import weigh
from sentinel.commands.given_history import read_data
from sentinel.commands.log_history.export import Asked, export_history
from sentinel.commands.owner import ask_owner
from sentinel.commands.progress import Stage
from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import BundleProblem, DataProblem
from sentinel.events.files import History
from sentinel.events.reading import Reading
from sentinel.events.tables import files_of
from sentinel.model.bundle import (
    MODEL_FILE,
    Bundle,
    Manifest,
    load_bundle,
    load_warm,
    look_up_manifest,
    write_bundle,
)
from sentinel.model.card_pages import card_files
from sentinel.model.gate_verdicts import policy_in
from sentinel.model.registry import Registry
from sentinel.model.signing import signer
from sentinel.record.applied import HomeDeployment, by_this_user
from sentinel.train.figures.compare import Comparison, compare, shared_rows
from sentinel.train.judging.against_champion import failures
from sentinel.train.rows.measured import bundled_detector

_PIECE = 1 << 20
CANDIDATE = "candidate"


class Work:
    """What the steps of one run share; the history is read once, by the first that needs it."""

    def __init__(self, settings: Settings, folder: Path, detector: str, reading: Reading, stage: Stage) -> None:
        self.settings, self.folder, self.stage, self.reading = settings, folder, stage, reading
        self.detector: Detector = load_detector(detector)
        self.models = registry_of(settings)
        self._history: History | None = None

    def history(self, collected: dict[str, Any]) -> History:
        """The history that was collected."""
        if self._history is None:
            events = collected.get("events")
            reading = self.reading if events is None else msgspec.structs.replace(self.reading, events=Path(events))
            self._history = read_data(self.settings, self.detector, Path(collected["file"]), reading)
        return self._history

    def champion(self) -> Bundle:
        """The champion, loaded. Raises BundleProblem when there is none, or it is of another detector."""
        version = HomeDeployment(self.settings.home).champion()
        bundle = load_bundle(self.models.path(version), self.models.trusted)
        if bundle.manifest.detector != self.detector.name:
            raise BundleProblem(
                f"the champion {version} is of the detector {bundle.manifest.detector!r}, not {self.detector.name!r}; "
                "name that one with --detector"
            )
        return bundle

    def candidates(self) -> Registry:
        """Where the candidate of this run waits, apart from the versions that anybody could promote."""
        return Registry(self.folder / CANDIDATE, self.models.trusted)

    def candidate(self, version: str) -> Bundle:
        """The candidate, loaded."""
        return load_bundle(self.candidates().path(version), self.models.trusted)


def collect(work: Work, data: str | None, earlier: str | None) -> dict[str, Any]:
    """The file of the history with its labels, and its fingerprint: the one that is given, or what the log has.

    What the log has comes after the transactions of the file `earlier`. Raises DataProblem, StorageProblem.
    """
    if data is not None:
        return {"file": data, "sha256": fingerprint(Path(data))}
    counts_events = bool(work.detector.counted_events)
    events = work.folder / "events.parquet" if counts_events else None
    asked = Asked(
        work.folder / "history.parquet", events_out=events, earlier=None if earlier is None else Path(earlier)
    )
    done = export_history(work.settings, asked, work.reading, work.stage)
    return {
        "file": done.out,
        "sha256": fingerprint(Path(done.out)),
        "events": None if events is None else str(events),
        "exported": msgspec.to_builtins(done),
    }


def judge(work: Work, collected: dict[str, Any], fitted: dict[str, Any]) -> dict[str, Any]:
    """Compare the candidate with the champion on rows that neither learned from, and hold it against the policy."""
    champion, candidate = work.champion(), work.candidate(fitted["candidate"])
    history, settings = work.history(collected), work.settings
    policy = policy_in(settings.home)
    both = compared(work, (champion.manifest.version, CANDIDATE), (champion, candidate), history)
    if isinstance(both, str):
        found = [f"it cannot be compared with the champion: {both}"]
    elif policy is None:
        found = failures(both, candidate.manifest.metrics["warnings"])
    else:
        verdict = weigh(settings, candidate, history, policy, "register", work.stage).verdict
        found = [*verdict.failures, *verdict.missing]
    return {
        "champion": champion.manifest.version,
        "policy": None if policy is None else policy.sha256,
        "passed": not found,
        "failures": found,
        "compared": None if isinstance(both, str) else as_read_back(both),
    }


def compared(work: Work, names: tuple[str, str], bundles: tuple[Bundle, Bundle], history: History) -> Comparison | str:
    """Both on the rows that neither learned from; why not, where there are too few."""
    try:
        before, after = (
            measured_on(one, bundled_detector(one.manifest), history, work.stage) for one in bundles
        )  # fmt: skip
        both = shared_rows(before, after)
    except DataProblem as error:
        return str(error)
    return compare(names, both, [(one.thresholds.review, one.thresholds.block) for one in bundles])


def as_read_back(found: Comparison) -> Any:
    """A comparison as `run.json` has it."""
    return msgspec.json.decode(msgspec.json.encode(found))


def register(work: Work, fitted: dict[str, Any]) -> dict[str, Any]:
    """Give the candidate a version of the registry. It is there as a whole, or not at all, and once."""
    bundle = work.candidate(fitted["candidate"])
    known = _registered(work, bundle.manifest)
    if known is not None:  # by an attempt that ended before it could be written down
        return {"version": known}
    model = (work.candidates().path(fitted["candidate"]) / MODEL_FILE).read_bytes()
    sign = signer(work.settings.signing_key_file)
    kept = write_bundle(work.models, bundle.manifest, model, bundle.reference, bundle.new_store(), sign, card_files)
    return {"version": kept.version}


def _registered(work: Work, candidate: Manifest) -> str | None:
    """The version that has this candidate's files, if one has."""
    for version in reversed(work.models.versions()):
        with contextlib.suppress(BundleProblem):
            found = look_up_manifest(work.models, version)
            if (found.files, found.created_at) == (candidate.files, candidate.created_at):
                return version
    return None


def watch(work: Work, registered: dict[str, Any]) -> dict[str, Any]:
    """Have the new version score beside the champion, in the server that runs or in the next one."""
    version = registered["version"]
    load_warm(work.models, version)
    asked = ask_owner(work.settings, "/admin/shadow/start", {"version": version})
    if asked is None:
        HomeDeployment(work.settings.home).change(
            lambda deployment: msgspec.structs.replace(deployment, shadow=version), by_this_user("retrain", version)
        )
    return {"shadow": version, "told": "the next server" if asked is None else "the server that runs"}


def fingerprint(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of all files of a folder or pattern."""
    digest = hashlib.sha256()
    for one in files_of(path):
        digest.update(one.name.encode() + b"\0")
        with one.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()
