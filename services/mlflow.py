"""MLflow's tracking server: runs in SQLite in its folder, artifacts in the bucket `mlflow` of the service s3."""

import urllib.error
import urllib.request

from services.answering import HOST, page_opens
from services.service import Place, Service, Started

_BUCKET = "mlflow"
_QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # two more processes, for nothing that is used here
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def _start(place: Place) -> Started:
    url, s3 = f"http://{HOST}:{place.port}", place.needed["s3"]
    environment = {**_QUIET, **s3.environment, "MLFLOW_S3_ENDPOINT_URL": s3.url}
    _make_bucket(s3.url)
    return Started(
        command=(
            place.environment / "bin" / "mlflow", "server", "--host", HOST, "--port", str(place.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{place.folder / 'mlflow.db'}",
            "--serve-artifacts", "--artifacts-destination", f"s3://{_BUCKET}/",
        ),
        ready=lambda: page_opens(f"{url}/health"),
        url=url,
        environment=environment,
        client_environment={"MLFLOW_TRACKING_URI": url},
    )  # fmt: skip


def _make_bucket(url: str) -> None:
    """No signature: moto asks for none; a bucket that is there already is answered with 200 or 409."""
    try:
        urllib.request.urlopen(urllib.request.Request(f"{url}/{_BUCKET}", method="PUT"), timeout=10).close()
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise


SERVICE = Service(
    name="mlflow",
    about="MLflow 3",
    packages=("mlflow>=3.4,<4", "boto3"),
    start=_start,
    needs=("s3",),
    keeps="runs and registered models; its artifacts are in s3",
    patience_s=180.0,
)
