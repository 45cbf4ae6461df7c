"""Ten million vectors, with the model swapped all the while: no errors, and memory that does not grow.

Four of five requests repeat one of a hundred vectors, the rest all differ. The server is pinned to one core, the load
to the other; once a second another champion is promoted.
"""

import argparse
import json
import os
import tempfile
import threading
import urllib.request
from pathlib import Path

from report import publish
from sentinel.bench.load_generator import Target, closed_loop
from sentinel.bench.serving_workloads import VECTOR_DETECTOR, prepare, vector_history
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.events.files import History
from sentinel.model.registry import Registry
from sentinel.train.pipeline import train

HOST = "127.0.0.1"


def main() -> None:
    """Load, swap, watch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder), 1_000, lambda *_: None)
        train(VECTOR_DETECTOR, History(vector_history(8), {}), Registry(work.vector_home / "models"), lambda *_: None)
        os.sched_setaffinity(0, {1})
        server = ServerProcess(work.vector_home, HOST, free_port(HOST), core=0)
        server.start()
        swaps, stop = [0], threading.Event()
        swapper = threading.Thread(target=swap, args=(server.port, swaps, stop))
        swapper.start()
        try:
            runs, memory = [], []
            part = given.requests // 10
            for _ in range(10):
                runs.append(closed_loop(Target(HOST, server.port, 64), work.mixed, part).figures())
                memory.append(resident_mb(server.pid))
        finally:
            stop.set()
            swapper.join()
            server.stop()
    publish(
        "endurance",
        "closed loop, 64 connections, 80 % of the vectors repeat, a swap a second; memory after each tenth",
        {
            "requests": sum(run["requests"] for run in runs),
            "errors": sum(run["errors"] + run["refused"] for run in runs),
            "swaps": swaps[0],
            "resident_mb": memory,
            "per_second": [run["per_second"] for run in runs],
        },
    )


def swap(port: int, swaps: list[int], stop: threading.Event) -> None:
    """Another champion every second."""
    while not stop.wait(1.0):
        body = json.dumps({"version": ("v2", "v1")[swaps[0] % 2]}).encode()
        request = urllib.request.Request(
            f"http://{HOST}:{port}/admin/reload", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert json.load(reply)["status"] == "ok"
        swaps[0] += 1


def resident_mb(pid: int) -> int:
    """Memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


if __name__ == "__main__":
    main()
