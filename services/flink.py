"""What a job of Apache Flink runs in: PyFlink beside what our own package needs, and the jars that reach Kafka.

The kernel is compiled by the same Numba as here, so what is compiled already is used.
"""

import tomllib
from importlib.metadata import version
from pathlib import Path

from services import jars

_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

PACKAGES = (
    "apache-flink>=2.3,<2.4",
    "pyarrow>=16.1,<21",  # PyFlink would be content with one that does not know NumPy 2
    "redis>=5",  # what writes the profiles that wide fronts read; the Beam that PyFlink brings wants one below 6
    *(f"{name}=={version(name)}" for name in ("llvmlite", "numba")),
    *tomllib.loads(_PROJECT.read_text())["project"]["dependencies"],
)
JARS = jars.listed(Path(__file__).with_name("flink_jars.sha256"))
