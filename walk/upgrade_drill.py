"""An upgrade under load: an older version of the history serves, and this one takes over its home.

The older version is taken from git (`--old`, a commit) to a temporary folder, makes the home, trains and serves there.
Under load it is told to end (SIGTERM), and the server of these sources starts on its home; callers send again what was
not answered. Prints what was found, and ends with exit code 1 where a decision is lost, twice or another one than was
answered. `--back` starts the older version once more at the end, on the log that this one has written to.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import sentinel
from paced_load import PacedLoad
from sentinel.commands.server_process import ServerFailed, ServerProcess, free_port
from sentinel.record.log_reader import FileLogReader
from sentinel.record.verify import verify
from trained_home import decided_in, run, trained_home

HERE = Path(__file__).parents[1]
OLD = "1853b07"
_HOST, _PATIENCE_S = "127.0.0.1", 120.0
_UNTIMED = {"SENTINEL_DEADLINE_MS": "5000", "SENTINEL_CIRCUIT_THRESHOLD_MS": "5000"}


def main() -> int:
    """Exit code 1 where anything is lost, twice or different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", default=OLD, help="the commit that is upgraded from")
    parser.add_argument("--per-second", type=int, default=5_000, help="transactions")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load before and after, each")
    parser.add_argument("--back", action="store_true", help="start the older version again at the end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-upgrade-") as name:
        old = _sources_of(given.old, Path(name) / "old")
        facts = _upgraded(Path(name), old, given.per_second, given.seconds)
        if given.back:
            facts["the older version reads it"] = _rolled_back(Path(name) / "home", old)
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, from {given.old} to {_commit()}"
    )
    for what, figure in facts.items():
        print(f"{what:36}{figure!s:>14}")
    return 1 if facts["lost"] or facts["twice"] or facts["different"] or facts["damaged"] else 0


def _sources_of(commit: str, folder: Path) -> Path:
    """The sources of a commit in a folder, with what is compiled of the kernels that have not changed since."""
    packed = subprocess.run(["git", "archive", commit, "src"], cwd=HERE, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    new = Path(sentinel.__file__).parents[1]
    for path in (folder / "src").rglob("*.py"):
        same = new / path.relative_to(folder / "src")
        if same.exists() and same.read_bytes() == path.read_bytes():
            found = same.stat()
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
            for compiled in (same.parent / "__pycache__").glob(f"{path.stem}.*.nb[ic]"):
                (path.parent / "__pycache__").mkdir(exist_ok=True)
                shutil.copy2(compiled, path.parent / "__pycache__")
    return folder / "src"


def _upgraded(folder: Path, old: Path, per_second: int, seconds: float) -> dict[str, object]:
    home, port = trained_home(folder, old), free_port(_HOST)
    before = ServerProcess(home, _HOST, port, environment={**_UNTIMED, "PYTHONPATH": str(old)})
    before.start()
    load = PacedLoad(lambda: port, per_second)
    load.start()
    try:
        time.sleep(seconds)
        begun = time.monotonic()
        before.stop()
        stop_s = time.monotonic() - begun
        written = decided_in(home)
        after = ServerProcess(home, _HOST, port, environment=_UNTIMED)
        start_s = after.start()
        time.sleep(seconds)
    finally:
        before.stop()
        load.end()
    view = _wait_for_view(home)
    after.stop()
    stored = decided_in(home)
    now = {one[0]: one[1:] for one in stored}
    return {
        "transactions a second": round(len(load.answers) / load.took_s),
        "answered": len(load.answers),
        "decided by the older version": len(written),
        "decided by this one": len(stored) - len(written),
        "batches sent again": load.retries,
        "longest time without an answer, s": round(load.longest_gap_s, 1),
        "of it: the older version ends, s": round(stop_s, 1),
        "of it: this one starts, s": round(start_s, 1),
        "lost": len(load.answers.keys() - now.keys()),
        "twice": len(stored) - len(now),
        "different": sum(now[one] != answer for one, answer in load.answers.items() if one in now),
        "damaged": len(verify(home / "log").findings),
        "rows of the view": view,
    }


def _wait_for_view(home: Path) -> int:
    """How many decisions the view has, once the server has brought it to the end."""
    end = time.monotonic() + _PATIENCE_S
    while (found := run("views", "status", "--home", home))["lag"] and time.monotonic() < end:
        time.sleep(0.5)
    if found["lag"]:
        sys.exit(f"the view does not come to the end: {found}")
    return int(found["counts"]["decisions"])


def _rolled_back(home: Path, old: Path) -> str:
    """Whether the older version starts on this home, and what it says if not."""
    with closing(FileLogReader(home / "log")) as log:
        durable = log.durable
    server = ServerProcess(home, _HOST, free_port(_HOST), environment={**_UNTIMED, "PYTHONPATH": str(old)})
    try:
        server.start()
    except ServerFailed as problem:
        return f"no: {problem}"
    server.stop()
    return f"yes, up to {durable - 1}"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
