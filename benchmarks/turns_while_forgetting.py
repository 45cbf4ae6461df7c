"""The longest step of the event loop while keys are forgotten, states are saved and the log is pruned.

Each of RATE payments a second comes from a device that is never seen again, of 50,000 cards, in arrays of 20 at random
times. Windows, `forget_after` and `max_late` are seconds, so that as many keys are forgotten as come; snapshots follow
every 50,000 entries, and the log keeps the last half minute. Told is the processor time of the longest step, as the
server's metrics have it, after ten seconds in which the state finds its size, and what was forgotten, saved and pruned.
"""

import argparse
import json
import os
import tempfile
import time
import urllib.request
from pathlib import Path

import msgspec
import numpy as np

from report import publish
from sentinel.bench.load_generator import Requests, Target, at_random, open_loop
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.detector import Detector, Training
from sentinel.events.files import history_of_frame
from sentinel.events.schema import Schema
from sentinel.features.definitions import count, field, mean, seconds_since_last
from sentinel.learner import XGBoost
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.simulate.payments import simulate
from sentinel.train.pipeline import train
from sentinel.transport.client import request_bytes

HOST, RATE, TOGETHER, CARDS = "127.0.0.1", 10_000, 20, 50_000
SETTLED_S = 10
DETECTOR = Detector(
    name="bench-forgetting",
    schema=Schema(keys=("card_id", "device_id"), optional=("device_id",), max_late="1s"),
    features=(
        field("amount"), seconds_since_last(by="device_id"),
        *(count(by=by, over=over) for by in ("card_id", "device_id") for over in ("1s", "3s", "5s")),
        *(mean("amount", by=by, over=over) for by in ("card_id", "device_id") for over in ("3s", "5s")),
    ),
    forget_after="5s",
    training=Training(learner=XGBoost(trees=50, patience=50, max_depth=4)),
)  # fmt: skip
KEPT = {"SENTINEL_SNAPSHOT_EVERY": "50000", "SENTINEL_KEEP_LOG": "30s", "SENTINEL_REMEMBER_IDS": "30s"}


def main() -> None:
    """Load, and look at the longest step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        columns = ["transaction_id", "event_time", "amount", "card_id", "device_id", "is_fraud"]
        history = history_of_frame(simulate(20_000, seed=3).select(columns), DETECTOR.schema)
        HomeDeployment(home).promote(train(DETECTOR, history, Registry(home / "models"), lambda *_: None).version)
        os.sched_setaffinity(0, {1})
        server = ServerProcess(home, HOST, free_port(HOST), core=0, environment=KEPT)
        server.start()
        try:
            before = _load(server.port, SETTLED_S, 1)
            runs = [_load(server.port, 10, part + 2) for part in range(given.seconds // 10)]
            seen = {"first": before, "last": runs[-1]}
            with urllib.request.urlopen(f"http://{HOST}:{server.port}/health", timeout=30) as reply:
                seen["log"] = json.load(reply)["log"]
        finally:
            server.stop()
    publish(
        "turns_while_forgetting",
        __doc__ or "",
        {
            "longest_turn_ms_to_settle": before["longest_turn_ms"],
            "longest_turn_ms": runs[-1]["longest_turn_ms"],
            "late_or_refused": sum(run["not_200"] for run in runs),
            "seen": seen,
        },
    )


def _load(port: int, seconds: int, part: int) -> dict[str, float]:
    """So many seconds of payments; then what the metrics have."""
    rng = np.random.default_rng(part)
    n = RATE * seconds // TOGETHER
    requests = []
    now = time.time()
    for i in range(n):
        rows = [
            {
                "transaction_id": f"{part}-{i}-{j}", "amount": round(float(amount), 2), "card_id": f"c{card}",
                "event_time": _iso(now + i * TOGETHER / RATE), "device_id": f"d{part}-{i}-{j}",
            }
            for j, (amount, card) in enumerate(
                zip(rng.lognormal(3, 1, TOGETHER), rng.integers(0, CARDS, TOGETHER), strict=True)
            )
        ]  # fmt: skip
        requests.append(request_bytes("/v1/score", msgspec.json.encode(rows)))
    due = at_random(RATE / TOGETHER, n, seed=part)
    load = open_loop(Target(HOST, port, 64), Requests.pack(requests), due)
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics/prom", timeout=30) as reply:
        lines = [line.split() for line in reply.read().decode().splitlines() if line.startswith("sentinel_")]
    found = {line[0]: float(line[1]) for line in lines if len(line) == 2}
    return {
        "longest_turn_ms": round(1000 * found["sentinel_longest_turn_seconds"], 1),
        "keys": found["sentinel_state_keys"],
        "forgotten": found["sentinel_state_keys_forgotten"],
        "state_mb": round(found["sentinel_state_bytes"] / 1e6, 1),
        "snapshot_lag": found.get("sentinel_snapshot_lag", -1),
        "first_position": found["sentinel_log_first_position"],
        "not_200": int((load.statuses != 200).sum()),
    }


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


if __name__ == "__main__":
    main()
