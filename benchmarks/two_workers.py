"""One process against two for `/predict`: how many vectors a second, and what each costs of a processor core.

Nothing is pinned, and the load needs a part of a core too: on a machine of two cores two processes cannot give twice as
much. What one vector costs tells what they give where there are cores enough: it should be the same for both. The runs
take turns, three of each.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from report import publish
from sentinel.bench.load_generator import Requests, Target, closed_loop
from sentinel.bench.serving_benchmark import cpu_seconds
from sentinel.bench.serving_workloads import prepare
from sentinel.commands.server_process import ServerProcess, free_port

HOST, CONNECTIONS, SECONDS, REPEATS = "127.0.0.1", 128, 4.0, 3


def main() -> None:
    """Measure in turns."""
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder), 1_000, lambda *_: None)
        found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for _ in range(REPEATS):
            for workers, figures in found.items():
                figures.append(measure(work.vector_home, work.distinct, workers))
    shown: dict[str, Any] = {
        f"{workers} worker{'s' if workers > 1 else ''}": {
            name: round(statistics.median(one[name] for one in figures), 2) for name in figures[0]
        }
        for workers, figures in found.items()
    }
    publish("two workers", "POST /predict, all vectors different, 30 numbers, 200 trees, nothing pinned", shown)


def measure(home: Path, vectors: Requests, workers: int) -> dict[str, float]:
    """One closed loop: vectors a second, and core microseconds of all processes for each."""
    server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_WORKERS": str(workers)})
    server.start()
    target = Target(HOST, server.port, CONNECTIONS)
    closed_loop(target, vectors, 20_000)
    processes = [server.pid, *children(server.pid)]
    before = sum(map(cpu_seconds, processes))
    load = closed_loop(target, vectors, 10_000_000, seconds=SECONDS)
    used = sum(map(cpu_seconds, processes)) - before
    server.stop()
    return {
        "per_second": load.per_second,
        "p50_ms": load.figures()["p50_ms"],
        "core_us_each": 1e6 * used / len(load.statuses),
        "errors": load.errors,
    }


def children(process: int) -> list[int]:
    """The processes that this one has started."""
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


if __name__ == "__main__":
    main()
