"""Generate, train, gate, evaluate: the chain that every model of ours has gone through, on simulated payments.

Two versions are trained under a promotion policy and held against it, the second beside the first on the same rows.
Then the gate says no by a policy that nobody can meet, and 2 about a version that is not there. It ends
with an error where any of this is not so.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

POLICY = """\
min_pr_auc_val: 0.30
min_roc_auc_val: 0.82
min_frauds: 20
max_calibration_error: 0.05
max_latency_us: 1000
require_certificate: true
"""
BESIDE_CHAMPION = "not_worse_than_champion: true\n"
OUT_OF_REACH = "min_pr_auc_val: 0.9999\n"
TRANSACTIONS = "40000"
_LONGEST_S = 600.0


def main() -> None:
    """Walk."""
    with tempfile.TemporaryDirectory(prefix="sentinel-gate-") as name:
        folder = Path(name)
        home, data = folder / "home", folder / "payments.parquet"
        given = ("--data", str(data), "--events-file", "none")
        _run(home, "simulate", "--out", str(data), "--transactions", TRANSACTIONS, "--seed", "7")
        home.mkdir()
        policy = home / "promotion_policy.yaml"
        policy.write_text(POLICY)
        trained = json.loads(_run(home, "train", *given, "--gate", "--json").stdout)
        _expect(trained["champion"] == "v1" and trained["gate"]["failures"] == [], f"v1 passes, and not {trained}")
        policy.write_text(POLICY + BESIDE_CHAMPION)
        again = json.loads(_run(home, "train", *given, "--gate", "--json").stdout)
        _expect(again["gate"]["champion"] == "v1", f"v2 is compared with v1, and not {again['gate']}")
        _run(home, "models", "gate", "v2", *given)
        _run(home, "models", "promote", "v2")
        _run(home, "models", "compare", "v1", "v2", *given)
        _run(home, "evaluate", "v2", *given, "--by", "channel")
        policy.write_text(OUT_OF_REACH)
        _run(home, "models", "gate", "v2", ends_with=1)
        _run(home, "models", "promote", "v1", ends_with=1)
        _run(home, "models", "gate", "v9", ends_with=2)
        _run(home, "models", "rollback")


def _run(home: Path, *arguments: str, ends_with: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command; end the walk where it does not end as it should."""
    command = [sys.executable, "-m", "sentinel", *arguments]
    environment = {**os.environ, "SENTINEL_HOME": str(home), "COLUMNS": "120"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
    sys.stdout.write(f"\n$ sentinel {' '.join(arguments)}\n{done.stderr}")
    sys.stdout.flush()
    _expect(done.returncode == ends_with, f"it ends with {done.returncode}, not {ends_with}: {done.stdout[-2000:]}")
    return done


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(otherwise)


if __name__ == "__main__":
    main()
