"""Prefect 3: the server that keeps flows and their runs, with its screen, in SQLite in its folder."""

from services.answering import HOST, page_opens
from services.service import Place, Service, Started


def _start(place: Place) -> Started:
    url = f"http://{HOST}:{place.port}"
    return Started(
        command=(
            place.environment / "bin" / "prefect", "server", "start", "--host", HOST, "--port", str(place.port),
        ),
        ready=lambda: page_opens(f"{url}/api/health"),
        url=url,
        environment={
            "PREFECT_HOME": str(place.folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
            "PREFECT_UI_API_URL": f"{url}/api",
        },
        client_environment={"PREFECT_API_URL": f"{url}/api"},
    )  # fmt: skip


SERVICE = Service(
    name="prefect", about="Prefect 3", packages=("prefect>=3.4,<4",), start=_start, keeps="flows and their runs",
    patience_s=240.0,
)  # fmt: skip
