"""The bundle: one folder that holds a trained detector, complete, versioned and refused when anything is off."""

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleProblem, InvalidDefinition, SentinelError, StorageProblem, VersionTaken
from sentinel.features.layout import KERNEL_VERSION
from sentinel.features.packed import most_bytes, pack, unpack
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.model import onnx_file
from sentinel.model.certificate import Certificate
from sentinel.model.known_rows import KnownRow, check_known_rows
from sentinel.model.lineage import Lineage
from sentinel.model.onnx_file import OnnxFile
from sentinel.model.reasons import Explainer
from sentinel.model.reference import Reference
from sentinel.model.registry import MANIFEST_FILE, Registry, TrustedKeys, manifest_bytes
from sentinel.model.regular_file import read_regular
from sentinel.model.scorer import Scorer
from sentinel.model.signing import SIGNATURE_FILE, Sign, check_signed
from sentinel.model.trees import check_trees
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fallback import Fallback
from sentinel.policy.holdout import Holdout
from sentinel.policy.stand_ins import CompiledFailPolicy
from sentinel.policy.thresholds import Thresholds

FORMAT = 2
MODEL_FILE = "model.onnx"
STATE_FILE = "state.npz"
REFERENCE_FILE = "reference.json"
_MOST_BYTES = {MODEL_FILE: lambda: onnx_file.MOST_BYTES, REFERENCE_FILE: lambda: 256 << 20, STATE_FILE: most_bytes}
_LIBRARIES = ("numpy", "numba", "onnx", "onnxruntime", "polars", "msgspec")


class TableFacts(msgspec.Struct, frozen=True):
    """A table as the model was trained with it: a fingerprint of its rows, and how many versions of them there were."""

    sha256: str
    rows: int


class HistoryFacts(msgspec.Struct, frozen=True):
    """What the model was trained on, looked up in these tables, and up to when its state knows the past.

    Of a history that was exported from the log `log_id` the state knows the entries before position `log_end`.
    """

    sha256: str
    transactions: int
    frauds: int
    first_us: int
    last_us: int
    skipped: dict[str, int]
    tables: dict[str, TableFacts] = {}
    log_id: str | None = None
    log_end: int | None = None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json`: everything about a bundle, and the SHA-256 of its other files."""

    format: int = FORMAT
    version: str
    detector: str
    created_at: str
    plan: FeaturePlan
    plan_sha256: str
    thresholds: dict[str, float | None]
    policy: dict[str, Any] = {}
    fallback: dict[str, Any] = {}
    on_fault: dict[str, str] = {}
    holdout: dict[str, Any] | None = None
    reasons: dict[str, str] = {}
    currency: str | None = None
    metrics: Any
    certificate: Certificate
    history: HistoryFacts
    training: dict[str, Any]
    lineage: Lineage = Lineage()
    known_rows: tuple[KnownRow, ...] = ()
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
for _kind in (Fallback, FailPolicy, Holdout, Thresholds):
    msgspec.json.Decoder(_kind)


class Bundle:
    """A loaded bundle: manifest, scorer, training distribution, and the features' state at the end of the history.

    `thresholds`, `on_fault` and `holdout` are what the manifest says, ready to decide. Raises
    msgspec.ValidationError or InvalidDefinition where they cannot.
    """

    manifest_sha256 = ""
    """Of the file; empty for one that was not loaded from one."""

    def __init__(
        self, manifest: Manifest, scorer: Scorer, reference: Reference, state: Mapping[str, NDArray[Any]]
    ) -> None:
        self.manifest = manifest
        self.scorer = scorer
        self.reference = reference
        self.thresholds = msgspec.convert(manifest.thresholds, Thresholds)
        fallback, on_fault = (
            msgspec.convert(manifest.fallback, Fallback),
            msgspec.convert(manifest.on_fault, FailPolicy),
        )
        self.on_fault = CompiledFailPolicy(on_fault, fallback, manifest.plan.names)
        self.holdout = None if manifest.holdout is None else msgspec.convert(manifest.holdout, Holdout)
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

    def profile_before(self, by: str) -> Callable[[int], bytes]:
        """What gives the profile that the training history left of a key of the group `by`; empty for a new one."""
        store = self.new_store()
        return lambda key: store.export(by, np.array([key], np.uint64))[0]


def plan_sha256(plan: FeaturePlan) -> str:
    """Fingerprint of a feature plan."""
    return hashlib.sha256(msgspec.json.encode(plan, order="deterministic")).hexdigest()


def write_bundle(
    registry: Registry,
    manifest: Manifest,
    model: bytes,
    reference: Reference,
    store: MemoryStore,
    sign: Sign | None = None,
    beside: Callable[[Manifest], Mapping[str, bytes]] = lambda _: {},
) -> Manifest:
    """Keep a bundle as the next version of a registry, whole or not at all; its manifest, with version and file hashes.

    `beside` makes further files of the manifest, which vouches for none of them, such as a page for people.

    Raises StorageProblem where the registry cannot be reached.
    """
    files = {
        MODEL_FILE: model,
        REFERENCE_FILE: msgspec.json.encode(reference),
        STATE_FILE: pack(store.snapshot()),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    while True:
        manifest = msgspec.structs.replace(manifest, version=registry.next_version(), files=hashes)
        text = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2)
        signed = {} if sign is None else {SIGNATURE_FILE: sign(text)}
        try:
            registry.publish(
                manifest.version, {**beside(_manifest_decoder.decode(text)), **files, **signed, MANIFEST_FILE: text}
            )
        except VersionTaken:  # by another training, between two lines
            continue
        return manifest


def accept_bundle(registry: Registry, version: str) -> str:
    """Take a bundle that was made elsewhere into the registry's record; the SHA-256 of its manifest.

    Raises BundleProblem for one that would be refused for another reason than that.
    """
    folder = registry.path_of_copied(version)
    raw = manifest_bytes(folder)
    _checked_bundle(folder, raw, registry.trusted)
    registry.record(version, raw, "accepted")
    return hashlib.sha256(raw).hexdigest()


def sign_bundle(registry: Registry, version: str, sign: Sign) -> None:
    """Sign a bundle that is in the registry's record. Raises BundleProblem for one that is not as it was recorded."""
    folder = registry.path(version)
    raw = manifest_bytes(folder)
    registry.check_recorded(version, raw)
    _checked_bundle(folder, raw, frozenset())
    registry.add(version, SIGNATURE_FILE, sign(raw))


def load_bundle(folder: Path, trusted: TrustedKeys = frozenset()) -> Bundle:
    """Read a bundle and check all of it: record, signature where there are trusted keys, hashes, and what is in it.

    Raises BundleProblem that says what does not match.
    """
    raw = manifest_bytes(folder)
    Registry(folder.parent).check_recorded(folder.name, raw)
    bundle = _checked_bundle(folder, raw, trusted)
    bundle.manifest_sha256 = hashlib.sha256(raw).hexdigest()
    return bundle


def load_warm(registry: Registry, version: str) -> Bundle:
    """A bundle that has scored once already, so that its first request does not wait."""
    bundle = load_bundle(registry.path(version), registry.trusted)
    bundle.scorer.score(np.zeros((1, bundle.scorer.n_features), np.float32))
    return bundle


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, as the registry has it on record, without looking at the other files."""
    raw = manifest_bytes(folder)
    Registry(folder.parent).check_recorded(folder.name, raw)
    return _decoded(folder, raw)


def look_up_manifest(registry: Registry, version: str) -> Manifest:
    """The manifest of a version, on this machine or not, whose other files are not fetched for it."""
    return _decoded(registry.folder / version, registry.manifest(version))


def read_explainer(folder: Path, trusted: TrustedKeys = frozenset()) -> Explainer:
    """What says why the bundle's model came to a score. The model is parsed: with trusted keys it has to be signed.

    Raises BundleProblem.
    """
    manifest = read_manifest(folder)
    if trusted:
        check_signed(folder, manifest_bytes(folder), trusted)
    model = OnnxFile(_read_checked(folder / MODEL_FILE, manifest.files.get(MODEL_FILE, "")))
    check_trees(model)
    return Explainer(model, manifest.plan.names, manifest.reasons)


def _checked_bundle(folder: Path, raw: bytes, trusted: TrustedKeys) -> Bundle:
    if trusted:
        check_signed(folder, raw, trusted)
    manifest = _decoded(folder, raw)
    if manifest.files.keys() != _MOST_BYTES.keys():
        raise BundleProblem(
            f"{folder / MANIFEST_FILE} has to list {', '.join(_MOST_BYTES)} and nothing else; train anew"
        )
    data = {name: _read_checked(folder / name, expected) for name, expected in manifest.files.items()}
    if plan_sha256(manifest.plan) != manifest.plan_sha256:
        raise BundleProblem(f"{folder}: the feature plan was changed after training; train anew")
    scorer = Scorer(data[MODEL_FILE])
    if scorer.n_features != len(manifest.plan.features):
        raise BundleProblem(
            f"{folder}: the model takes {scorer.n_features} features, the plan makes {len(manifest.plan.features)}"
        )
    try:
        check_known_rows(scorer, manifest.known_rows)
    except BundleProblem as error:
        raise BundleProblem(f"{folder}: {error}") from None
    try:
        reference, state = _reference_decoder.decode(data[REFERENCE_FILE]), unpack(data[STATE_FILE])
    except (SentinelError, msgspec.MsgspecError) as error:
        raise BundleProblem(f"{folder}: {STATE_FILE} or {REFERENCE_FILE} cannot be used: {error}") from error
    try:
        bundle = Bundle(manifest, scorer, reference, state)
    except (SentinelError, msgspec.MsgspecError) as error:
        raise BundleProblem(f"{folder} has thresholds or rules that cannot decide: {error}; train anew") from error
    try:
        bundle.new_store()
    except SentinelError as error:
        raise BundleProblem(f"{folder}: {STATE_FILE} cannot be used: {error}") from error
    return bundle


def _decoded(folder: Path, raw: bytes) -> Manifest:
    path = folder / MANIFEST_FILE
    try:
        found = msgspec.json.decode(raw)
        known = found.get("format") if isinstance(found, dict) else None
        if known != FORMAT:
            raise BundleProblem(f"{path} has format {known}, this Sentinel reads {FORMAT}; train anew")
        manifest = _manifest_decoder.decode(raw)
    except (InvalidDefinition, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleProblem(f"{path} cannot be read ({error}); restore it or train anew") from error
    if manifest.version != folder.name:
        raise BundleProblem(f"{folder} has the manifest of {manifest.version}; a version keeps its name")
    return manifest


def _read_checked(path: Path, expected: str) -> bytes:
    try:
        data = read_regular(path, _MOST_BYTES[path.name]())
    except FileNotFoundError:
        raise BundleProblem(f"{path} is missing; restore it or train anew") from None
    except (OSError, StorageProblem) as error:
        raise BundleProblem(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise BundleProblem(f"{path} was altered after training (SHA-256 differs); restore it or train anew")
    return data


def library_versions(*learners: str) -> dict[str, str]:
    """The versions of the libraries that made a bundle: those that make every one, and those that it learned with."""
    return {"python": platform.python_version()} | {name: version(name) for name in (*_LIBRARIES, *learners)}


def git_commit() -> str | None:
    """The commit of the folder Sentinel is run in, or None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    asked = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return asked.stdout.strip() if asked.returncode == 0 else None
