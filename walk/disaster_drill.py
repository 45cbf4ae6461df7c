"""The drill of a lost machine: load, backup, more load, the home folder is destroyed, restore, start, compare.

With a home of its own in a temporary folder. Prints what was done and how long it took, and ends with exit code 1 where
anything that the backup covers is lost, different or there twice.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from paced_load import PacedLoad
from sentinel.commands.server_process import ServerProcess, free_port
from trained_home import decided_in, run, trained_home

_HOST = "127.0.0.1"
_UNTIMED = {"SENTINEL_DEADLINE_MS": "5000", "SENTINEL_CIRCUIT_THRESHOLD_MS": "5000"}


def main() -> int:
    """Exit code 1 where the drill has found a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-second", type=int, default=1_000, help="transactions")
    parser.add_argument("--seconds", type=float, default=8.0, help="of load before and after the backup, each")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-drill-") as name:
        facts = _drill(Path(name), given.per_second, given.seconds)
    bad = facts["lost_of_the_backup"] + facts["different"] + facts["twice"]
    if given.json:
        print(json.dumps(facts))
    else:
        print(
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
            f"Python {platform.python_version()}"
        )
        for what, figure in facts.items():
            print(f"{what.replace('_', ' '):32}{figure:>14,}")
    return 1 if bad else 0


def _drill(folder: Path, per_second: int, seconds: float) -> dict[str, float]:
    home, backup, secrets = trained_home(folder), folder / "backup", folder / "secrets"
    server = ServerProcess(home, _HOST, free_port(_HOST), environment=_UNTIMED)
    server.start()
    load = PacedLoad(lambda: server.port, per_second)
    load.start()
    try:
        time.sleep(seconds)
        begun = time.monotonic()
        covered = run("backup", "create", backup, "--secrets", secrets, "--home", home)["homes"][0]["end"]
        backup_s = time.monotonic() - begun
        time.sleep(seconds)
    finally:
        load.end()
        server.kill()
    before = decided_in(home)
    of_backup = decided_in(home, covered)
    shutil.rmtree(home)
    begun = time.monotonic()
    run("backup", "restore", backup, "--secrets", secrets, "--home", home)
    restore_s = time.monotonic() - begun
    again = ServerProcess(home, _HOST, free_port(_HOST), environment=_UNTIMED)
    start_s = again.start()
    try:
        after = PacedLoad(lambda: again.port, per_second)  # the same ids once more, from the first on
        after.begun_s = load.begun_s
        after.start()
        time.sleep(seconds)
        after.end()
    finally:
        again.stop()
    stored, kept = decided_in(home), {one[0]: one[1:] for one in of_backup}
    now = {one[0]: one[1:] for one in stored}
    return {
        "transactions_a_second": round(len(load.answers) / load.took_s),
        "answered": len(load.answers),
        "of_these_in_the_log": len({one[0] for one in before} & load.answers.keys()),
        "covered_by_the_backup": len(of_backup),
        "decided_after_the_backup": len(before) - len(of_backup),
        "sent_again_after_the_restore": len(after.answers),
        "lost_of_the_backup": len(kept.keys() - now.keys()) + len(load.answers.keys() - {one[0] for one in before}),
        "different": sum(now.get(one) != kept[one] for one in kept.keys() & now.keys())
        + sum(after.answers[one] != kept[one] for one in kept.keys() & after.answers.keys()),
        "twice": len(stored) - len(now),
        "backup_seconds": round(backup_s, 1),
        "backup_bytes": sum(path.stat().st_size for path in backup.rglob("*") if path.is_file()),
        "restore_seconds": round(restore_s, 1),
        "start_seconds": round(start_s, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
