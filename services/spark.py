"""What `features build --engine spark` runs in: PySpark beside what our own package needs; Java is the machine's.

The kernel is compiled by the same Numba as here, so what is compiled already is used.
"""

import tomllib
from importlib.metadata import version
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

PACKAGES = (
    "pyspark>=4.0,<5",
    "pandas>=2.2,<3",  # PySpark asks for it wherever Arrow is
    "pyarrow>=18",
    *(f"{name}=={version(name)}" for name in ("llvmlite", "numba", "numpy", "polars")),
    *tomllib.loads(_PROJECT.read_text())["project"]["dependencies"],
)
