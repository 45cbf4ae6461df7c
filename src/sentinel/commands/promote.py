"""Promoting a version from the command line: the server that owns the log is asked, or the log is written to."""

from contextlib import closing

from sentinel.commands.owner import ask_owner
from sentinel.config import Settings
from sentinel.events.reader import TransactionReader
from sentinel.model.bundle import load_warm
from sentinel.model.registry import Registry
from sentinel.model.signing import read_trusted_keys
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.feature_state import check_reads
from sentinel.record.log_reader import FileLogReader
from sentinel.record.whole_snapshots import check_kept


def promote_version(settings: Settings, version: str) -> None:
    """Make a version the champion, once it has been loaded and has scored here; what fails changes nothing.

    Raises BundleProblem for a version that is not there or cannot decide, DeploymentRefused when the server that runs
    says no, UnknownVersion for a model that cannot read the transactions of the log.
    """
    registry = Registry(settings.models, read_trusted_keys(settings.trusted_keys_file))
    manifest = load_warm(registry, version).manifest
    TransactionReader(manifest.plan.schema, settings.secrets())  # or there is no key
    folder = log_folder(settings.home)
    if ask_owner(settings, "/admin/reload", {"version": version}) is None:
        if folder.exists():
            with closing(FileLogReader(folder)) as log:
                check_reads(log, manifest)
                check_kept(log, manifest, settings.snapshots)
        HomeDeployment(settings.home).promote(version)
