"""The bundle: one folder that holds a trained detector, complete, versioned and refused when anything is off."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from sentinel.errors import BundleProblem, SentinelError
from sentinel.features.layout import KERNEL_VERSION
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore, pack, unpack
from sentinel.model.certificate import Certificate
from sentinel.model.reference import Reference
from sentinel.model.scorer import Scorer

FORMAT = 2
MODEL_FILE = "model.onnx"
STATE_FILE = "state.npz"
REFERENCE_FILE = "reference.json"
MANIFEST_FILE = "manifest.json"
_LIBRARIES = ("numpy", "numba", "onnx", "onnxruntime", "xgboost-cpu", "polars", "msgspec")


class HistoryFacts(msgspec.Struct, frozen=True):
    """What the model was trained on, and up to when its state knows the past."""

    sha256: str
    transactions: int
    frauds: int
    first_us: int
    last_us: int
    skipped: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json`: everything about a bundle, and the SHA-256 of its other files."""

    format: int = FORMAT
    version: str
    detector: str
    created_at: str
    plan: FeaturePlan
    plan_sha256: str
    thresholds: dict[str, float | None]
    fallback: dict[str, Any] = {}
    metrics: Any
    certificate: Certificate
    history: HistoryFacts
    training: dict[str, Any]
    git_commit: str | None
    libraries: dict[str, str]
    files: dict[str, str]

    @property
    def state_id(self) -> str:
        """Names the initial feature state: bundles with the same history and feature plan share it."""
        named = f"{KERNEL_VERSION} {self.plan_sha256} {self.files[STATE_FILE]}"
        return hashlib.sha256(named.encode()).hexdigest()[:32]


# Made here: msgspec prepares a type at its first use, and two threads that do so at once crash the process.
_manifest_decoder = msgspec.json.Decoder(Manifest)
_reference_decoder = msgspec.json.Decoder(Reference)


class Bundle:
    """A loaded bundle: manifest, scorer, training distribution, and the features' state at the end of the history."""

    def __init__(
        self, manifest: Manifest, scorer: Scorer, reference: Reference, state: Mapping[str, NDArray[Any]]
    ) -> None:
        self.manifest = manifest
        self.scorer = scorer
        self.reference = reference
        self._state = state

    @cached_property
    def state_id(self) -> str:
        """As in the manifest."""
        return self.manifest.state_id

    def new_store(self) -> MemoryStore:
        """A store that remembers the training history and nothing since."""
        store = MemoryStore(self.manifest.plan)
        store.restore(self._state)
        return store


def plan_sha256(plan: FeaturePlan) -> str:
    """Fingerprint of a feature plan."""
    return hashlib.sha256(msgspec.json.encode(plan, order="deterministic")).hexdigest()


def write_bundle(folder: Path, manifest: Manifest, model: bytes, reference: Reference, store: MemoryStore) -> Manifest:
    """Write a bundle that appears whole or not at all; return the manifest with its file hashes."""
    files = {
        MODEL_FILE: model,
        REFERENCE_FILE: msgspec.json.encode(reference),
        STATE_FILE: pack(store.snapshot()),
    }
    manifest = msgspec.structs.replace(
        manifest, files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    )
    text = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, data in {**files, MANIFEST_FILE: text}.items():
        write_durably(draft / name, data)
    draft.rename(folder)
    return manifest


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check all of it. Raises BundleProblem that says what does not match."""
    manifest = read_manifest(folder)
    data = {name: _read_checked(folder / name, expected) for name, expected in manifest.files.items()}
    missing = {MODEL_FILE, REFERENCE_FILE, STATE_FILE} - data.keys()
    if missing:
        raise BundleProblem(f"{folder / MANIFEST_FILE} does not list {', '.join(sorted(missing))}; train anew")
    if plan_sha256(manifest.plan) != manifest.plan_sha256:
        raise BundleProblem(f"{folder}: the feature plan was changed after training; train anew")
    scorer = Scorer(data[MODEL_FILE])
    if scorer.n_features != len(manifest.plan.features):
        raise BundleProblem(
            f"{folder}: the model takes {scorer.n_features} features, the plan makes {len(manifest.plan.features)}"
        )
    try:
        reference = _reference_decoder.decode(data[REFERENCE_FILE])
        bundle = Bundle(manifest, scorer, reference, unpack(data[STATE_FILE]))
        bundle.new_store()
    except (SentinelError, msgspec.MsgspecError) as error:
        raise BundleProblem(f"{folder}: {STATE_FILE} or {REFERENCE_FILE} cannot be used: {error}") from error
    return bundle


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, without looking at the other files."""
    path = folder / MANIFEST_FILE
    try:
        raw = path.read_bytes()
    except OSError:
        raise BundleProblem(f"there is no bundle in {folder}: {MANIFEST_FILE} is missing; train one") from None
    try:
        found = msgspec.json.decode(raw)
        known = found.get("format") if isinstance(found, dict) else None
        if known != FORMAT:
            raise BundleProblem(f"{path} has format {known}, this Sentinel reads {FORMAT}; train anew")
        return _manifest_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleProblem(f"{path} cannot be read ({error}); restore it or train anew") from error


def _read_checked(path: Path, expected: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError:
        raise BundleProblem(f"{path} is missing; restore it or train anew") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise BundleProblem(f"{path} was altered after training (SHA-256 differs); restore it or train anew")
    return data


def library_versions() -> dict[str, str]:
    """The versions of the libraries that made this bundle."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def git_commit() -> str | None:
    """The commit of the folder Sentinel is run in, or None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    asked = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return asked.stdout.strip() if asked.returncode == 0 else None
