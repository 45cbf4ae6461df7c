"""`sentinel feast apply` and `sentinel feast materialize`: done by Feast, in the environment that has it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sentinel.commands.feast import in_feast
from sentinel.commands.feast.export import FACTS
from sentinel.config import Settings
from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.record.online.layout import NEWER_WINS

_SAID = 800


def run_in_feast(settings: Settings, action: str, folder: Path) -> dict[str, Any]:
    """Apply or materialize a repository; what was done. Raises InvalidDefinition without Feast, else DataProblem."""
    if not (folder / FACTS).exists():
        raise DataProblem(f"{folder} is no repository that `sentinel feast export` wrote: {FACTS} is missing")
    python = _python_with_feast(settings.feast_python)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603
        [python, in_feast.__file__, action, str(folder), str(NEWER_WINS)],
        capture_output=True, text=True, check=False,
        env=environment | {"FEAST_USAGE": "False", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise DataProblem(f"Feast could not {action} {folder}: {(lines or ['it said nothing'])[-1][-_SAID:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _python_with_feast(given: Path | None) -> str:
    if given is not None:
        if not os.access(given, os.X_OK):
            raise InvalidDefinition(f"feast_python is {given}, which cannot be run; name the python of an environment")
        return str(given)
    if importlib.util.find_spec("feast") is None:
        raise InvalidDefinition(
            "Feast is not installed here; make an environment with `feast[redis]`, and name its python in "
            "SENTINEL_FEAST_PYTHON"
        )
    return sys.executable
