"""With millions of decisions stored: how long a restart takes, and how far the view is behind under load.

`python benchmarks/millions_stored.py --restart 2e6 --view 5e6 --seconds 600`. Decisions are made by the engine itself,
in batches of 256, with keys at random among 300,000 cards and 20,000 merchants. The restart is that of a server that
was killed one batch before its next snapshot: from the start of the process until `/health/ready` is 200. The view is
then rebuilt, and followed while 5,000 transactions a second arrive at random over 64 connections; server and
projector share core 0, the load is on core 1.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from report import publish
from sentinel.app import open_engine
from sentinel.bench.load_generator import Requests, Target, at_random, open_loop
from sentinel.bench.serving_workloads import SCORE_DETECTOR, prepare
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.commands.storage import rebuild_views
from sentinel.config import Settings
from sentinel.model.registry import Registry
from sentinel.record.applied import deployment_in, log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.log_reader import FileLogReader
from sentinel.record.snapshots import Snapshots
from sentinel.record.snapshotter import SNAPSHOT_EVERY, Snapshotter
from sentinel.serve.batch import Arrivals
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import load_lineup
from sentinel.telemetry.counters import Counters
from sentinel.transport.client import request_bytes

HOST, BATCH, RATE, FAR_NS = "127.0.0.1", 256, 5_000, 2**62


def main() -> None:
    """Fill, restart, follow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restart", type=float, default=2e6)
    parser.add_argument("--view", type=float, default=5e6)
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = prepare(Path(folder), 1_000, lambda *_: None).score_home
        saved = round(given.restart) // SNAPSHOT_EVERY * SNAPSHOT_EVERY
        fill(home, saved)
        save(home)
        rows = saved + SNAPSHOT_EVERY - BATCH
        figures["fill"] = fill(home, rows - saved)
        server = ServerProcess(home, HOST, free_port(HOST), core=0)
        seconds = []
        for _ in range(3):
            seconds.append(round(server.start(), 2))
            server.kill()
        figures["restart"] = {"decisions": rows, "since the snapshot": SNAPSHOT_EVERY - BATCH, "ready_s": seconds}
        if given.view > rows:
            fill(home, round(given.view) - rows)
        begun = time.perf_counter()
        rebuild_views(Settings(home=home), lambda *_: None)
        figures["view rebuilt, rows a second"] = round(given.view / (time.perf_counter() - begun))
        figures["view under load"] = follow(server, given.seconds)
    publish("millions_stored", "10 window features over two keys, 200 trees", figures)


def payments(n: int, rng: np.random.Generator) -> list[bytes]:
    """Transactions of the detector, as JSON."""
    now_us = time.time_ns() // 1000
    cards, merchants = rng.integers(0, 300_000, n).tolist(), rng.integers(0, 20_000, n).tolist()
    amounts = (rng.integers(1, 50_000, n) / 100).tolist()
    return [
        json.dumps(
            {"transaction_id": uuid.UUID(bytes=rng.bytes(16)).hex, "event_time": now_us + i, "amount": amounts[i],
             "card_id": f"card-{cards[i]}", "merchant_id": f"merchant-{merchants[i]}"}
        ).encode()
        for i in range(n)
    ]  # fmt: skip


def fill(home: Path, rows: int) -> dict[str, Any]:
    """Have the engine decide so many."""
    settings = Settings(home=home)
    log = FileLog.open(log_folder(home), time.time_ns() // 1000)
    engine: Engine = open_engine(
        settings, log, load_lineup(deployment_in(log), Registry(settings.models_folder)), Counters()
    )
    engine.begin(time.time_ns() // 1000)
    rng, begun = np.random.default_rng(rows), time.perf_counter()
    decode = SCORE_DETECTOR.schema.decode
    for done in range(0, rows, BATCH):
        batch = [decode(one) for one in payments(min(BATCH, rows - done), rng)]
        now_ns = time.monotonic_ns()
        engine.decide(Arrivals(batch, [now_ns] * len(batch), [FAR_NS] * len(batch)), time.time_ns() // 1000)
    engine.close()
    size = log.sizes
    log.close()
    return {"rows_per_s": round(rows / (time.perf_counter() - begun)), "log": size._asdict()}


def save(home: Path) -> None:
    """Have a snapshot of what is stored."""
    log = FileLogReader(log_folder(home))
    snapshotter = Snapshotter(log, Registry(home / "models"), Snapshots(home / "snapshots"))
    snapshotter.step(0.0)
    snapshotter.finish()
    log.close()


def follow(server: ServerProcess, seconds: float) -> dict[str, Any]:
    """How far the view is behind each second of the load, in entries; a second of load is 5,000."""
    rng = np.random.default_rng(1)
    requests = Requests.pack([request_bytes("/v1/score", one) for one in payments(round(RATE * seconds), rng)])
    server.start()
    os.sched_setaffinity(0, {1})
    lags: list[int] = []
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(1.0):
            with urllib.request.urlopen(f"http://{HOST}:{server.port}/health", timeout=30) as reply:
                lags.append(msgspec.json.decode(reply.read())["view"]["lag"])

    watching = threading.Thread(target=watch)
    watching.start()
    load = open_loop(Target(HOST, server.port, 64), requests, at_random(RATE, len(requests.starts) - 1, seed=1))
    stopping.set()
    watching.join()
    server.stop()
    return load.figures() | {
        "lag_entries": {"median": statistics.median(lags), "p99": float(np.percentile(lags, 99)), "max": max(lags)},
        "lag_s_max": round(max(lags) / RATE, 2),
    }


if __name__ == "__main__":
    main()
