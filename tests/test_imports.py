"""Imports point to the left: errors, telemetry <- events <- features <- model <- policy <- review <- the rest."""

import ast
from pathlib import Path

import sentinel

ROOT = Path(sentinel.__file__).parent
READS = {
    "errors": set(),
    "telemetry": set(),
    "config": {"errors"},
    "events": {"errors"},
    "features": {"errors", "events"},
    "model": {"errors", "events", "features"},
    "policy": {"errors", "events", "features", "model"},
    "review": {"errors", "telemetry", "events", "features", "model", "policy"},
    "detector": {"errors", "events", "features", "policy"},
    "detectors": {"errors", "detector", "events", "features", "policy"},
    "train": {"errors", "telemetry", "events", "features", "model", "policy", "review", "detector", "detectors"},
    "engine": {"errors", "telemetry", "events", "features", "model", "policy", "review"},
    "worker": {"errors", "telemetry", "engine"},
    "transport": {"errors", "telemetry", "config", "events", "features", "model", "policy", "review", "engine", "worker"},
    "app": {"errors", "config", "events", "features", "model", "review", "engine", "worker", "transport"},
    "commands": {
        "errors", "config", "events", "features", "model", "policy", "review", "detector", "detectors", "train",
        "transport",
    },
    "cli": {"errors", "telemetry", "config", "app", "model", "commands"},
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
