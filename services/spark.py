"""What `features build --engine spark` runs in: PySpark and pyarrow beside what our own package needs."""

import tomllib
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

PACKAGES = (
    "pyspark>=4.0,<5",
    "pyarrow>=18",
    *tomllib.loads(_PROJECT.read_text())["project"]["dependencies"],
    *tomllib.loads(_PROJECT.read_text())["project"]["optional-dependencies"]["train"],
)
