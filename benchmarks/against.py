"""This checkout against another one, in slices that alternate: `python benchmarks/against.py /path/to/the/other`.

Both serve their own home folders, trained on the same history, at the same time and on core 0, with what follows their
logs; the load is on core 1. Each slice is sent to one of them while the other rests, and who begins changes from pair
to pair: a machine whose speed changes within seconds changes it for both. With `--alone` what follows the logs is held
still: it shares the core, and catches up with the one side while the other one is measured. Ratios are this checkout's
figure by the other's of the same pair; medians over the pairs. Above 1 is more throughput, latency, or processor time.
"""

import argparse
import os
import signal
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
MOST_A_SECOND = 60_000  # transactions that either side can be sent
HERE = Path(__file__).parents[1]
LOADS = {
    "predict hot": ("vectors", 64, None),
    "predict distinct": ("vectors", 64, None),
    "score, 64 connections": ("score", 64, None),
    "score, 256 connections": ("score", 256, None),
    "score at 10,000/s": ("score", 64, 10_000),
}
"""The home that is served, connections, and requests a second where they come at random moments."""

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
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.2)
    parser.add_argument("--keys", action="store_true", help="this checkout requires keys, and every request bears one")
    parser.add_argument("--alone", action="store_true", help="the followers of the logs are stopped (SIGSTOP)")
    parser.add_argument("--loads", nargs="*", choices=list(LOADS), default=list(LOADS))
    given = parser.parse_args()
    token = new_token()
    with tempfile.TemporaryDirectory() as folder:
        needed = round((given.pairs + 1) * given.seconds * (2 * MOST_A_SECOND + 10_000))
        work = prepare(Path(folder) / "this", needed, lambda *_: None, token if given.keys else None)
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
        slices = _Slices(work, given.seconds, given.alone)
        found = {name: slices.measured(sides, name, given.pairs) for name in given.loads}
    publish("against", f"this checkout against {given.other}", found)


def _add_key(home: Path, token: str) -> None:
    grant = Grant(name="bench", scopes=(Scope.SCORE,))
    KeyStore(home).change(lambda keys: keys.with_new(grant, token, time.time_ns() // 1000))


class _Slices:
    """Loads of a second or so. No transaction is sent twice to one side."""

    def __init__(self, work: Workloads, seconds: float, alone: bool) -> None:
        self._work = work
        self._seconds = seconds
        self._alone = alone
        self._sent = {"this": 0, "other": 0}

    def measured(self, sides: dict[str, tuple[Path, dict[str, str]]], name: str, pairs: int) -> dict[str, Any]:
        """The figures of both sides under one load; the first pair warms them and does not count."""
        home = LOADS[name][0]
        servers = {
            side: ServerProcess(folder / home, HOST, free_port(HOST), core=0, environment=environment)
            for side, (folder, environment) in sides.items()
        }
        try:
            for server in servers.values():
                server.start()
            time.sleep(SETTLED_S)
            if self._alone:
                for follower in [child for server in servers.values() for child in children(server.pid)]:
                    os.kill(follower, signal.SIGSTOP)  # the server kills them at its end, stopped or not
            found: list[dict[str, dict[str, float]]] = []
            for pair in range(pairs + 1):
                order = list(servers)[:: 1 if pair % 2 == 0 else -1]
                found.append({side: self._slice(side, servers[side], name, pair) for side in order})
        finally:
            for server in servers.values():
                server.stop()
        return compared(found[1:])

    def _slice(self, side: str, server: ServerProcess, name: str, seed: int) -> dict[str, float]:
        _, connections, rate = LOADS[name]
        target, begun_s = Target(HOST, server.port, connections), processor_s(server.pid)
        if rate is not None:
            due = at_random(rate, round(rate * self._seconds), seed=seed)
            load = open_loop(target, self._unsent(side), due)
        else:
            load = closed_loop(target, self._requests(side, name), 10**7, seconds=self._seconds)
        if LOADS[name][0] == "score":
            self._sent[side] += len(load.statuses)
        return figures(load) | {"processor_us": (processor_s(server.pid) - begun_s) / len(load.statuses) * 1e6}

    def _requests(self, side: str, name: str) -> Requests:
        if name == "predict hot":
            return self._work.hot
        return self._work.distinct if name == "predict distinct" else self._unsent(side)

    def _unsent(self, side: str) -> Requests:
        requests = self._work.score_requests
        return Requests(requests.data, requests.starts[self._sent[side] :])


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def processor_s(pid: int) -> float:
    """The processor time of a process so far, in seconds."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def figures(load: Load) -> dict[str, float]:
    """What is compared. Raises AssertionError when anything was refused."""
    found = load.figures()
    assert not found["refused"], found
    assert not found["errors"], found
    return {name: found[name] for name in ("per_second", "p50_ms", "p99_ms", "p99_9_ms")}


def compared(pairs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Medians of both sides, and of their ratios pair by pair, with the quartiles."""
    shown: dict[str, Any] = {}
    for figure in pairs[0]["this"]:
        this, other = ([pair[side][figure] for pair in pairs] for side in ("this", "other"))
        ratios = sorted(a / b for a, b in zip(this, other, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
        shown[figure] = {
            "this, other": (round(statistics.median(this), 3), round(statistics.median(other), 3)),
            "ratio": round(middle, 3),
            "quartiles": (round(low, 3), round(high, 3)),
        }
    return shown


if __name__ == "__main__":
    main()
