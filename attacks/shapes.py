"""Whatever the published API allows, and much that it does not: never a 5xx, an undocumented status, or a hang."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from attacks.arena import Arena, Target, made_key, run
from attacks.attack import Attack, Tried
from sentinel.detectors import load_detector
from sentinel.transport.access.scopes import Scope

_EXAMPLES = 20
"""Of each call and of each chain of calls, at scale 1. At 80 there are more than 20,000, in a quarter of an hour."""

_SECONDS = 240
"""What it may take at scale 1, and at each more of it."""

_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"
_VERSIONS = ("v1", "v2")


def schema(arena: Arena) -> Tried:
    """Schemathesis, from the OpenAPI document of the server itself, in all its phases, with keys of every scope."""
    folder = arena.folder / "shapes"
    folder.mkdir()
    home = _with_two_models(arena, folder)
    keys = {str(scope): made_key(home, scope) for scope in Scope}
    with arena.server(home=home) as target:
        (folder / "openapi.json").write_text(json.dumps(_deepened(target)))
        status, text = _schemathesis(folder, target, keys, arena.scale)
        broken = [] if status == 0 else [text[-6_000:]]
        if not target.is_well():
            broken.append("the server does not decide any more")
        if "Traceback" in target.log_text():
            broken.append(f"a traceback is in the log: {target.log_text()[-1_000:]}")
    counts = json.loads((folder / "counts.json").read_text())
    lost = counts["asked"] - sum(counts["answers"].values())
    if lost:
        broken.append(f"{lost} of {counts['asked']} calls were not answered within 10 s")
    return Tried(counts["asked"], broken, figures=_figures(counts["answers"]))


def _with_two_models(arena: Arena, folder: Path) -> Path:
    """A home folder of its own, with a second version to change to."""
    home = folder / "home"
    shutil.copytree(arena.home, home)
    run("train", "--detector", "payments", "--data", arena.folder / "history.csv", "--home", home)
    return home


def _schemathesis(folder: Path, target: Target, keys: dict[str, str], scale: int) -> tuple[int, str]:
    """Its exit code, and what it printed."""
    report, root = folder / "report.txt", Path(__file__).parents[1]
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(folder / "openapi.json"),
        "--url", f"http://127.0.0.1:{target.port}", "--max-examples", str(_EXAMPLES * scale), "--checks", _CHECKS,
        "--request-timeout", "10", "--generation-with-security-parameters", "false", "--continue-on-failure",
        "--generation-database", "none", "--suppress-health-check", "all", "--no-color", "--seed", "1",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "COLUMNS": "120",
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "SCHEMATHESIS_HOOKS": "attacks.shape_hooks",
        "ATTACK_KEYS": json.dumps(keys),
        "ATTACK_COUNTS": str(folder / "counts.json"),
    }
    with report.open("w") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, timeout=_SECONDS * scale, env=environment
        )
    return done.returncode, report.read_text()


def _deepened(target: Target) -> dict[str, Any]:
    """What the server says of its API, and what only a detector and a home folder know: fields, versions, repeats."""
    said: dict[str, Any] = target.ask("GET", "/openapi.json").body
    score = said["paths"]["/v1/score"]["post"]
    one = _transaction_schema()
    content = score["requestBody"]["content"]
    content["application/json"]["schema"] = {"oneOf": [one, {"type": "array", "items": one, "maxItems": 5}]}
    score["responses"]["200"].setdefault("links", {})["again"] = {
        "operationId": score["operationId"],
        "requestBody": "$request.body",
    }
    for path in ("/admin/reload", "/admin/ab/setup", "/admin/shadow/start"):
        body = said["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for name in ("version", "candidate_version"):
            if name in body["properties"]:
                body["properties"][name] = {"anyOf": [{"enum": list(_VERSIONS)}, body["properties"][name]]}
    return said


def _transaction_schema() -> dict[str, Any]:
    """The JSON schema of a payment; half of its times and amounts are ones that are taken."""
    made: dict[str, Any] = msgspec.json.schema(load_detector("payments").schema.wire_type)
    one: dict[str, Any] = made["$defs"]["Transaction"]
    fields = one["properties"]
    recent = {"type": "integer", "minimum": 1_700_000_000, "maximum": 1_750_000_000}
    fields["event_time"] = {"anyOf": [recent, fields["event_time"]]}
    fields["amount"] = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 10_000}, fields["amount"]]}
    return one


def _figures(answers: dict[str, int]) -> str:
    """How many were answered how."""
    by_status: Counter[str] = Counter()
    for name, n in answers.items():
        by_status[name.rsplit(" ", 1)[1]] += n
    classes = {digit: sum(n for status, n in by_status.items() if status[0] == digit) for digit in "2345"}
    shown = ", ".join(f"{n:,} {digit}xx" for digit, n in classes.items())
    return f"answered: {shown} ({', '.join(f'{status} {n:,}' for status, n in sorted(by_status.items()))})"


ATTACKS = [Attack("schema", "a status that nobody has thought of", schema)]
