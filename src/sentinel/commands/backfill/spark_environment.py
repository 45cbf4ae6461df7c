"""The same command in the environment that has PySpark, where this one has not."""

import importlib.util
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition

_SOURCES = Path(__file__).parents[3]


def has_spark() -> bool:
    """Whether PySpark and pyarrow are installed here."""
    return all(importlib.util.find_spec(name) is not None for name in ("pyspark", "pyarrow"))


def run_with_spark(settings: Settings, arguments: Sequence[str]) -> int:
    """Run `sentinel` with these arguments where PySpark is; its exit code. Its messages go to ours.

    Raises InvalidDefinition where no such environment is known.
    """
    python = settings.spark_python
    if python is None or not os.access(python, os.X_OK):
        raise InvalidDefinition(
            "PySpark is not installed here, and SENTINEL_SPARK_PYTHON has to be the python of an environment that has "
            "it, pyarrow, and what this package needs; `python -m services install spark` makes one, and says where"
        )
    environment = {**os.environ, "PYTHONPATH": str(_SOURCES)}
    command = [str(python), "-m", "sentinel", *arguments]
    with subprocess.Popen(command, env=environment) as run:  # noqa: S603
        try:
            return run.wait()
        except KeyboardInterrupt:
            run.wait()
            raise
