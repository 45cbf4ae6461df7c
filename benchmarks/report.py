"""What every figure is printed with: when, where, with what."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("numba", "numpy", "onnxruntime", "xgboost-cpu", "msgspec", "uvloop", "sqlalchemy")
DATA = Path(os.environ.get("SENTINEL_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))


def conditions() -> dict[str, Any]:
    """Date, machine and versions."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores of {cpu}, Linux {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def publish(name: str, method: str, figures: dict[str, Any]) -> None:
    """Print a benchmark's figures as one JSON object."""
    found = {"benchmark": name, "method": method, "conditions": conditions(), "figures": figures}
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def data_file(name: str) -> Path:
    """A file of the public benchmark data; ends the script with what to do when it is not there."""
    path = DATA / name
    if not path.exists():
        sys.exit(f"{path} is not there; set SENTINEL_DATA_DIR to the folder of the public benchmark data")
    return path
