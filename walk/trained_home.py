"""A home folder with a model of simulated payments, and what its log has: for drills that destroy it."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from sentinel.record.entries import decision_rows
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind

_LONGEST_S = 900.0


def run(*arguments: object, program: Path | None = None) -> Any:
    """Run a command of Sentinel, or of that in another folder of sources; its JSON. A drill ends where it fails."""
    command = [sys.executable, "-m", "sentinel", *map(str, arguments), "--json"]
    environment = environment_of(program)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
    if done.returncode:
        sys.exit(f"sentinel {' '.join(map(str, arguments))} ends with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def environment_of(program: Path | None) -> dict[str, str]:
    """The environment of a process that runs the sources in a folder, or these here."""
    return dict(os.environ) if program is None else {**os.environ, "PYTHONPATH": str(program)}


def trained_home(folder: Path, program: Path | None = None) -> Path:
    """Simulate payments and train on them."""
    data, home = folder / "payments.parquet", folder / "home"
    run("simulate", "--out", data, "--transactions", 20_000, "--seed", 7, program=program)
    run("train", "--data", data, "--events-file", "none", "--home", home, program=program)
    return home


def decided_in(home: Path, before: int | None = None) -> list[tuple[str, str, float]]:
    """Id, decision and probability of every decision in the log, in its order, up to a position."""
    found = []
    with closing(open_log(home)) as log:
        for page in Follower(log, log.first).rest():
            for record in page:
                if record.kind == Kind.DECIDED:
                    found += [
                        (row.transaction_id, row.decision, row.fraud_probability)
                        for row in decision_rows(record)
                        if before is None or row.position < before
                    ]
    return found
