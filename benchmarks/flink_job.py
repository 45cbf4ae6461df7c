"""A job of Flink with two keys and ten windows beside one with one key and a counter, in the same run.

Both read the same topic in one task, keep their state under checkpoints and write exactly once. What is measured is how
long each takes from its first committed results to its last, and the processor time that its processes take meanwhile,
which a busy machine changes less; a start (imports, compilation) is no part of either.
"""

import argparse
import json
import os
import statistics
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
    with tempfile.TemporaryDirectory(prefix="sentinel-flink-") as folder:
        home = trained(Path(folder))
        settings = read_settings({"home": home})
        rates: dict[str, list[tuple[float, float]]] = {"two_keys": [], "trivial": []}
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
    figures: dict[str, Any] = {}
    for place, unit in enumerate(("rows_a_second", "processor_us_a_row")):
        figures[unit] = {name: [round(one[place]) for one in found] for name, found in rates.items()}
    pairs = list(zip(rates["two_keys"], rates["trivial"], strict=True))
    figures["ratio_of_rates"] = round(statistics.median(ours[0] / trivial[0] for ours, trivial in pairs), 2)
    figures["ratio_of_processor_time"] = round(statistics.median(trivial[1] / ours[1] for ours, trivial in pairs), 2)
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


def processor_s(session: int) -> float:
    """Processor seconds of all processes of a session so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rate(
    python: Path | None, command: list[str], spec: bytes, broker: str, topic: str, rows: int
) -> tuple[float, float]:
    """Rows a second of a job, and microseconds of processor time a row, between its first results and its last."""
    reader = Consumer({
        "bootstrap.servers": broker, "group.id": topic, "auto.offset.reset": "earliest",
        "isolation.level": "read_committed", "enable.auto.commit": False,
    })  # fmt: skip
    reader.subscribe([topic])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    compiled = str(Path(str(python)).parents[1] / "numba")
    said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the job
    job = subprocess.Popen(
        [str(python), *command], stdin=subprocess.PIPE, stdout=said, stderr=said,
        env=environment | {"NUMBA_CACHE_DIR": compiled}, start_new_session=True,
    )  # fmt: skip
    assert job.stdin is not None
    job.stdin.write(spec)
    job.stdin.close()
    seen, first, first_at, last_at, first_cpu_s, last_cpu_s = 0, 0, 0.0, 0.0, 0.0, 0.0
    try:
        while seen < rows:
            if job.poll() is not None:
                said.seek(0)
                sys.exit(f"the job ended with {job.returncode} after {seen} rows:\n{said.read().decode()[-2000:]}")
            found = len(reader.consume(10_000, 0.05))
            if found:
                last_at = time.monotonic()
                seen += found
            if seen and not first and seen > rows // 10:
                first, first_at, first_cpu_s = seen, last_at, processor_s(job.pid)
        last_cpu_s = processor_s(job.pid)
    finally:
        os.killpg(job.pid, 9)
        job.wait()
        reader.close()
    return (seen - first) / (last_at - first_at), 1e6 * (last_cpu_s - first_cpu_s) / (seen - first)


if __name__ == "__main__":
    main()
