"""What the examples in the docstrings may use without an import."""

import importlib.util
from datetime import datetime
from typing import Any

import pytest

from sentinel.features.conditions import col
from sentinel.features.example import example

collect_ignore = ["sentinel/bench/quix/job.py"]  # it runs in an environment of its own
if importlib.util.find_spec("pyflink") is None:
    collect_ignore += [f"sentinel/transport/flink/{name}.py" for name in ("__main__", "job", "operators")]
if importlib.util.find_spec("pyspark") is None:
    collect_ignore.append("sentinel/commands/backfill/on_spark.py")


@pytest.fixture(autouse=True)
def _namespace(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["example"], doctest_namespace["col"] = example, col
    doctest_namespace["datetime"] = datetime
