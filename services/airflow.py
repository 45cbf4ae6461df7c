"""Airflow 3: API server with its screen, scheduler and triggerer; the DAGs are those of deploy/airflow."""

from pathlib import Path

from services.answering import HOST, page_opens
from services.service import Place, Service, Started

_DAGS = Path(__file__).resolve().parent.parent / "deploy" / "airflow"


def _start(place: Place) -> Started:
    url = f"http://{HOST}:{place.port}"
    return Started(
        command=(place.environment / "bin" / "airflow", "standalone"),
        ready=lambda: page_opens(f"{url}/api/v2/monitor/health"),
        url=url,
        environment={
            "AIRFLOW_HOME": str(place.folder), "AIRFLOW__CORE__DAGS_FOLDER": str(_DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__API__HOST": HOST, "AIRFLOW__API__PORT": str(place.port),
            "AIRFLOW__API__BASE_URL": url, "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",  # it listens on loopback only
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False", "SCARF_ANALYTICS": "false",
            "PATH": f"{place.environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        },
        client_environment={"AIRFLOW_HOME": str(place.folder), "AIRFLOW__CORE__DAGS_FOLDER": str(_DAGS)},
    )  # fmt: skip


SERVICE = Service(
    name="airflow", about="Airflow 3", packages=("apache-airflow>=3.1,<4",), start=_start,
    keeps="runs of DAGs, in SQLite", patience_s=300.0,
)  # fmt: skip
