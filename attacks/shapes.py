"""Whatever the published API allows, and much that it does not: never a 5xx, an undocumented status, or a hang."""

import os
import re
import subprocess
import sys

from attacks.arena import Arena
from attacks.attack import Attack, Tried

_CASES = 60
"""A call, at scale 1."""


def schema(arena: Arena) -> Tried:
    """Schemathesis, from the OpenAPI document of the server itself, in all its phases."""
    report = arena.folder / "schemathesis.txt"
    with arena.server() as target:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{target.port}/openapi.json",
            "--max-examples", str(_CASES * arena.scale), "--checks", "not_a_server_error,status_code_conformance",
            "--request-timeout", "10", "--generation-database", "none", "--no-color", "--seed", "1",
        ]  # fmt: skip
        with report.open("w") as output:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=arena.folder, timeout=1200 * arena.scale,
                env={**os.environ, "COLUMNS": "120"},
            )  # fmt: skip
        text = report.read_text()
        found = [int(one.replace(",", "")) for one in re.findall(r"([\d,]+) generated", text)]
        broken = [] if done.returncode == 0 else [text[-6_000:]]
        if not target.is_well():
            broken.append("the server does not decide any more")
    return Tried(max(found, default=0), broken)


ATTACKS = [Attack("schema", "a status that nobody has thought of", schema)]
