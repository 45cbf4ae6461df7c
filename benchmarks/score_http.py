"""POST /v1/score, durable: the server on one core, the generator on the other.

Bodies all differ. The ceiling is the same generator against a server that answers at once with a constant; when the
generator's CPU share is near 1 it is the bottleneck and the figure is its own.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before XGBoost is loaded; see cli.main

import argparse
import asyncio
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import uvloop

from load import closed_loop, open_loop
from report import publish
from sentinel.commands.live import bodies
from sentinel.commands.server_process import free_port, port_is_free
from sentinel.detectors.payments import detector
from sentinel.events.files import History, history_of_frame
from sentinel.events.simulator import simulate
from sentinel.model.registry import Registry
from sentinel.policy.deployment import DeploymentRecord
from sentinel.train.pipeline import train
from sentinel.transport.client import request_bytes

SERVER_CORE, GENERATOR_CORE = 0, 1
HISTORY, LIVE = 150_000, 400_000


def main() -> None:
    """Train, serve, load, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100_000, help="of each closed loop")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    os.sched_setaffinity(0, {GENERATOR_CORE})
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        requests = prepare(home)
        ceiling = measure_ceiling(requests[: given.requests])
        figures = {"ceiling_constant_answer": ceiling} | measure(home, requests, given.requests, given.repeats)
    publish(
        "score_http",
        "payments detector (37 features, 3 keys), sqlite synchronous=FULL, server pinned to one core, uvloop generator "
        f"to the other, medians of {given.repeats} runs; open loop counts from when a request was due",
        figures,
    )


def prepare(home: Path) -> list[bytes]:
    """A trained model in `home`, and requests that follow its history."""
    frame = simulate(HISTORY + LIVE, seed=1).drop("fraud_pattern")
    history = history_of_frame(frame, detector.schema)
    registry = Registry(home / "models")
    DeploymentRecord(home).promote(
        train(detector, History(history.frame[:HISTORY], {}), registry, lambda *_: None).version
    )
    return [request_bytes("/v1/score", body) for body in bodies(detector.schema, history.frame[HISTORY:])]


def measure(home: Path, requests: list[bytes], n: int, repeats: int) -> dict[str, object]:
    """The closed loops and the open loop against one server, which is started as often as there are repeats."""
    runs: dict[str, list[dict[str, float]]] = {}
    ready = []
    stock = iter(requests)
    for _ in range(repeats):
        port = free_port("127.0.0.1")
        process, ready_s = start(home, port)
        ready.append(ready_s)
        for name, connections, count in (
            ("closed_1", 1, 3000),
            ("closed_64", 64, n // repeats),
            ("closed_256", 256, n // repeats),
        ):
            runs.setdefault(name, []).append(closed_loop(port, take(stock, count), connections).figures())
        runs.setdefault("open_3000", []).append(open_loop(port, take(stock, 30_000), 3000, 64).figures())
        process.terminate()
        process.wait()
    medians = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }
    return {"ready_after_s": round(statistics.median(ready), 2), **medians}


def take(stock: Iterator[bytes], n: int) -> list[bytes]:
    """The next n requests."""
    return [request for request, _ in zip(stock, range(n), strict=False)]


def start(home: Path, port: int) -> tuple[subprocess.Popen[bytes], float]:
    """A server on its core; the seconds until it was ready."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(port)],
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        stderr=subprocess.DEVNULL,
    )
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1) as reply:
                json.load(reply)
                return process, time.perf_counter() - begun
        except OSError:
            time.sleep(0.02)


def measure_ceiling(requests: list[bytes]) -> dict[str, float]:
    """The generator against a server that does nothing."""
    port = free_port("127.0.0.1")
    process = multiprocessing.get_context("spawn").Process(target=constant_server, args=(port,), daemon=True)
    process.start()
    while port_is_free("127.0.0.1", port):
        time.sleep(0.05)
    found = closed_loop(port, requests, 64).figures()
    process.terminate()
    return found


def constant_server(port: int) -> None:
    """Answer every request with the same bytes."""
    os.sched_setaffinity(0, {SERVER_CORE})
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

    class Constant(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            del data
            self.transport.write(answer)  # type: ignore[attr-defined]

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(run())


if __name__ == "__main__":
    main()
