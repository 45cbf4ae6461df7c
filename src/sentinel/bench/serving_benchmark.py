"""`sentinel bench serve`: how fast decisions come over HTTP, beside what nginx does on the same core."""

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sentinel.bench.load_generator import Load, Requests, Target, at_random, closed_loop, open_loop
from sentinel.bench.serving_workloads import Workloads, prepare
from sentinel.commands.progress import Stage
from sentinel.commands.server_process import ServerProcess, apart, free_port, port_is_free
from sentinel.errors import SentinelError
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import log_folder
from sentinel.record.entries import batches_of
from sentinel.record.log import Follower
from sentinel.record.log_reader import FileLogReader

HOST = "127.0.0.1"
SERVER_CORE, GENERATOR_CORE = 0, 1
CONNECTIONS = 64
KEPT = 2_000
_CHECKED = 10_000  # decisions whose score is computed again


class Plan(msgspec.Struct, frozen=True):
    """How much to measure: seconds of each load, how often each is repeated, rates of the open loops in 1/s."""

    seconds: float = 4.0
    repeats: int = 3
    predict_rates: tuple[int, ...] = (5_000, 10_000, 20_000, 30_000, 40_000)
    score_rates: tuple[int, ...] = (1_000, 3_000, 5_000, 10_000, 15_000, 20_000)


QUICK = Plan(seconds=1.0, repeats=1, predict_rates=(2_000, 10_000), score_rates=(1_000, 3_000))


class Measured(msgspec.Struct, frozen=True):
    """One load: medians over its repeats. `server_cpu` is the share of its core that the server used.

    `rate` is what was offered in an open loop. The figures are those of `Load.figures`.
    """

    name: str
    connections: int
    rate: int | None
    server_cpu: float
    figures: dict[str, float]


class ServingReport(msgspec.Struct, frozen=True):
    """All loads of one run, what was checked, and the ratios to nginx (None without nginx)."""

    conditions: dict[str, Any]
    loads: tuple[Measured, ...]
    nginx_version: str | None
    ratio_hot: float | None
    ratio_distinct: float | None
    scores_checked: int
    decisions_stored: int
    generator_is_limit: tuple[str, ...]


def run_serving_benchmark(plan: Plan, stage: Stage) -> ServingReport:
    """Train, serve, load, check. Needs two cores and `taskset`; nginx is measured when it is installed.

    Raises SentinelError when a score is wrong, a decision is missing from the log, or the machine is too small.
    """
    if len(os.sched_getaffinity(0)) < 2 or shutil.which("taskset") is None:
        raise SentinelError("the benchmark needs two processor cores and the program taskset (package util-linux)")
    with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as folder:
        work = prepare(Path(folder), round(_score_requests(plan)), stage)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {GENERATOR_CORE})
        try:
            return _measure(plan, work, Path(folder), stage)
        finally:
            os.sched_setaffinity(0, before)


def _score_requests(plan: Plan) -> float:
    """Transactions must all differ, so there have to be as many as could be asked for."""
    closed = 2 * 45_000 * plan.seconds + 2_000
    return plan.repeats * (closed + sum(plan.score_rates) * plan.seconds)


class _Runs:
    """Loads by name, in the order in which they were first run."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        self.plan = plan
        self.found: dict[str, list[tuple[Load, float, int, int | None]]] = {}
        self._stage = stage
        self._total = plan.repeats * (8 + len(plan.predict_rates) + len(plan.score_rates))
        self._done = 0

    def closed(self, name: str, port: int, pid: int, requests: Requests, connections: int) -> Load:
        count = len(requests.starts) - 1 if name.startswith("score") else 10_000_000
        return self._run(
            name, pid, connections, None,
            lambda: closed_loop(
                Target(HOST, port, connections), requests, count, seconds=self.plan.seconds, keep=KEPT
            ),
        )  # fmt: skip

    def open(self, name: str, port: int, pid: int, requests: Requests, rate: int) -> Load:
        due = at_random(rate, round(rate * self.plan.seconds), seed=rate)
        return self._run(
            name, pid, CONNECTIONS, rate, lambda: open_loop(Target(HOST, port, CONNECTIONS), requests, due)
        )

    def _run(self, name: str, pid: int, connections: int, rate: int | None, load: Callable[[], Load]) -> Load:
        begun, cpu = time.perf_counter(), cpu_seconds(pid)
        found = load()
        share = (cpu_seconds(pid) - cpu) / (time.perf_counter() - begun)
        self.found.setdefault(name, []).append((found, share, connections, rate))
        self._done += 1
        self._stage("measuring", self._done, self._total)
        return found

    def medians(self) -> tuple[Measured, ...]:
        return tuple(_median(name, runs) for name, runs in self.found.items())


def _median(name: str, runs: Sequence[tuple[Load, float, int, int | None]]) -> Measured:
    figures = [load.figures() for load, _, _, _ in runs]
    return Measured(
        name=name,
        connections=runs[0][2],
        rate=runs[0][3],
        server_cpu=round(statistics.median(share for _, share, _, _ in runs), 2),
        figures={
            key: (sum if key in ("refused", "errors") else statistics.median)(one[key] for one in figures)
            for key in figures[0]
        },
    )


def _measure(plan: Plan, work: Workloads, folder: Path, stage: Stage) -> ServingReport:
    runs = _Runs(plan, stage)
    checked, accepted = 0, 0
    score_port, vector_port = free_port(HOST), free_port(HOST)
    taken = 0
    for _ in range(plan.repeats):
        with nginx(folder, work.constant_answer) as (port, pid):
            if port:
                runs.closed("nginx constant answer", port, pid, work.distinct, CONNECTIONS)
        with served(work.vector_home, vector_port) as server:
            port, pid = server.port, server.pid
            closed_loop(Target(HOST, port, CONNECTIONS), work.distinct, 5_000)  # warm
            runs.closed("predict hot", port, pid, work.hot, CONNECTIONS)
            runs.closed("predict mixed 80:20", port, pid, work.mixed, CONNECTIONS)
            distinct = runs.closed("predict distinct", port, pid, work.distinct, CONNECTIONS)
            checked += _check_scores(work, distinct)
            runs.closed("predict distinct, 1 connection", port, pid, work.distinct, 1)
            for rate in plan.predict_rates:
                runs.open(f"predict distinct at {rate:,}/s", port, pid, work.distinct, rate)
        with served(work.score_home, score_port) as server:
            port, pid = server.port, server.pid
            for name, connections in (
                ("score, 1 connection", 1), ("score, 64 connections", 64), ("score, 256 connections", 256)
            ):  # fmt: skip
                load = runs.closed(name, port, pid, work.transactions(taken), connections)
                taken += len(load.statuses)
                accepted += int(np.count_nonzero(load.accepted))
            for rate in plan.score_rates:
                load = runs.open(f"score at {rate:,}/s", port, pid, work.transactions(taken), rate)
                taken += len(load.statuses)
                accepted += int(np.count_nonzero(load.accepted))
    stored, scores = check_log(work.score_home)
    if stored < accepted:
        raise SentinelError(f"{accepted:,} transactions were answered but {stored:,} are in the log")
    return _report(runs.medians(), checked + scores, stored)


def _report(loads: tuple[Measured, ...], checked: int, stored: int) -> ServingReport:
    by_name = {one.name: one for one in loads}
    ceiling = by_name.get("nginx constant answer")

    def ratio(name: str) -> float | None:
        return round(by_name[name].figures["per_second"] / ceiling.figures["per_second"], 3) if ceiling else None

    return ServingReport(
        conditions=conditions(),
        loads=loads,
        nginx_version=_nginx_version(),
        ratio_hot=ratio("predict hot"),
        ratio_distinct=ratio("predict distinct"),
        scores_checked=checked,
        decisions_stored=stored,
        generator_is_limit=tuple(
            one.name
            for one in loads
            if (one.rate is None and one.connections > 1 and one.server_cpu < 0.9 and one.figures["busy"] > 0.97)
            or one.figures["late_sends"] > 0.01
        ),
    )


def _check_scores(work: Workloads, load: Load) -> int:
    """Compare the kept answers with the model asked offline, bit for bit."""
    scorer = load_bundle(Registry(work.vector_home / "models").path("v1")).scorer
    indices = sorted(load.bodies)
    expected = scorer.score(work.vectors[[i % len(work.vectors) for i in indices]]).tolist()
    for i, score in zip(indices, expected, strict=True):
        found = msgspec.json.decode(load.bodies[i])
        if found["fraud_probability"] != score:
            raise SentinelError(f"vector {i} was scored {found['fraud_probability']!r}, the model says {score!r}")
    return len(indices)


def check_log(home: Path) -> tuple[int, int]:
    """How many decisions a home has, and of how many of the first ones the model was asked again, bit for bit.

    Raises SentinelError where it gives another score.
    """
    log = FileLogReader(log_folder(home))
    scorer = load_bundle(Registry(home / "models").path("v1")).scorer
    stored = checked = 0
    for page in Follower(log, 0).rest():
        for _, decided in batches_of(page):
            stored += len(decided.ids)
            if checked >= _CHECKED:
                continue
            scores, by = np.frombuffer(decided.scores, "<f8"), np.frombuffer(decided.by, np.uint8)
            for number, decider in enumerate(decided.deciders):
                features = np.frombuffer(decided.features[number], "<f8").reshape(-1, decider.features)
                if decider.degraded is None and scorer.score(features).tolist() != scores[by == number].tolist():
                    raise SentinelError("a stored decision has another score than the model gives its stored features")
                checked += len(features)
    log.close()
    return stored, checked


@contextlib.contextmanager
def served(home: Path, port: int) -> Iterator[ServerProcess]:
    """A server over a home that was made for the benchmark, on the server's core."""
    server = ServerProcess(home, HOST, port, core=SERVER_CORE, environment=apart())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def nginx(folder: Path, answer: bytes) -> Iterator[tuple[int, int]]:
    """One nginx worker on the server's core that answers every request with the same bytes: its port and process id.

    Both are 0 where nginx is not installed.
    """
    program = shutil.which("nginx")
    if program is None:
        yield 0, 0
        return
    port = free_port(HOST)
    settings = folder / "nginx.conf"
    quoted = answer.decode().replace("'", "")
    settings.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        f"events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; keepalive_requests 100000000; default_type application/json;\n"
        f"server {{ listen {HOST}:{port}; location / {{ return 200 '{quoted}'; }} }} }}\n"
    )
    process = subprocess.Popen(  # noqa: S603
        ["taskset", "--cpu-list", str(SERVER_CORE), program, "-c", str(settings), "-p", str(folder)],  # noqa: S607
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 10
        while port_is_free(HOST, port) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if process.poll() is not None:
            raise SentinelError(f"nginx ended at once; see {folder}/nginx.log")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def _nginx_version() -> str | None:
    program = shutil.which("nginx")
    if program is None:
        return None
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    return told.strip().rpartition("/")[2]


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def conditions() -> dict[str, Any]:
    """Date, machine and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "unknown")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores of {model}, {os.uname().sysname} {os.uname().release.split('-')[0]}",
        "cores": {"server": SERVER_CORE, "generator": GENERATOR_CORE},
    }
