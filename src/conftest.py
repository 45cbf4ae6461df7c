"""What the examples in the docstrings may use without an import."""

from datetime import datetime
from typing import Any

import pytest

from sentinel.features.conditions import col
from sentinel.features.example import example


@pytest.fixture(autouse=True)
def _namespace(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["example"], doctest_namespace["col"] = example, col
    doctest_namespace["datetime"] = datetime
