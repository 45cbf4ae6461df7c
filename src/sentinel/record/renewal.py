"""New snapshots of a state that nobody saves: `python -m sentinel.record.renewal` makes them beside a server.

A champion that was replaced is no longer saved, and one that decides little is saved rarely; their last snapshots would
hold the log back for ever.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sentinel.child_process import Child, die_with_parent
from sentinel.errors import SentinelError, StorageProblem
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import log_folder
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.log import Past
from sentinel.record.log_reader import FileLogReader
from sentinel.record.snapshots import Snapshots
from sentinel.record.whole_snapshots import WholeSnapshots

_LOWEST = 19
_POLL_S = 0.1


def renew(home: Path, version: str, until: int) -> None:
    """Save the state of a model as it is now, and as it was at position `until` unless a snapshot after that is whole.

    `until` is the beginning of a record. Raises BundleProblem, StorageProblem.
    """
    bundle = load_bundle(Registry(home / "models").path(version))
    snapshots = Snapshots(home / "snapshots")
    with closing(FileLogReader(log_folder(home))) as log, closing(snapshots):
        begin = activation_of(log, bundle.state_id)
        if begin is None:
            raise StorageProblem(f"{version} was never served, so there is nothing to save of it")
        state = FeatureState(bundle, begin)
        kept = WholeSnapshots().kept_from(snapshots.folder, bundle.manifest, log, begin).snapshots
        if kept and kept[-1] >= until:
            state.load(log, snapshots)
        else:
            state.load(Past(log, until), snapshots)
            state.snapshot(snapshots, wait=True)
            state.follow(log)
        state.snapshot(snapshots, wait=True)


def renew_beside(home: Path, version: str, until: int, rest: Callable[[float], None]) -> None:
    """Have a process do that, and wait for it; `rest` waits so many seconds, and what it raises ends the process.

    Raises StorageProblem when the process fails.
    """
    arguments = ["--home", str(home), "--version", version, "--until", str(until)]
    child = Child("sentinel.record.renewal", arguments, stderr=subprocess.PIPE)
    try:
        while (death := child.death()) is None:
            rest(_POLL_S)
        if child.exit_code:
            raise StorageProblem(f"no snapshot of {version} could be made: {death}")
    finally:
        child.kill()


def main() -> int:
    """Run once; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.record.renewal", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--until", type=int, required=True)
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    os.nice(_LOWEST)
    die_with_parent(given.parent)
    try:
        renew(given.home, given.version, given.until)
    except SentinelError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
