"""A job of Flink with two keys and ten windows beside one with one key and a counter, in the same run.

Both read the same topic in one task, keep their state under checkpoints and write exactly once. What is measured is how
long each takes from its first committed result to its last; a start (imports, compilation) is no part of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from report import publish
from sentinel import Detector, Schema, Training, XGBoost, count, mean
from sentinel.commands.flink import FlinkRun, job_of
from sentinel.config import read_settings
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.train.pipeline import train
from sentinel.transport.flink.job_spec import encode_spec

WINDOWS = ("5m", "1h", "6h", "1d", "7d")
DETECTOR = Detector(
    name="two_keys",
    schema=Schema(keys=("card", "shop")),
    features=tuple(
        feature for over in WINDOWS for feature in (count(by="card", over=over), mean("amount", by="shop", over=over))
    ),
    training=Training(learner=XGBoost(trees=50, patience=50, max_depth=4)),
)
CARDS, SHOPS = 20_000, 5_000
TRIVIAL = Path(__file__).with_name("flink_trivial_job.py")
US_PER_DAY = 86_400_000_000


def main() -> None:
    """Print rows a second of each, pair by pair, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--parallelism", type=int, default=1)
    given = parser.parse_args()
    broker = os.environ["SENTINEL_KAFKA"]
    pairs = []
    with tempfile.TemporaryDirectory(prefix="sentinel-flink-") as folder:
        home = trained(Path(folder))
        settings = read_settings({"home": home})
        rates: dict[str, list[float]] = {"two_keys": [], "trivial": []}
        for number in range(given.pairs):
            prefix = f"bench{int(time.time())}-"
            fill(broker, prefix, given.rows, seed=number)
            environment = {"SENTINEL_KAFKA": broker, "SENTINEL_KAFKA_PREFIX": prefix}
            run = FlinkRun(None, given.parallelism, 1_000, (Path(folder) / f"c{number}").as_uri())
            spec = encode_spec(job_of(settings, "two_keys", None, run, environment))
            for name in rates:
                command = ["-m", "sentinel.transport.flink"] if name == "two_keys" else [str(TRIVIAL)]
                topic = f"{prefix}{'decisions' if name == 'two_keys' else 'trivial'}"
                rates[name].append(rate(settings.flink_python, command, spec, broker, topic, given.rows))
            pairs.append(round(rates["two_keys"][-1] / rates["trivial"][-1], 3))
    figures: dict[str, Any] = {name: [round(one) for one in found] for name, found in rates.items()}
    figures |= {"ratio": sorted(pairs)[len(pairs) // 2], "ratios": pairs}
    method = (
        f"{given.rows:,} rows, {given.parallelism} task(s), checkpoints every second, load {os.getloadavg()[0]:.1f}"
    )
    publish("flink_job", method, figures)


def trained(folder: Path) -> Path:
    """A home with a model of the two keys."""
    n, rng = 20_000, np.random.default_rng(1)
    frame = pl.DataFrame({
        "transaction_id": [f"h{i}" for i in range(n)],
        "event_time": time.time_ns() // 1000 - US_PER_DAY * 10 + np.sort(rng.integers(0, 9 * US_PER_DAY, n)),
        "amount": np.round(rng.lognormal(3, 1, n) + 0.01, 2),
        "card": [f"c{one}" for one in rng.integers(0, CARDS, n)],
        "shop": [f"s{one}" for one in rng.integers(0, SHOPS, n)],
        "is_fraud": rng.random(n) < 0.02,
    })  # fmt: skip
    home = folder / "home"
    history = history_of_frame(frame, DETECTOR.schema)
    HomeDeployment(home).promote(train(DETECTOR, history, Registry(home / "models"), lambda *_: None).version)
    return home


def fill(broker: str, prefix: str, rows: int, seed: int) -> None:
    """Transactions of the last hours, in their order."""
    admin = AdminClient({"bootstrap.servers": broker})
    stamped = {"message.timestamp.type": "LogAppendTime"}
    names = ("transactions", "outcomes", "decisions", "dead-letters", "trivial")
    for made in admin.create_topics([NewTopic(prefix + name, 2, 1, config=stamped) for name in names]).values():
        made.result(30)
    rng, producer = np.random.default_rng(seed), Producer({"bootstrap.servers": broker, "linger.ms": 5})
    begin = time.time() - 10_000
    cards, shops = rng.integers(0, CARDS, rows).tolist(), rng.integers(0, SHOPS, rows).tolist()
    for n, (card, shop) in enumerate(zip(cards, shops, strict=True)):
        row = {
            "transaction_id": f"t{n}",
            "event_time": begin + n / 20,
            "amount": n % 97 + 1,
            "card": f"c{card}",
            "shop": f"s{shop}",
        }
        producer.produce(prefix + "transactions", key=row["card"], value=json.dumps(row))
        if n % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


def rate(python: Path | None, command: list[str], spec: bytes, broker: str, topic: str, rows: int) -> float:
    """Rows a second of a job, between its first committed results and its last."""
    reader = Consumer({
        "bootstrap.servers": broker, "group.id": topic, "auto.offset.reset": "earliest",
        "isolation.level": "read_committed", "enable.auto.commit": False,
    })  # fmt: skip
    reader.subscribe([topic])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    compiled = str(Path(str(python)).parents[1] / "numba")
    job = subprocess.Popen(
        [str(python), *command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment | {"NUMBA_CACHE_DIR": compiled}, start_new_session=True,
    )  # fmt: skip
    assert job.stdin is not None
    job.stdin.write(spec)
    job.stdin.close()
    seen, first, first_at, last_at = 0, 0, 0.0, 0.0
    try:
        while seen < rows:
            if job.poll() is not None:
                sys.exit(f"the job ended with {job.returncode} after {seen} rows")
            found = len(reader.consume(10_000, 0.05))
            if found:
                last_at = time.monotonic()
                seen += found
            if seen and not first and seen > rows // 10:
                first, first_at = seen, last_at
    finally:
        os.killpg(job.pid, 9)
        job.wait()
        reader.close()
    return (seen - first) / (last_at - first_at)


if __name__ == "__main__":
    main()
