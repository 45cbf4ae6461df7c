"""What a shadow needs of the log, as it stands in the files of a home folder."""

import hashlib
from contextlib import closing
from pathlib import Path

import msgspec

from sentinel.model.bundle import Manifest, read_manifest
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.record.log import LogReader, Past
from sentinel.record.retention import Need
from sentinel.record.whole_snapshots import WholeSnapshots
from sentinel.review.shadow_scores import FILE, ShadowProgress, ShadowScores


def shadow_needs(home: Path, deployment: Deployment, log: LogReader, whole: WholeSnapshots) -> list[Need]:
    """The shadow, if there is one, has to read on, and to find its features again after a restart.

    Raises BundleProblem, StorageProblem.
    """
    version = deployment.shadow
    if version is None:
        return []
    manifest = read_manifest(Registry(home / "models").path(version))
    progress = _progress(home, version)
    if progress is None or progress.bundle_sha256 != fingerprint(manifest, log):
        return [Need(log.first, f"the shadow {version} has not begun to read the log")]
    read = Past(log, progress.seq)  # a snapshot ahead of its scores is of no use to it
    kept_from = whole.kept_from(snapshot_folder(home, progress), manifest, read, progress.begun)
    return [
        Need(progress.seq, f"the shadow {version} has read up to position {progress.seq}"),
        Need(kept_from.position, f"the shadow {version} {kept_from}"),
    ]


def fingerprint(manifest: Manifest, log: LogReader) -> str:
    """Names a bundle, and the log that its shadow follows."""
    origin = log.log_id.encode() + msgspec.json.encode(manifest, order="deterministic")
    return hashlib.sha256(origin).hexdigest()


def snapshot_folder(home: Path, progress: ShadowProgress) -> Path:
    """Where a shadow keeps its snapshots."""
    return home / "shadow" / f"{progress.model_version}-{progress.bundle_sha256[:12]}-{progress.begun}"


def _progress(home: Path, version: str) -> ShadowProgress | None:
    if not (home / FILE).exists():
        return None
    with closing(ShadowScores(home / FILE)) as scores:
        return scores.progress(version)
