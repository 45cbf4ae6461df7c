"""Every figure of the README, one after the other; each prints one JSON object. About twenty minutes."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from report import conditions, data_file

HERE = Path(__file__).parent
HANDBOOK = ("--data", data_file("handbook_simulated.parquet"), "--json")


def sentinel(*arguments: object) -> dict[str, object]:
    """What a command prints as JSON."""
    command = [sys.executable, "-m", "sentinel", *map(str, arguments)]
    found: dict[str, object] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def xente() -> dict[str, object]:
    """Real payments: average precision of the preset's own training and of ranking by value, with intervals."""
    with tempfile.TemporaryDirectory() as home:
        given = ("--detector", "xente", "--data", data_file("xente_2018-11-15_to_2019-01-19.parquet"), "--home", home)
        sentinel("train", *given, "--quick", "--json")
        return sentinel("evaluate", *given, "--json")


def main() -> None:
    """Run them all."""
    figures: dict[str, Callable[[], dict[str, object]]] = {
        "handbook, 7 days": lambda: sentinel("benchmark", "handbook", *HANDBOOK),
        "handbook, all days": lambda: sentinel("benchmark", "handbook", "--train-days", "all", *HANDBOOK),
        "parity": lambda: sentinel("parity", "--detector", "handbook", *HANDBOOK),
        "xente": xente,
        "serving": lambda: sentinel("bench", "serve", "--json", "--plot", HERE.parent / "docs" / "latency.png"),
    }
    for name in (
        "feature_replay.py",
        "experiment_errors.py",
        "drift_alarms.py",
        "endurance.py",
        "overload.py",
        "two_workers.py",
        "suggested_detector.py",
    ):
        subprocess.run([sys.executable, HERE / name], check=True)
    for title, measure in figures.items():
        print(json.dumps({"benchmark": title, "conditions": conditions(), "figures": measure()}, indent=2))


if __name__ == "__main__":
    main()
