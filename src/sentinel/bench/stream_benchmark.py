"""`sentinel bench stream`: from a message in Kafka to its decision in Kafka, beside Quix Streams and Kafka alone."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from sentinel.bench.load_generator import at_random
from sentinel.bench.serving_benchmark import GENERATOR_CORE, HOST, SERVER_CORE, check_log, conditions
from sentinel.bench.serving_workloads import SCORE_DETECTOR, prepare_score
from sentinel.bench.stream_load import LINGER_MS, Answered, Outlet, Payment, open_loop
from sentinel.commands.live import bodies
from sentinel.commands.progress import Stage
from sentinel.commands.server_process import ServerProcess, apart, free_port
from sentinel.errors import SentinelError
from sentinel.record.kafka.connection import PATIENCE_S
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.topics import ALL, DECISIONS, TRANSACTIONS, create

WARM = 500  # messages before anything is measured
BEHIND_MS = 2_000
"""With more than this in the median a system does not keep up."""

GUARANTEES = {"at-least-once": "at least once", "exactly-once": "exactly once, committed every 0.1 s"}
_JOB = Path(__file__).parent / "quix" / "job.py"
_START_S = 240.0
_WEEK_MS = 7 * 86_400_000


class Plan(msgspec.Struct, frozen=True):
    """How much to measure: rates a second and seconds of each, and messages that are sent as fast as they are taken."""

    rates: tuple[int, ...] = (20, 1_000, 5_000, 10_000, 15_000)
    seconds: float = 10.0
    backlog: int = 50_000


QUICK = Plan(rates=(50, 1_000), seconds=3.0, backlog=10_000)


class StreamLoad(msgspec.Struct, frozen=True):
    """One rate: latencies in ms from when a message was due until its answer was read, NaN without answers."""

    rate: int
    messages: int
    missing: int
    repeated: int
    late_sends: float
    latency_ms: dict[str, float]


class Streamed(msgspec.Struct, frozen=True):
    """One system: what it promises, how many answers a second it gives out of a backlog, and its loads.

    The first load that it does not keep up with is its last. `messages` were sent in all.
    """

    name: str
    promises: str
    messages: int
    per_second: int
    backlog_missing: int
    loads: tuple[StreamLoad, ...]


class StreamReport(msgspec.Struct, frozen=True):
    """All systems of one run, and what was checked of our own decisions."""

    conditions: dict[str, Any]
    systems: tuple[Streamed, ...]
    decisions_stored: int
    scores_checked: int


def run_stream_benchmark(
    plan: Plan, servers: str, quix: Path | None, environment: Mapping[str, str], stage: Stage
) -> StreamReport:
    """Train, serve, load, check. `quix` is the interpreter of an environment with Quix Streams and ONNX Runtime.

    Raises SentinelError when a decision is missing, made twice or has a wrong score, or the machine is too small.
    """
    if len(os.sched_getaffinity(0)) < 2 or shutil.which("taskset") is None:
        raise SentinelError("the benchmark needs two processor cores and the program taskset (package util-linux)")
    connection = Connection.of(servers, f"bench-{token_hex(4)}-", environment)
    count = WARM + sum(round(rate * plan.seconds) for rate in plan.rates) + plan.backlog
    with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as folder, _topics(connection):
        home, rows = prepare_score(Path(folder), count, stage)
        named = zip(rows["transaction_id"], rows["card_id"], bodies(SCORE_DETECTOR.schema, rows), strict=True)
        payments = [Payment(*one) for one in named]
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {GENERATOR_CORE})
        try:
            return _measure(plan, connection, home, payments, quix, stage)
        finally:
            os.sched_setaffinity(0, before)


def _measure(
    plan: Plan, connection: Connection, home: Path, payments: list[Payment], quix: Path | None, stage: Stage
) -> StreamReport:
    bench = _Bench(plan, connection, payments, stage, 2 + (0 if quix is None else len(GUARANTEES)))
    echo = connection.topic("echo")
    systems = [bench.run("Kafka alone, in and read again", "at least once", echo, echo)]
    with _consuming(home, connection):
        into, out = connection.topic(TRANSACTIONS), connection.topic(DECISIONS)
        systems.append(bench.run("sentinel consume", "durable, exactly once", into, out))
    stored, checked = check_log(home)
    ours = systems[-1]
    if ours.backlog_missing or any(one.missing or one.repeated for one in ours.loads) or stored != ours.messages:
        raise SentinelError(f"{ours.messages:,} transactions went in and {stored:,} are in the log: {ours}")
    for guarantee, promises in GUARANTEES.items():
        if quix is None:
            break
        into, out = connection.topic(f"quix-{guarantee}-in"), connection.topic(f"quix-{guarantee}-out")
        with _quix(quix, guarantee, home, connection, into, out):
            systems.append(bench.run("Quix Streams", promises, into, out))
    about = {
        **conditions(),
        "features": "10 windows over two keys, 200 trees",
        "kafka": f"one broker on both cores, one partition, linger {LINGER_MS} ms",
    }
    return StreamReport(about, tuple(systems), stored, checked)


class _Bench:
    """Sends the same messages to one system after the other."""

    def __init__(self, plan: Plan, connection: Connection, payments: list[Payment], stage: Stage, systems: int) -> None:
        self._plan, self._connection, self._payments, self._stage = plan, connection, payments, stage
        self._of, self._done = systems * (len(plan.rates) + 1), 0

    def run(self, name: str, promises: str, into: str, out: str) -> Streamed:
        """Warm it, measure each rate, then how fast it works off what is there."""
        client = self._connection.client()
        producer = Producer({**client, "linger.ms": LINGER_MS, "queue.buffering.max.messages": 1_000_000})
        outlet = Outlet(client, out)
        try:
            taken = self._payments[:WARM]
            warm = open_loop(producer, into, taken, at_random(500, WARM, seed=1), outlet)
            if warm.missing:
                raise SentinelError(f"{name} left {warm.missing} of the first {WARM} messages without an answer")
            begin, loads = WARM, []
            for rate in self._plan.rates:
                taken = self._payments[begin : begin + round(rate * self._plan.seconds)]
                begin += len(taken)
                answered = open_loop(producer, into, taken, at_random(rate, len(taken), seed=rate), outlet)
                loads.append(_figures(rate, answered))
                self._tell()
                if loads[-1].missing or loads[-1].latency_ms["p50"] > BEHIND_MS:
                    break
            taken = self._payments[begin : begin + self._plan.backlog]
            backlog = open_loop(producer, into, taken, np.zeros(len(taken), np.int64), outlet)
            sent = begin + len(taken)
            self._tell()
        finally:
            outlet.close()
        return Streamed(name, promises, sent, round(backlog.per_second), backlog.missing, tuple(loads))

    def _tell(self) -> None:
        self._done += 1
        self._stage("measuring", self._done, self._of)


def _figures(rate: int, answered: Answered) -> StreamLoad:
    found = answered.latencies_ms if len(answered.latencies_ms) else np.array([np.nan])
    names, shares = ("p50", "p90", "p99", "p99_9", "most"), (50, 90, 99, 99.9, 100)
    latency = {name: round(float(np.percentile(found, one)), 2) for name, one in zip(names, shares, strict=True)}
    return StreamLoad(
        rate, len(answered.due_ns), answered.missing, answered.repeated, round(answered.late_sends, 4), latency
    )


class _Consuming(ServerProcess):
    """`sentinel consume` over a home that was made for the benchmark, on the server's core."""

    command = "consume"


@contextlib.contextmanager
def _consuming(home: Path, connection: Connection) -> Iterator[None]:
    environment = {
        **apart(), "SENTINEL_KAFKA": connection.servers, "SENTINEL_KAFKA_PREFIX": connection.prefix,
        "SENTINEL_LOG": "file",
    }  # fmt: skip
    server = _Consuming(home, HOST, free_port(HOST), core=SERVER_CORE, environment=environment)
    server.start()
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def _quix(python: Path, guarantee: str, home: Path, connection: Connection, into: str, out: str) -> Iterator[None]:
    """The job of Quix Streams on the server's core, once it reads."""
    given = {
        "servers": connection.servers, "group": f"{connection.prefix}quix-{guarantee}", "in": into, "out": out,
        "guarantee": guarantee,
        "state": str(home.parent / f"quix-{guarantee}"),
        "model": str(home / "models" / "v1" / "model.onnx"),
    }  # fmt: skip
    said = home.parent / "quix.log"
    with said.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            ["taskset", "--cpu-list", str(SERVER_CORE), python, _JOB, msgspec.json.encode(given).decode()],  # noqa: S607
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _wait_for_group(process, connection, given["group"], said)
            yield
        finally:
            process.terminate()
            process.wait()


def _wait_for_group(process: "subprocess.Popen[bytes]", connection: Connection, group: str, said: Path) -> None:
    """Wait until the job has its partitions."""
    admin, until_s = AdminClient(connection.client()), time.monotonic() + _START_S
    while time.monotonic() < until_s and process.poll() is None:
        found = admin.describe_consumer_groups([group], request_timeout=PATIENCE_S)[group].result()
        if any(member.assignment.topic_partitions for member in found.members):
            return
        time.sleep(0.2)
    raise SentinelError(f"Quix Streams did not begin to read; it said:\n{said.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def _topics(connection: Connection) -> Iterator[None]:
    """Topics of this run's own, and of all that was made beside them; they are deleted at the end."""
    create(
        connection,
        [*ALL, "echo", *(f"quix-{one}-{way}" for one in GUARANTEES for way in ("in", "out"))],
        1,
        -1,
        _WEEK_MS,
    )
    try:
        yield
    finally:
        admin = AdminClient(connection.client())
        ours = [name for name in admin.list_topics(timeout=PATIENCE_S).topics if connection.prefix in name]
        for done in admin.delete_topics(ours).values():
            done.result(PATIENCE_S)
