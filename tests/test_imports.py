"""Imports point to the left: errors, telemetry <- events <- features <- model <- policy <- review <- the rest."""

import ast
from pathlib import Path

import sentinel

ROOT = Path(sentinel.__file__).parent
FLOW = {"errors", "telemetry", "events", "features", "model", "policy", "review"}
READS = {
    "errors": set(),
    "telemetry": {"errors"},
    "config": {"errors"},
    "events": {"errors"},
    "features": {"errors", "events"},
    "model": {"errors", "events", "features"},
    "policy": {"errors", "events", "features", "model"},
    "review": FLOW - {"review"},
    "detector": {"errors", "events", "features", "policy"},
    "detectors": {"errors", "detector", "events", "features", "policy"},
    "train": FLOW | {"detector", "detectors"},
    "vectors": {"errors", "events", "features"},
    "lineup": FLOW | {"vectors"},
    "counting": {"policy", "telemetry"},
    "decisions": FLOW - {"telemetry"},
    "sifting": {"errors", "review", "decisions"},
    "engine": FLOW | {"lineup", "counting", "decisions", "sifting"},
    "worker": {"errors", "telemetry", "decisions", "engine"},
    "score_cache": {"features"},
    "predictor": FLOW | {"lineup", "counting", "score_cache"},
    "shadow": FLOW | {"config"},
    "rollout": FLOW | {"lineup", "engine", "worker", "predictor"},
    "watch": FLOW | {"lineup", "worker", "predictor", "rollout", "shadow"},
    "transport": FLOW | {"config", "lineup", "decisions", "engine", "worker", "predictor", "watch"},
    "app": FLOW | {"config", "lineup", "engine", "worker", "predictor", "score_cache", "rollout", "watch", "transport"},
    "commands": FLOW | {"config", "detector", "detectors", "train", "transport"},
    "cli": {"errors", "telemetry", "config", "app", "model", "policy", "commands"},
    "__main__": {"cli"},
    "__init__": set(),
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """The parts of Sentinel that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "sentinel" else [f"sentinel.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("sentinel.")}
    return found - {"__version__"}


def test_every_import_points_left():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        wrong += [f"{path.relative_to(ROOT)} imports {one}" for one in imported(path) - READS[part] - {part}]
    assert not wrong, wrong


def test_the_arrows_form_no_circle():
    settled: set[str] = set()
    while len(settled) < len(READS):
        free = {part for part, reads in READS.items() if part not in settled and reads <= settled}
        assert free, f"a circle among {READS.keys() - settled}"
        settled |= free
