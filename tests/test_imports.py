"""Imports follow the flow of a transaction: events -> features -> model -> policy -> record -> review -> serve.

One points the other way: a bundle of `model` carries thresholds and rules of `policy`, and checks them.
"""

import ast
import subprocess
import sys
from pathlib import Path

import sentinel

ROOT = Path(sentinel.__file__).parent
READS = {
    "errors": "",
    "durable": "",
    "retrying": "",
    "objects": "errors retrying",
    "telemetry": "errors",
    "child_process": "errors",
    "events": "errors durable",
    "environment": "errors",
    "config": "errors environment events",
    "homes": "errors",
    "features": "errors events",
    "policy": "errors events features",
    "model": "errors durable homes objects events features policy",
    "record": "errors durable retrying telemetry child_process homes objects events features model policy",
    "review": "errors child_process events model policy record",
    "learner": "errors",
    "detector": "errors events features policy learner",
    "__init__": "detector events features learner policy",
    "detectors": "__init__ errors detector",
    "simulate": "errors events",
    "inspect": "errors events",
    "train": "errors durable learner detector detectors events features model policy review inspect",
    "shadow": "errors child_process events features model policy record review",
    "serve": "errors durable telemetry child_process events features model policy record review shadow",
    "transport": "errors durable telemetry child_process config homes events features model policy record review shadow serve",
    "app": "errors telemetry child_process config homes events features model policy record review shadow serve transport",
    "front_app": "app config errors events homes model policy record serve telemetry transport",
    "commands": "errors durable objects child_process config homes learner detector detectors events features model policy record review simulate inspect train "
    "serve transport",
    "bench": "errors config commands learner detector events features model record simulate train transport",
    "cli": "errors telemetry environment config app front_app events model record transport commands bench",
    "__main__": "cli",
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
            names = [node.module if node.module != "sentinel" else f"sentinel.{_source(node)}"]
        found |= {name.split(".")[1] for name in names if name.startswith("sentinel.")}
    return found - {"__version__"}


def _source(node: ast.ImportFrom) -> str:
    """The part that `from sentinel import ...` reads: the version alone is none."""
    return "__version__" if [alias.name for alias in node.names] == ["__version__"] else "__init__"


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


def test_the_command_line_starts_without_what_only_some_commands_need():
    heavy = ["fastapi", "numba", "onnxruntime", "polars", "redis", "sqlalchemy", "uvicorn"]
    said = f"import sys, sentinel.cli; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stdout + done.stderr
