"""Composition root: the only file that picks concrete classes and starts a server."""

import gc
import multiprocessing
import signal
import socket
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import uvicorn

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.log import LABEL_UNKNOWN, MISSING, EventLog
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.model.registry import Registry
from sentinel.policy.deployment import DeploymentRecord
from sentinel.policy.judge import Limits
from sentinel.record.journal import Journal
from sentinel.record.snapshots import Snapshots
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import Lineup
from sentinel.serve.rollout import Rollout
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.vectors.score_cache import ScoreCache
from sentinel.serve.watch import Watch, drift_settings, shadow_settings
from sentinel.serve.worker import Worker
from sentinel.telemetry.counters import Counters, create_counters, open_counters
from sentinel.telemetry.logs import configure_logging
from sentinel.telemetry.tracing import open_tracer
from sentinel.transport.http.api import Api
from sentinel.transport.http.fast_lane import fast_lane
from sentinel.transport.http.routes import build

_SWITCH_INTERVAL_S = 0.0005
_LISTENERS = 16
"""The loop takes one new connection a turn from each. With one listener, those who come while turns are long wait."""


def limits_of(settings: Settings) -> Limits:
    """How long models may take."""
    return Limits(
        deadline_s=settings.circuit_threshold_ms / 1000,
        inject_latency_s=settings.inject_latency_ms / 1000,
        force_open=settings.force_circuit_open,
    )


def open_engine(settings: Settings, lineup: Lineup, counters: Counters, watch: Watch) -> Engine:
    """Open the journal and load the features' state. Raises SentinelError that says what is missing."""
    warm(lineup.champion.bundle.manifest.plan)
    journal = Journal(settings.journal)
    try:
        engine = Engine(
            lineup,
            journal,
            Snapshots(settings.snapshots),
            time.time_ns() // 1000,
            limits_of(settings),
            counters,
            settings.false_alarm_cost,
            watch.observe,
        )
    except BaseException:
        journal.close()
        raise
    gc.collect()
    gc.freeze()  # what is loaded now stays: the collector need not look at it again
    return engine


def warm(plan: FeaturePlan) -> None:
    """Have the kernel compiled, or loaded from its cache, before the first transaction."""
    schema = plan.schema
    MemoryStore(plan).advance(
        EventLog(
            is_outcome=np.zeros(1, np.uint8),
            ids=np.ones(1, np.uint64),
            time_us=np.zeros(1, np.int64),
            exact=np.full((1, len(schema.decimals)), MISSING, np.int64),
            plain=np.full((1, len(schema.numbers)), np.nan),
            texts=np.zeros((1, len(schema.texts)), np.uint64),
            labels=np.full(1, LABEL_UNKNOWN, np.int8),
        )
    )


def serve(settings: Settings) -> None:
    """Run the server until SIGTERM or Ctrl-C; then finish what has arrived and save the state."""
    if settings.workers == 1:
        run_worker(settings, Counters(), leads=True)
        return
    with tempfile.TemporaryDirectory(prefix="sentinel-", dir=_memory_folder()) as folder:
        counters = Path(folder) / "counters"
        create_counters(counters, settings.workers)
        _run_workers(settings, counters)


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of our own in it


def run_worker(settings: Settings, of_loop: Counters, *, leads: bool, listener: socket.socket | None = None) -> None:
    """One process: the event loop with the fast lane, and with the engine unless there are more processes."""
    configure_logging(style=settings.log_style)
    alone = listener is None
    listener = listener or _listen(settings)
    gc.set_threshold(20_000, 1_000, 50)  # requests make no circles, and looking through all that waits takes 0.1 s
    sys.setswitchinterval(_SWITCH_INTERVAL_S)  # the loop shares the interpreter with a few threads: hand over quickly
    of_engine, of_rollout = of_loop.for_thread(1), of_loop.for_thread(2)
    registry, record = Registry(settings.models), DeploymentRecord(settings.home)
    cache = ScoreCache(settings.cache_entries, settings.cache_ttl_s)
    predictor = Predictor(limits_of(settings), cache, settings.max_waiting, of_loop)
    worker = Worker(lambda: open_engine(settings, rollout.first_lineup(), of_engine, watch), settings.max_waiting)
    watch = Watch(
        settings.home, predictor, worker if alone else None, of_loop, drift_settings(settings.drift_window),
        shadow_settings(settings.shadow_scores), leads=leads,
    )  # fmt: skip
    rollout = Rollout(record, registry, predictor, watch.worker, of_rollout, watch.follow)
    watch.rollout = rollout
    if not alone:
        rollout.load_first()  # the others answer meanwhile
    api = Api(settings, predictor, watch.worker, open_tracer(settings.otlp_endpoint))
    config = uvicorn.Config(
        build(api, watch),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=fast_lane(api),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_level="warning",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    with listener:
        listener.setblocking(False)  # a copy that waits would have the other processes wait in `accept` too
        listeners = [listener.dup() for _ in range(_LISTENERS)]
    uvicorn.Server(config).run(sockets=listeners)


def _run_numbered(settings: Settings, counters: Path, number: int, listener: socket.socket) -> None:
    run_worker(settings, open_counters(counters, number), leads=number == 0, listener=listener)


def _run_workers(settings: Settings, counters: Path) -> None:
    """Several processes on one socket; one that dies is started again."""
    listener = _listen(settings)
    spawn = multiprocessing.get_context("spawn")
    stopping = False

    def start(number: int) -> BaseProcess:
        process = spawn.Process(target=_run_numbered, args=(settings, counters, number, listener))
        process.start()
        return process

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    processes = [start(number) for number in range(settings.workers)]
    while not stopping:
        time.sleep(0.2)
        for number, process in enumerate(processes):
            if not process.is_alive() and not stopping:
                time.sleep(0.5)
                processes[number] = start(number)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise InvalidDefinition(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listener.set_inheritable(True)
    return listener
