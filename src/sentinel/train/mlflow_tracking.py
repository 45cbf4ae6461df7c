"""What MLflow is told of a training, and which of its registered versions decides: a copy for people, never read back.

Told are parameters, metrics, plots, the card, and the files of the bundle but for the features' state, which is the
history of every key. Neither rows nor ids, and of the data's address nothing but the file's name.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from sentinel.errors import StorageProblem
from sentinel.model.bundle import STATE_FILE, Manifest
from sentinel.model.registry import manifest_sha256

BUNDLE = "model_bundle"
ALIASES = ("champion", "challenger", "shadow")
_VERSION_TAG, _MANIFEST_TAG = "sentinel.version", "sentinel.manifest_sha256"
_LONGEST_VALUE = 6000


class Tracked(msgspec.Struct, frozen=True):
    """Where a training stands in MLflow: its run, and the registered model with the version of that."""

    uri: str
    run_id: str
    model: str
    model_version: str


def track_training(
    uri: str, experiment: str, manifest: Manifest, folder: Path, data_file: str, plots: Mapping[str, bytes]
) -> Tracked:
    """Make a run of a training, with the bundle of a folder, and register it. Raises StorageProblem.

    A run that could not be finished is marked as failed.
    """
    with _asked(uri):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        run_id = str(client.create_run(experiment_id, run_name=f"{manifest.detector} {manifest.version}").info.run_id)
        try:
            client.log_batch(run_id, _metrics(manifest), _params(manifest, data_file), _tags(manifest, folder))
            _log_files(client, run_id, folder, plots)
            version = _register(client, run_id, manifest, folder)
        except BaseException:
            _end(client, run_id, RunStatus.FAILED)
            raise
        _end(client, run_id, RunStatus.FINISHED)
    return Tracked(uri, run_id, manifest.detector, version)


def push_aliases(uri: str, detector: str, holders: Mapping[str, str]) -> dict[str, str]:
    """Give the aliases to registered versions of a detector; `holders` are SHA-256 of manifests by alias.

    An alias that nobody holds is taken away; a holder that is not registered there is left out. Returns the versions of
    the registered model by alias. Raises StorageProblem.
    """
    pushed = {}
    with _asked(uri):
        client = MlflowClient(tracking_uri=uri)
        found = client.search_model_versions(f"name={_quoted(detector)}")
        registered = {one.tags.get(_MANIFEST_TAG): str(one.version) for one in found}
        for alias in ALIASES:
            version = registered.get(holders.get(alias, ""))
            if version is not None:
                client.set_registered_model_alias(detector, alias, version)
                pushed[alias] = version
            elif registered:
                client.delete_registered_model_alias(detector, alias)
    return pushed


def _metrics(manifest: Manifest) -> list[Metric]:
    numbers = {**_numbers(manifest.metrics), "certificate.largest_difference": manifest.certificate.largest}
    return [Metric(name, value, 0, 0) for name, value in numbers.items()]  # of the run: at no time, of no step


def _numbers(given: Mapping[str, Any], under: str = "") -> dict[str, float]:
    """Every finite number under its path, as `review.recall`; the `value` of a figure has the figure's own name."""
    found: dict[str, float] = {}
    for name, value in given.items():
        path = under if name == "value" and under else f"{under}.{name}" if under else name
        if isinstance(value, dict):
            found |= _numbers(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[path] = float(value)
    return found


def _params(manifest: Manifest, data_file: str) -> list[Param]:
    given = {
        "detector": manifest.detector,
        "data_file": data_file,
        "transactions": manifest.history.transactions,
        "frauds": manifest.history.frauds,
        "features": len(manifest.plan.features),
        **_flat(manifest.training),
        **{f"threshold.{name}": value for name, value in manifest.thresholds.items()},
    }
    return [Param(name, str(value)[:_LONGEST_VALUE]) for name, value in given.items()]


def _flat(given: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        found |= _flat(value, f"{under}{name}.") if isinstance(value, dict) else {f"{under}{name}": value}
    return found


def _tags(manifest: Manifest, folder: Path) -> list[RunTag]:
    lineage = msgspec.to_builtins(manifest.lineage)
    told = {
        "domain": "sentinel",
        _VERSION_TAG: manifest.version,
        _MANIFEST_TAG: manifest_sha256(folder),
        "sentinel.history_sha256": manifest.history.sha256,
        "sentinel.plan_sha256": manifest.plan_sha256,
        "sentinel.git_commit": manifest.git_commit,
        **{f"sentinel.{name}".replace("sentinel.github_", "github."): value for name, value in lineage.items()},
    }
    return [RunTag(name, value) for name, value in told.items() if value]


def _log_files(client: MlflowClient, run_id: str, folder: Path, plots: Mapping[str, bytes]) -> None:
    for path in sorted(folder.iterdir()):
        if path.name != STATE_FILE:
            client.log_artifact(run_id, str(path), BUNDLE)
    with tempfile.TemporaryDirectory() as drawn:
        for name, data in plots.items():
            (Path(drawn) / name).write_bytes(data)
        client.log_artifacts(run_id, drawn, "plots")


def _register(client: MlflowClient, run_id: str, manifest: Manifest, folder: Path) -> str:
    if not client.search_registered_models(f"name={_quoted(manifest.detector)}"):
        client.create_registered_model(manifest.detector)
    tags = {_VERSION_TAG: manifest.version, _MANIFEST_TAG: manifest_sha256(folder)}
    source = f"runs:/{run_id}/{BUNDLE}"
    registered = client.create_model_version(manifest.detector, source, run_id, tags, await_creation_for=0)
    return str(registered.version)


def _end(client: MlflowClient, run_id: str, status: int) -> None:
    client.set_terminated(run_id, RunStatus.to_string(status))


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "\\'") + "'"


@contextmanager
def _asked(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:  # requests' errors are OSErrors
        said = " ".join(str(error).split())[:300]
        raise StorageProblem(f"MLflow at {uri} cannot be told: {said}") from error
