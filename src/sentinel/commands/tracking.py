"""Whether a training is told to MLflow, and where; and the aliases there that follow the log."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.commands.registry_of_home import registry_of
from sentinel.commands.terminal import Terminal
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, SentinelError
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.model.registry import Registry, manifest_sha256
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import HomeDeployment

LOCAL = "sqlite:///mlflow.db"
"""MLflow 3 opens no new folder of files (`file:./mlruns`) unless MLFLOW_ALLOW_FILE_STORE is set."""

EXPERIMENT = "sentinel"
_VARIABLE = "MLFLOW_TRACKING_URI"
_terminal = Terminal()
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # seven would have a training wait for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # what is for machines is there
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


class Tracking(NamedTuple):
    """Where trainings are told: the address of MLflow, and the experiment."""

    uri: str
    experiment: str
    by_flag: bool = True


def tracking_of(
    wanted: bool | None, uri: str | None, experiment: str | None, environment: Mapping[str, str] = os.environ
) -> Tracking | None:
    """Where to tell, or None for nowhere. The first of these decides: `--no-mlflow`, `--mlflow-tracking-uri`,
    MLFLOW_TRACKING_URI, and a file here with `--mlflow`.

    >>> tracking_of(None, None, None, {}), tracking_of(True, None, "loans", {})
    (None, Tracking(uri='sqlite:///mlflow.db', experiment='loans', by_flag=True))
    """  # noqa: D205 - the order is the summary
    if wanted is False:
        return None
    where = uri or environment.get(_VARIABLE, "").strip() or (LOCAL if wanted else None)
    by_flag = bool(wanted or uri or experiment)
    return None if where is None else Tracking(where, experiment or EXPERIMENT, by_flag)


def ready_to_track(tracking: Tracking | None) -> Tracking | None:
    """The same with MLflow's client loaded, before anybody waits for a model.

    Raises InvalidDefinition where it is not installed and a flag asked for it; where only a variable did, that is said
    and nothing will be told.
    """
    if tracking is None:
        return None
    try:
        load_client()
    except InvalidDefinition as error:
        if tracking.by_flag:
            raise
        _terminal.warn("MLflow will not be told", [str(error)])
        return None
    return tracking


def load_client() -> None:
    """Have MLflow's client ready. Raises InvalidDefinition where it is not installed."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        import sentinel.train.mlflow_tracking  # noqa: F401 - it takes seconds: only who wants it waits
    except ModuleNotFoundError as error:
        raise InvalidDefinition(
            f"{error.name} is not installed, which telling MLflow needs: pip install 'sentinel-fraud[mlflow]'"
        ) from error


def holders_of(deployment: Deployment) -> dict[str, str]:
    """The versions by the aliases that they have: what the log says is applied, and nothing else.

    >>> holders_of(Deployment(champion="v3", shadow="v4"))
    {'champion': 'v3', 'shadow': 'v4'}
    """
    running = None if deployment.experiment is None else deployment.experiment.version
    named = {"champion": deployment.champion, "challenger": running, "shadow": deployment.shadow}
    return {alias: version for alias, version in named.items() if version is not None}


class Drawn:
    """The scores and labels of a test part, to be drawn once its thresholds are known."""

    def keep(self, scores: NDArray[np.float32], labels: NDArray[np.int8]) -> None:
        """Remember them."""
        self.scores, self.labels = scores, labels

    def plots(self, thresholds: Mapping[str, float | None]) -> dict[str, bytes]:
        """PNG files by name."""
        from sentinel.train.plots import plots_of  # matplotlib: only who draws waits for it

        return plots_of(self.scores, self.labels, thresholds)


def track(
    tracking: Tracking, manifest: Manifest, registry: Registry, deployment: Deployment, data_file: str, drawn: Drawn
) -> None:
    """Tell MLflow of a training, and say where; where it cannot be told, that is said instead."""
    from sentinel.train.mlflow_tracking import track_training

    try:
        folder = registry.path(manifest.version)
        plots = drawn.plots(manifest.thresholds)
        told = track_training(tracking.uri, tracking.experiment, manifest, folder, data_file, plots)
        copy_aliases(tracking.uri, manifest.detector, deployment, registry)
    except SentinelError as error:
        _terminal.warn("MLflow was not told", [f"{error}; the model is kept all the same"])
        return
    _terminal.print(f"MLflow at {told.uri} has it as run {told.run_id}, {told.model} version {told.model_version}")


def copy_aliases(uri: str, detector: str, deployment: Deployment, registry: Registry) -> dict[str, str]:
    """Have MLflow's aliases of a detector follow the log; its versions there by alias.

    Raises InvalidDefinition, StorageProblem, BundleProblem.
    """
    load_client()
    from sentinel.train.mlflow_tracking import push_aliases

    holders = holders_of(deployment).items()
    return push_aliases(uri, detector, {alias: manifest_sha256(registry.path(one)) for alias, one in holders})


def follow_promotion(settings: Settings, version: str) -> None:
    """After a promotion: MLflow's aliases follow, where MLFLOW_TRACKING_URI is set; else nothing is done."""
    tracking = tracking_of(None, None, None)
    if tracking is None:
        return
    registry = registry_of(settings)
    try:
        detector = read_manifest(registry.path(version)).detector
        copy_aliases(tracking.uri, detector, HomeDeployment(settings.home).read(), registry)
    except SentinelError as error:
        _terminal.warn("MLflow's aliases are as they were", [str(error)])
