"""This checkout against another one, in turns within one run: `python benchmarks/against.py /path/to/the/other`.

Both serve their own home folders, trained on the same history, with the server and its projector on core 0 and the load
on core 1. Ratios are this checkout's figure by the other's in the same turn; medians over the turns. Above 1 is more
throughput, or more latency.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import publish
from sentinel.bench.load_generator import Load, Requests, Target, at_random, closed_loop, open_loop
from sentinel.bench.serving_workloads import Workloads, prepare
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.transport.access.keys import Grant, new_token
from sentinel.transport.access.scopes import Scope
from sentinel.transport.access.store import KeyStore

HOST = "127.0.0.1"
SETTLED_S = 10.0  # until the processes beside the server have begun: they are on its core here
HERE = Path(__file__).parents[1]
_PREPARE = """
import sys
from pathlib import Path
try:
    from sentinel.bench.serving_workloads import prepare
except ModuleNotFoundError:
    from sentinel.commands.serving_workloads import prepare
prepare(Path(sys.argv[1]), 1_000, lambda *_: None)
"""


def main() -> None:
    """Take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--keys", action="store_true", help="this checkout requires keys, and every request bears one")
    given = parser.parse_args()
    token = new_token()
    with tempfile.TemporaryDirectory() as folder:
        needed = round(given.turns * given.seconds * (2 * 45_000 + 10_000)) + 10_000
        key = token if given.keys else None
        work = prepare(Path(folder) / "this", needed, lambda *_: None, key)
        other = Path(folder) / "other"
        environment = {"PYTHONPATH": str(given.other.absolute() / "src")}
        subprocess.run([sys.executable, "-c", _PREPARE, str(other)], check=True, env=os.environ | environment)
        os.sched_setaffinity(0, {1})
        mine = {"PYTHONPATH": str(HERE / "src")}
        if given.keys:
            mine["SENTINEL_AUTH"] = "required"
            for home in (work.vector_home, work.score_home):
                _add_key(home, token)
        sides = {"this": (Path(folder) / "this", mine), "other": (other, environment)}
        turns = [
            {name: measured(work, side, given.seconds, turn) for name, side in ordered(sides, turn)}
            for turn in range(given.turns)
        ]
    publish("against", f"this checkout against {given.other}", compared(turns))


def _add_key(home: Path, token: str) -> None:
    grant = Grant(name="bench", scopes=(Scope.SCORE,))
    KeyStore(home).change(lambda keys: keys.with_new(grant, token, time.time_ns() // 1000))


def ordered(sides: dict[str, Any], turn: int) -> list[tuple[str, Any]]:
    """Who begins changes from turn to turn."""
    return list(sides.items())[:: 1 if turn % 2 == 0 else -1]


def measured(work: Workloads, side: tuple[Path, dict[str, str]], seconds: float, turn: int) -> dict[str, Any]:
    """The figures of one side in one turn, by load."""
    folder, environment = side
    found: dict[str, Any] = {}
    server = ServerProcess(folder / "vectors", HOST, free_port(HOST), core=0, environment=environment)
    server.start()
    time.sleep(SETTLED_S)
    try:
        closed_loop(Target(HOST, server.port, 64), work.distinct, 5_000)  # warm
        for name, requests in (("predict hot", work.hot), ("predict distinct", work.distinct)):
            found[name] = figures(closed_loop(Target(HOST, server.port, 64), requests, 10**7, seconds=seconds))
    finally:
        server.stop()
    server = ServerProcess(folder / "score", HOST, free_port(HOST), core=0, environment=environment)
    server.start()
    time.sleep(SETTLED_S)
    try:
        sent = turn * (len(work.score_requests.starts) // 3)
        for connections in (64, 256):
            load = closed_loop(Target(HOST, server.port, connections), rest(work, sent), 10**7, seconds=seconds)
            found[f"score, {connections} connections"] = figures(load)
            sent += len(load.statuses)
        due = at_random(10_000, round(10_000 * seconds), seed=turn)
        found["score at 10,000/s"] = figures(open_loop(Target(HOST, server.port, 64), rest(work, sent), due))
    finally:
        server.stop()
    return found


def rest(work: Workloads, begin: int) -> Requests:
    """The transactions that were not sent yet."""
    return Requests(work.score_requests.data, work.score_requests.starts[begin:])


def figures(load: Load) -> dict[str, float]:
    """What is compared. Raises AssertionError when anything was refused."""
    found = load.figures()
    assert not found["refused"], found
    assert not found["errors"], found
    return {name: found[name] for name in ("per_second", "p50_ms", "p99_ms", "p99_9_ms")}


def compared(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of both sides, and of their ratios turn by turn."""
    shown: dict[str, Any] = {}
    for load, example in turns[0]["this"].items():
        shown[load] = {}
        for figure in example:
            this, other = ([turn[side][load][figure] for turn in turns] for side in ("this", "other"))
            ratios = [round(a / b, 3) for a, b in zip(this, other, strict=True)]
            medians = statistics.median(this), statistics.median(other)
            shown[load][figure] = {"this, other": medians, "ratio": statistics.median(ratios), "ratios": ratios}
    return shown


if __name__ == "__main__":
    main()
