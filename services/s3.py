"""S3 by moto's server: conditional writes and multipart uploads as S3 has them.

It takes any secret, so nothing about permissions is shown by it, and it keeps its objects in memory. A server that
checks signatures (versitygw) has no wheel, and takes five minutes to build.
"""

from services.answering import HOST, page_opens
from services.service import Place, Service, Started

_USER, _REGION = "sentinel", "us-east-1"


def _start(place: Place) -> Started:
    url = f"http://{HOST}:{place.port}"
    return Started(
        command=(place.environment / "bin" / "moto_server", "-H", HOST, "-p", str(place.port)),
        ready=lambda: page_opens(f"{url}/moto-api/"),
        url=url,
        user=_USER,
        has_password=True,
        client_environment={
            "AWS_ENDPOINT_URL": url, "AWS_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": _USER, "AWS_SECRET_ACCESS_KEY": place.password(),
        },
    )  # fmt: skip


SERVICE = Service(
    name="s3",
    about="S3 (moto)",
    packages=("moto[server]>=5.2,<6",),
    start=_start,
    keeps="nothing: its objects are in memory",
)
