"""Promoting a version from the command line: the server that owns the log is asked, or the log is written to."""

from contextlib import closing

from sentinel.commands.owner import ask_owner
from sentinel.config import Settings
from sentinel.model.bundle import read_manifest
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.feature_state import check_reads
from sentinel.record.log_reader import FileLogReader
from sentinel.record.whole_snapshots import check_kept


def promote_version(settings: Settings, version: str) -> None:
    """Make a version the champion. Raises DeploymentRefused when the server that runs says no.

    Raises BundleProblem for a version that is not there, UnknownVersion for a model that cannot read the transactions
    of the log.
    """
    manifest = read_manifest(Registry(settings.models).path(version))
    folder = log_folder(settings.home)
    if ask_owner(settings, "/admin/reload", {"version": version}) is None:
        if folder.exists():
            with closing(FileLogReader(folder)) as log:
                check_reads(log, manifest)
                check_kept(log, manifest, settings.snapshots)
        HomeDeployment(settings.home).promote(version)
