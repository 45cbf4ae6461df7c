"""From a file to a better model, as docs/learning.md tells it: train, gate, promote, hear what was true, retrain.

It ends with an error where a step is not as that page says. `--show` prints what each command says; `--budget 5m` and
`--transactions 80000` make it the walk of the page, which the defaults shorten for every day.
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from make_wallets import write_wallets
from walk import Walk

POLICY = """\
min_pr_auc_val: 0.20
min_roc_auc_val: 0.82
min_frauds: 5
not_worse_than_champion: true
max_calibration_error: 0.05
require_certificate: true
"""
LABELS = ("--map", "state=is_fraud", "--labels", "disputed=1,settled=0")
DETECTOR = ("--detector", "wallets.py", "--data", "wallets.parquet")
_SENTINEL = (sys.executable, "-m", "sentinel")
_SWITCHES_WITHIN_S, _BATCH = 20.0, 100


class LearningWalk:
    """A walk, and what it has to say."""

    def __init__(self, walk: Walk, folder: Path, *, shows: bool) -> None:
        self._walk, self._folder, self._shows = walk, folder, shows

    def run(self, *arguments: str) -> str:
        """Run a command of Sentinel; what it says."""
        said = self._walk.run([*_SENTINEL, *arguments])
        if self._shows:
            sys.stdout.write(f"\n$ sentinel {' '.join(arguments)}\n{said}\n")
        return said

    def send(self, url: str, rows: Sequence[str]) -> dict[str, dict[str, int]]:
        """Send payments one hundred at a time: how many each version decided, and how."""
        found: dict[str, dict[str, int]] = {}
        for begin in range(0, len(rows), _BATCH):
            body = f"[{','.join(rows[begin : begin + _BATCH])}]".encode()
            for one in _ask(f"{url}/v1/score", body):
                decided = found.setdefault(one["model_version"], {})
                decided[one["decision"]] = decided.get(one["decision"], 0) + 1
        self._walk.tell(f"sent {len(rows):,} payments: {found}", 0.0)
        return found

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds; ends the walk where it does not."""
        begun = time.monotonic()
        while not holds():
            if time.monotonic() - begun > _SWITCHES_WITHIN_S:
                sys.exit(f"not within {_SWITCHES_WITHIN_S:.0f} s: {what}")
            time.sleep(0.1)
        self._walk.tell(what, time.monotonic() - begun)


def _ask(url: str, body: bytes | None = None) -> list[dict[str, str]]:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)
    return found if isinstance(found, list) else [found]


def expect(said: str, *parts: str) -> None:
    """End the walk where a command does not say this."""
    lacks = [part for part in parts if part not in said]
    if lacks:
        sys.exit(f"it does not say {lacks}:\n{said}")


def learn(walk: LearningWalk, budget: str) -> None:
    """Look into the file, and train a first champion."""
    expect(walk.run("inspect", "wallets.parquet"), "could it be state?")
    said = walk.run("inspect", "wallets.parquet", *LABELS, "--html", "wallets.html", "--detector-out", "wallets.py")
    expect(said, "leak? refund: it tells the label nearly by itself", "not used: refund")
    said = walk.run("train", *DETECTOR, "--budget", budget, "--seed", "1")
    expect(said, "leaderboard", "chosen: ", "its report: ")


def gate(walk: LearningWalk, folder: Path) -> None:
    """Train another one, and hold it against a policy and the champion."""
    (folder / "home" / "promotion_policy.yaml").write_text(POLICY)
    walk.run("train", *DETECTOR, "--quick", "--seed", "2")
    expect(walk.run("models", "gate", "v2", "--data", "wallets.parquet"), "not_worse_than_champion")
    expect(walk.run("models", "compare", "v1", "v2", "--data", "wallets.parquet"), "average precision")


def switch(walk: LearningWalk, url: str, rows: Sequence[str]) -> None:
    """Promote the other one while the server runs, and go back."""
    walk.run("models", "promote", "v2")
    walk.until("the server decides by v2", lambda: _is(url, "v2"))
    decided_by(walk.send(url, rows), "v2")
    expect(walk.run("models", "rollback"), "v1 is the champion again")
    walk.until("the server decides by v1", lambda: _is(url, "v1"))


def hear(walk: LearningWalk) -> None:
    """Hear of chargebacks, ask what if, and retrain."""
    given = ("chargebacks.csv", "--match", "id", "--map", "our_ref=ref,told_at=outcome_time", "--source", "bank")
    expect(walk.run("outcomes", "import", *given), "0 were known")
    expect(walk.run("history", "delay"), "50% are known within")
    expect(walk.run("models", "what-if", "v1", "--review", "0.05", "--block", "0.5"), "frauds found")
    said = walk.run("retrain", "--detector", "wallets.py", "--with", "wallets.parquet")
    expect(said, "v3 is the shadow")


def watch(walk: LearningWalk, url: str, rows: Sequence[str]) -> None:
    """Send more, and see the shadow score it."""
    decided_by(walk.send(url, rows), "v1")
    walk.until("the shadow has scored", lambda: _has_scored(url))
    walk.run("models", "list")


def _has_scored(url: str) -> bool:
    try:
        return _ask(f"{url}/admin/shadow/report")[0]["version"] == "v3"
    except urllib.error.HTTPError:  # 404 until it has
        return False


def decided_by(found: dict[str, dict[str, int]], version: str) -> None:
    """End the walk where another version has decided."""
    if set(found) != {version}:
        sys.exit(f"not all of it was decided by {version}: {found}")


def _is(url: str, version: str) -> bool:
    return _ask(f"{url}/health")[0]["model_version"] == version


def main() -> None:
    """Walk."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--transactions", default="40000")
    asked.add_argument("--budget", default="8s")
    asked.add_argument("--show", action="store_true")
    asked.add_argument("--folder", type=Path, help="Where all of it stays; a temporary folder is gone afterwards.")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-learning-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        place = Walk(folder)
        walk = LearningWalk(place, folder, shows=given.show)
        walk.run("simulate", "--out", "simulated.parquet", "--transactions", given.transactions, "--seed", "11")
        write_wallets(folder / "simulated.parquet", folder, datetime.now(UTC))
        learn(walk, given.budget)
        rows = (folder / "live.jsonl").read_text().splitlines()
        first, second, third = rows[: -3 * _BATCH], rows[-3 * _BATCH : -2 * _BATCH], rows[-2 * _BATCH :]
        with place.serving([*_SENTINEL, "serve"]) as url:
            decided_by(walk.send(url, first), "v1")
            gate(walk, folder)
            switch(walk, url, second)
            hear(walk)
            watch(walk, url, third)


if __name__ == "__main__":
    main()
