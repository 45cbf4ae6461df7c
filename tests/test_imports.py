"""Imports follow the flow of a transaction: events -> features -> model -> policy -> record -> review -> serve."""

import ast
from pathlib import Path

import sentinel

ROOT = Path(sentinel.__file__).parent
READS = {
    "errors": "",
    "telemetry": "errors",
    "config": "errors",
    "events": "errors",
    "features": "errors events",
    "model": "errors features",
    "policy": "errors",
    "record": "errors events features model",
    "review": "errors events model policy record",
    "detector": "errors events features policy",
    "detectors": "errors detector events features policy",
    "simulate": "errors events",
    "train": "errors detector detectors events features model policy review",
    "shadow": "errors events features model policy record review",
    "serve": "errors telemetry events features model policy record review shadow",
    "transport": "errors telemetry config events model policy serve",
    "app": "errors telemetry config events features model policy record serve transport",
    "commands": "errors config detector detectors events features model policy record review simulate train transport",
    "bench": "errors commands detector events features model policy record simulate train transport",
    "cli": "errors telemetry config app model policy commands bench",
    "__main__": "cli",
    "__init__": "",
}
"""Exactly what each part imports, in the order in which it may be read: every part imports from those above it."""


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


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_part_imports_exactly_what_it_needs():
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        found.setdefault(part_of(path), set()).update(imported(path) - {part_of(path)})
    allowed = {part: set(names.split()) for part, names in READS.items()}
    assert found == allowed


def test_imports_point_to_what_stands_above():
    above: set[str] = set()
    for part, names in READS.items():
        assert set(names.split()) <= above, f"{part} imports what stands below it"
        above.add(part)
