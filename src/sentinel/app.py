"""Composition root: the only file that picks concrete classes and starts a server."""

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvicorn
from starlette.types import ASGIApp

from sentinel.child_process import REFUSED, Crew, die_with_parent
from sentinel.config import Settings, age_us
from sentinel.errors import BundleProblem, InvalidDefinition, SentinelError, StorageProblem
from sentinel.events.card_numbers import masked
from sentinel.events.columns import Outcome, columns_of_outcomes
from sentinel.events.reader import TransactionReader
from sentinel.events.secrets import known_keys
from sentinel.events.times import clock_us, duration_us
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.homes import Place, homes_in, tenants_in
from sentinel.model.bundle import read_manifest
from sentinel.model.open_registry import open_registry
from sentinel.model.registry import Registry
from sentinel.model.signing import read_trusted_keys
from sentinel.policy.deployment import Deployment
from sentinel.policy.model_call import Limits
from sentinel.policy.retraining import Triggers
from sentinel.record.applied import Change, HomeDeployment, deployment_in, log_folder
from sentinel.record.archive.place import open_archive
from sentinel.record.audit import SENTINEL, By
from sentinel.record.coverage import Coverage
from sentinel.record.file_log import FileLog
from sentinel.record.home_log import HomeLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.kafka.place import Place as KafkaPlace
from sentinel.record.kafka.place import topics_of
from sentinel.record.log import Log
from sentinel.record.private import keep_private, mend_modes
from sentinel.record.pruning import Retention
from sentinel.record.rotation import note_rotation
from sentinel.record.set_aside import SetAside
from sentinel.record.snapshots import Snapshots
from sentinel.record.subjects import SubjectKeys
from sentinel.record.views.place import ViewPlace
from sentinel.record.written.occurrences import Condition
from sentinel.review.cases.deadlines import read_deadlines
from sentinel.review.drift import DriftSettings
from sentinel.serve.archiver_process import ArchiverProcess
from sentinel.serve.case_opener_process import CaseOpenerProcess
from sentinel.serve.engine import Engine
from sentinel.serve.held_reviews import HeldReviews
from sentinel.serve.lineup import Lineup
from sentinel.serve.log_keeper import LogKeeper
from sentinel.serve.log_needs import log_needs
from sentinel.serve.messenger_process import MessengerProcess
from sentinel.serve.notifier import Notifier, conditions_of
from sentinel.serve.observers import Observers
from sentinel.serve.online_process import OnlineProcess
from sentinel.serve.ownership import Ownership
from sentinel.serve.projector_process import ProjectorProcess
from sentinel.serve.reasons_process import ReasonsProcess
from sentinel.serve.retrainer import Retrainer, Work
from sentinel.serve.review_timeouts import ReviewTimeouts
from sentinel.serve.rollout import Rollout
from sentinel.serve.snapshotter_process import SnapshotterProcess
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.vectors.score_cache import ScoreCache
from sentinel.serve.watch import Children, Watch
from sentinel.serve.worker import Worker
from sentinel.shadow.settings import ShadowSettings
from sentinel.shadow.supervisor import ShadowSupervisor
from sentinel.telemetry.counters import Counters, create_counters, open_counters
from sentinel.telemetry.logs import configure_logging
from sentinel.telemetry.tracing import open_tracer
from sentinel.transport.access.access import Access
from sentinel.transport.http.api import Api, usual_ns
from sentinel.transport.http.companion import Companion
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.routes import Served, build
from sentinel.transport.http.wire.connection import connections
from sentinel.transport.http.wire.listening import Listening, most_connections
from sentinel.transport.http.wire.room import Room
from sentinel.transport.messages.destinations import destinations_of

if TYPE_CHECKING:  # its client is an extra
    from sentinel.record.kafka.home import HomeKafkaLog
    from sentinel.transport.kafka.reading import ReadingKafka

_log = logging.getLogger(__name__)
_SWITCH_INTERVAL_S = 0.0005
_LOOK_S = 0.2
_LISTENERS = 16
"""The loop takes one new connection a turn from each. With one listener, new connections wait while turns are long."""


def limits_of(settings: Settings) -> Limits:
    """How long models may take."""
    return Limits(
        deadline_s=settings.circuit_threshold_ms / 1000,
        inject_latency_s=settings.inject_latency_ms / 1000,
        force_open=settings.force_circuit_open,
    )


def retention_of(settings: Settings) -> Retention:
    """For how long the log is kept."""
    return Retention(age_us(settings.keep_log), duration_us(settings.remember_ids), settings.archive)


def open_engine(settings: Settings, log: Log, lineup: Lineup, counters: Counters) -> Engine:
    """Open the id index and load the features' state. Raises SentinelError that says what is missing."""
    plan = lineup.champion.bundle.manifest.plan
    TransactionReader(plan.schema, settings.secrets())  # or there is no key
    warm(plan)
    subjects = SubjectKeys(settings.home)
    if plan.schema.personal:
        subjects.prepare()
    journal = Journal(log, IdIndex(settings.home / "ids", log), subjects)
    set_aside = SetAside(log_folder(settings.home))
    try:
        snapshots = Snapshots(settings.snapshots)
        engine = Engine(
            lineup, journal, snapshots, limits_of(settings), counters, set_aside.note, known_keys(settings.home)
        )
        journal.forget_before(log.first_after(time.time_ns() // 1000 - retention_of(settings).remember_us))
    except BaseException:
        journal.close()
        raise
    _warn_of_gaps(settings, log, lineup, engine)
    gc.collect()
    gc.freeze()  # what is loaded now stays: the collector need not look at it again
    return engine


def _warn_of_gaps(settings: Settings, log: Log, lineup: Lineup, engine: Engine) -> None:
    """Say what the features lack: the time since the history, and tables without rows."""
    manifest = lineup.champion.bundle.manifest
    gap = Coverage(log).gap(manifest, clock_us())
    if gap is not None:
        _log.warning("detector %s (%s): %s", manifest.detector, settings.home, gap)
    for name, table in manifest.plan.schema.tables.items():
        if len(engine.tables.tables.of(name, table.kind)) == 0:
            _log.warning(
                "detector %s (%s): the table %s has no rows; `sentinel tables load %s FILE` brings them",
                manifest.detector, settings.home, name, name,
            )  # fmt: skip


def warm(plan: FeaturePlan) -> None:
    """Have the kernel compiled, or loaded from its cache, before the first transaction."""
    warming = Outcome("warm-up", is_fraud=False, time_us=0)
    MemoryStore(plan).advance(columns_of_outcomes(plan.schema, [warming], 0))


def serve(settings: Settings) -> None:
    """Run the server until SIGTERM or Ctrl-C; then finish what has arrived and have the state saved."""
    _registry(settings)  # a trusted-keys file without a key is refused before anything is opened
    Triggers.of(settings.retrain, settings.retrain_on)
    places = homes_in(settings.home)
    if settings.workers == 1:
        run_worker(settings, {place: Counters() for place in places}, leads=True)
        return
    with tempfile.TemporaryDirectory(prefix="sentinel-", dir=_memory_folder()) as folder:
        counters = {place: Path(folder) / f"counters-{n}" for n, place in enumerate(places)}
        for path in counters.values():
            create_counters(path, settings.workers)
        _run_workers(settings, counters)


def consume(settings: Settings) -> None:
    """The same as `serve`, and what comes in through Kafka is decided as well, by the detector without a name.

    Raises StorageProblem for topics that do not fit.
    """
    if settings.workers != 1:
        raise InvalidDefinition("consume needs workers=1: several processes share no features")
    try:
        from sentinel.transport.kafka.reading import ReadingKafka  # only who reads Kafka needs the library
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka]'") from error
    _registry(settings)
    if settings.fronts:
        settings.fronts_keys()  # without it nobody's answer could be taken
    reading = ReadingKafka(settings)
    Triggers.of(settings.retrain, settings.retrain_on)
    places = homes_in(settings.home)
    if settings.log == "kafka" and len(places) > 1:
        raise InvalidDefinition(
            f"{settings.home} has several detectors or tenants, and a standby takes over one log: give consume a home "
            "with one detector, and serve the others by themselves"
        )
    run_worker(settings, {place: Counters() for place in places}, leads=True, reading=reading)


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of our own in it


def prepare_process(settings: Settings) -> None:
    """What a process that serves needs: its log, and an interpreter that does not stop for long."""
    configure_logging(settings.log_level, settings.log_style, settings.log_to, masked)
    gc.set_threshold(20_000, 1_000, 50)  # requests make no circles, and looking through all that waits takes 0.1 s
    sys.setswitchinterval(_SWITCH_INTERVAL_S)  # the loop shares the interpreter with a few threads: hand over quickly


def run_worker(
    settings: Settings, counters: Mapping[Place, Counters], *, leads: bool, listener: socket.socket | None = None,
    reading: "ReadingKafka | None" = None,
) -> None:  # fmt: skip
    """One process: the event loop with the fast lane, and with logs and engines unless there are more processes.

    `counters` has every detector that is served. `reading` makes what reads beside HTTP, for the one without a name.
    """
    prepare_process(settings)
    folders = homes_in(settings.home)
    homes = {place: _settings_of(settings, place, folders[place]) for place in counters}
    if listener is not None:
        watches = {place: _scoring_vectors(one, counters[place], guards=leads) for place, one in homes.items()}
        _run(homes, watches, listener)
        return
    keep_private()
    _refuse_older(settings.home)
    listener = listen(settings)
    with contextlib.ExitStack() as opened:
        watches = {}
        for place, one in homes.items():
            try:
                of_it = reading if place == Place() else None
                watches[place] = _opened(place, one, counters[place], opened, of_it)
            except SentinelError as error:
                if place == Place():
                    raise
                _log.error("%s is not served: %s", place, error)  # the others are
        _run(homes, watches, listener, reading)


def _settings_of(settings: Settings, place: Place, home: Path) -> Settings:
    """The settings of one detector: one without a name alone is retrained by the server."""
    if place == Place():
        return settings
    return msgspec.structs.replace(settings, home=home, retrain=None, retrain_on=())


def _opened(
    place: Place, settings: Settings, counters: Counters, opened: contextlib.ExitStack, reading: "ReadingKafka | None"
) -> Watch:
    """One detector, with its log open until the end. Raises SentinelError when it cannot be served."""
    _refuse_older(settings.home)
    mend_modes(settings.home)
    stands_by = reading is not None and settings.log == "kafka"
    log = _log_in_kafka(settings, stands_by=stands_by) if settings.log == "kafka" else _log_in_files(settings)
    opened.callback(log.close)
    log.publish_url(settings.url + place.prefix, place.tenant)
    secrets = settings.secrets()

    def note_key() -> None:
        note_rotation(log, secrets, time.time_ns() // 1000)

    if reading is not None and stands_by:
        return _deciding(settings, counters, log, reading.ownership(log, note_key))
    note_key()
    return _deciding(settings, counters, log, None)


def _log_in_files(settings: Settings) -> HomeLog:
    log = HomeLog.open(log_folder(settings.home), time.time_ns() // 1000)
    log.start_upkeep()
    return log


def _log_in_kafka(settings: Settings, *, stands_by: bool) -> "HomeKafkaLog":
    """The topics have to keep what the settings say is kept. Raises InvalidDefinition without the extra `kafka`."""
    try:
        home_in_kafka = import_module("sentinel.record.kafka.home")
    except ImportError as error:
        raise InvalidDefinition(
            "SENTINEL_LOG=kafka needs the extra kafka: pip install sentinel-fraud[kafka]"
        ) from error
    place = KafkaPlace(settings.kafka or "", (settings.kafka_prefix or "") + topics_of(settings.home))
    kept = [age_us(settings.keep_log), duration_us(settings.remember_ids)]
    keep_us = None if None in kept else max(one for one in kept if one is not None)
    kind = home_in_kafka.HomeStandbyLog if stands_by else home_in_kafka.HomeKafkaLog
    log: HomeKafkaLog = kind(settings.home, place, keep_us, time.time_ns() // 1000)
    return log


def _refuse_older(home: Path) -> None:
    """Raise StorageProblem for a home folder of a version without a log."""
    older = [name for name in ("journal.db", "deployment.json") if (home / name).exists()]
    if older:
        raise StorageProblem(
            f"{home} is of an older version of Sentinel ({', '.join(older)}), which this one cannot read; "
            "serve a fresh --home, and train there"
        )


def _refuse_without_key(settings: Settings, champion: str | None) -> None:
    """Raise InvalidDefinition where the champion's schema declares secrets and no key is given, or a wrong one."""
    secrets = settings.secrets()
    with contextlib.suppress(BundleProblem, StorageProblem):  # which is told while the server runs
        if champion is not None:
            TransactionReader(read_manifest(_registry(settings).path(champion)).plan.schema, secrets)


def _deciding(
    settings: Settings, of_loop: Counters, log: "FileLog | HomeKafkaLog", ownership: Ownership | None
) -> Watch:
    """What decides transactions, and vectors: all of it in this process."""
    _refuse_without_key(settings, deployment_in(log).champion)
    of_engine, of_rollout = of_loop.for_thread(1), of_loop.for_thread(2)
    observers = _observers(settings, log)

    async def change(how: Change, by: By = SENTINEL) -> Deployment:
        return worker.apply(how, by)

    rollout = Rollout(
        lambda: deployment_in(log), change, _registry(settings), of_rollout, inline_shadow=settings.shadow_inline
    )
    worker = Worker(
        log,
        lambda: open_engine(settings, log, rollout.first_lineup(), of_engine),
        settings.max_waiting,
        usual_ns(settings),
        ownership,
    )
    predictor = _predictor(settings, of_loop, observers)
    keys = settings.trusted_keys_file
    shadow = ShadowSupervisor(
        settings.home,
        ShadowSettings(keep_scores=settings.shadow_scores, trusted_keys_file=None if keys is None else str(keys)),
    )
    snapshotter = SnapshotterProcess(settings.home, log, settings.snapshot_every, settings.last_snapshot_s, keys)
    view = ViewPlace(settings.home, settings.database_url)
    sends = bool(destinations_of(settings))
    needs = log_needs(settings.database_url, opens_cases=settings.cases, tells_others=sends)
    keeper = LogKeeper(settings.home, log, retention_of(settings), view, needs) if isinstance(log, FileLog) else None
    projector = ProjectorProcess(settings.home, log, view, settings.database_url)
    reasons = ReasonsProcess(settings.home, log, worker, keys) if settings.reasons else None
    online = None if settings.redis_url is None else OnlineProcess(settings.home, log, settings.redis_url, keys)
    archiver = _archiver(settings, log)
    retrainer = _retrainer(settings, log)

    def conditions() -> list[Condition]:
        return conditions_of(settings.home, worker, rollout, observers.drift_report, projector.lag, retrainer)

    quiet_us = duration_us(settings.notify_quiet)
    notifier = Notifier(settings.home, settings.database_url, quiet_us, conditions) if sends else None
    children = Children(
        shadow, projector, snapshotter, keeper, retrainer, reasons, online, archiver,
        ReviewTimeouts(view, HeldReviews(settings.home, settings.database_url, view) if settings.cases else None),
        _case_opener(settings, log), MessengerProcess(settings.home) if sends else None, notifier,
    )  # fmt: skip
    return Watch(rollout, predictor, worker, observers, children, of_loop, guards=True)


def _case_opener(settings: Settings, log: Log) -> CaseOpenerProcess | None:
    """What opens cases, where that is wanted. Raises InvalidDefinition for deadlines that cannot be meant."""
    read_deadlines(settings.case_deadlines)
    if not settings.cases:
        return None
    return CaseOpenerProcess(
        settings.home, log, settings.database_url, settings.cases_by, settings.case_deadlines, settings.keep_cases
    )


def _archiver(settings: Settings, log: Log) -> ArchiverProcess | None:
    """What puts the log elsewhere, where that is wanted. Raises InvalidDefinition for what cannot be an archive."""
    if settings.archive is None:
        return None
    if not isinstance(log, FileLog):
        raise InvalidDefinition("SENTINEL_ARCHIVE is for a log of files; Kafka keeps its topic: unset SENTINEL_ARCHIVE")
    open_archive(settings.archive, settings.home)
    return ArchiverProcess(
        settings.home,
        log,
        settings.archive,
        settings.keep_archive_us,
        retention_of(settings).keep_us,
        settings.last_snapshot_s,
    )


def _retrainer(settings: Settings, log: Log) -> Retrainer | None:
    """What has new models trained, where that is wanted."""
    triggers = Triggers.of(settings.retrain, settings.retrain_on)
    work = Work(
        settings.retrain_detector, settings.retrain_data, settings.retrain_memory_mb, settings.retrain_warm_start
    )  # fmt: skip
    return Retrainer(settings.home, log, triggers, work) if triggers.wanted else None


def _scoring_vectors(settings: Settings, of_loop: Counters, *, guards: bool) -> Watch:
    """What scores vectors, in one process of several."""
    deployment = HomeDeployment(settings.home)

    async def change(how: Change, by: By = SENTINEL) -> Deployment:
        return await asyncio.to_thread(deployment.change, how, by)

    rollout = Rollout(deployment.read, change, _registry(settings), of_loop.for_thread(2))
    rollout.load_first()  # the others answer meanwhile
    observers = _observers(settings, None)
    return Watch(rollout, _predictor(settings, of_loop, observers), None, observers, None, of_loop, guards=guards)


def _registry(settings: Settings) -> Registry:
    return open_registry(settings.models_folder, settings.models, read_trusted_keys(settings.trusted_keys_file))


def _predictor(settings: Settings, counters: Counters, observers: Observers) -> Predictor:
    cache = ScoreCache(settings.cache_entries, settings.cache_ttl_s)
    return Predictor(limits_of(settings), cache, settings.max_waiting, counters, observers.observe)


def _observers(settings: Settings, log: Log | None) -> Observers:
    drift = msgspec.structs.replace(DriftSettings(), window=settings.drift_window)
    return Observers(log, drift, settings.circuit_threshold_ms / 1000, settings.false_alarm_cost)


def _run(
    homes: Mapping[Place, Settings], watches: Mapping[Place, Watch], listener: socket.socket,
    reading: "ReadingKafka | None" = None,
) -> None:  # fmt: skip
    """Serve HTTP until the process is told to end."""
    settings = homes[Place()]
    tenants = tenants_in({place: one.home for place, one in homes.items()})
    access = Access(settings, watches[Place()].counters, tenants)
    if settings.needs_keys and not access.has_keys:
        _log.warning("nobody has a key yet, so nothing but health is answered; `sentinel keys create` makes one")
    apis = {
        place: Api(homes[place], one.predictor, one.worker, homes[place].secrets()) for place, one in watches.items()
    }
    tracer, away = open_tracer(settings.otlp_endpoint), homes.keys() - watches.keys()
    detectors = Detectors(settings, access, tracer, apis, away)
    own = apis[Place()]
    streams = None if reading is None else reading.streams(own, own.deciding().log, tracer)
    served = {
        place: Served(apis[place], one, homes[place].home, streams if place == Place() else None)
        for place, one in watches.items()
    }
    beside: list[Companion] = []
    if settings.transactions_to == "kafka" and own.worker is not None:
        beside.append(_handing_in(settings, own, decides=streams is not None))
    run_http(settings, listener, detectors, build(detectors, served, beside), len(homes))


def run_http(
    settings: Settings, listener: socket.socket, detectors: Detectors, application: ASGIApp, homes: int = 1
) -> None:
    """Have these detectors answer on a socket until the process is told to end."""
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=connections(  # type: ignore[arg-type]
            detectors, Room(most_connections(settings, homes)), _tls_of(settings)
        ),
        ws="none",
        lifespan="on",
        log_level="warning",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who asks is who is connected: what a proxy says could be anyone's word
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    with listener:
        listener.setblocking(False)  # a copy that waits would have the other processes wait in `accept` too
        Listening(config, listener).run(sockets=[listener.dup() for _ in range(_LISTENERS)])


def _handing_in(settings: Settings, api: Api, *, decides: bool) -> Companion:
    """What puts transactions into their topic. Raises InvalidDefinition, without the extra `kafka` too."""
    if settings.log == "kafka" and not decides:
        raise InvalidDefinition(
            "SENTINEL_TRANSACTIONS_TO=kafka hands transactions to whoever reads the topic, and a server of the log in "
            "Kafka is the only one that may; start it with `sentinel consume`"
        )
    try:
        from sentinel.transport.kafka.decisions_seen import DecisionsSeen  # only who hands in there needs the library
        from sentinel.transport.kafka.handing_in import HandingIn
        from sentinel.transport.kafka.streams import connection_of
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka]'") from error
    connection = connection_of(settings)
    topic = HandingIn(connection, api, None if decides else DecisionsSeen(connection))
    api.topic = topic
    return topic


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    """What connections are secured with; None without a certificate. Raises InvalidDefinition."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        tls.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise InvalidDefinition(
            f"tls_certificate {settings.tls_certificate} and tls_key {settings.tls_key} cannot be used: {error}; give "
            "PEM files that belong together"
        ) from error
    return tls


def _run_numbered(
    settings: Settings, counters: Mapping[Place, Path], number: int, listener: socket.socket, parent: int
) -> None:
    """One of several processes. It ends with its parent, which alone could start it again."""
    if not die_with_parent(parent)():
        return
    try:
        opened = {place: open_counters(path, number) for place, path in counters.items()}
        run_worker(settings, opened, leads=number == 0, listener=listener)
    except SentinelError as error:
        _log.error("%s", error)
        sys.exit(REFUSED)


def _run_workers(settings: Settings, counters: Mapping[Place, Path]) -> None:
    """Several processes on one socket; one that dies is started again."""
    configure_logging(settings.log_level, settings.log_style, settings.log_to, masked)
    for home in homes_in(settings.home).values():
        mend_modes(home)
    listener = listen(settings)
    spawn = multiprocessing.get_context("spawn")
    stopping = False

    def start(number: int) -> BaseProcess:
        process = spawn.Process(target=_run_numbered, args=(settings, counters, number, listener, os.getpid()))
        process.start()
        return process

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    crew = Crew(start, settings.workers, time.monotonic())
    while not stopping:
        time.sleep(_LOOK_S)
        crew.look(time.monotonic())
    crew.stop()


def listen(settings: Settings) -> socket.socket:
    """The socket that a server takes connections from. Raises InvalidDefinition where that is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise InvalidDefinition(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listener.set_inheritable(True)
    return listener
