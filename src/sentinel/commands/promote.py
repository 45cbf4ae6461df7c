"""Promoting a version from the command line: the server that owns the log is asked, or the log is written to."""

import json
import ssl
import urllib.error
import urllib.request
from contextlib import closing

from sentinel.config import Settings
from sentinel.errors import DeploymentRefused, StorageProblem
from sentinel.model.bundle import read_manifest
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.feature_state import check_reads
from sentinel.record.lock import owner_of
from sentinel.record.log_reader import FileLogReader

_PATIENCE_S = 60.0


def promote_version(settings: Settings, version: str) -> None:
    """Make a version the champion. Raises DeploymentRefused when the server that runs says no.

    Raises BundleProblem for a version that is not there, UnknownVersion for a model that cannot read the transactions
    of the log.
    """
    manifest = read_manifest(Registry(settings.models).path(version))
    folder = log_folder(settings.home)
    owner = owner_of(folder)
    if owner is None:
        if folder.exists():
            with closing(FileLogReader(folder)) as log:
                check_reads(log, manifest)
        HomeDeployment(settings.home).promote(version)
        return
    pid, url = owner
    if not url:
        raise StorageProblem(f"process {pid} has just begun to write to {settings.home}; retry in a moment")
    headers = {"content-type": "application/json"}
    if settings.admin_key:
        headers["authorization"] = f"Bearer {settings.admin_key}"
    body = json.dumps({"version": version}).encode()
    asked = urllib.request.Request(f"{url}/admin/reload", body, headers)  # noqa: S310 - its own server's
    try:
        with urllib.request.urlopen(asked, timeout=_PATIENCE_S, context=_trust(settings)) as answer:  # noqa: S310
            answer.read()
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        raise DeploymentRefused(f"the server at {url} says {error.code}: {said[:500]}") from None
    except OSError as error:
        raise StorageProblem(
            f"process {pid} owns the log and does not answer at {url} ({error}); retry, or stop it"
        ) from None


def _trust(settings: Settings) -> ssl.SSLContext | None:
    """Trust the server's own certificate, whatever name it bears: the lock of its log says where it is."""
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(cafile=settings.tls_certificate)
    context.check_hostname = False
    return context
