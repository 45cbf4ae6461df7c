"""Composes a wide front: what is in force, Redis, the topic `transactions`, and the connections before them."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import msgspec

from sentinel.app import limits_of, listen, prepare_process, run_http
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.events.times import duration_us
from sentinel.homes import Place
from sentinel.model.open_registry import open_registry
from sentinel.model.signing import read_trusted_keys
from sentinel.policy.deployment import Deployment
from sentinel.policy.model_call import ModelCaller
from sentinel.record.home_reader import open_log
from sentinel.record.kafka.place import Place as KafkaPlace
from sentinel.record.kafka.place import topics_of
from sentinel.record.log import LogReader
from sentinel.record.online.fronts import FrontStore
from sentinel.record.online.place import REDIS, open_online
from sentinel.record.snapshots import Snapshots
from sentinel.serve.ledger import Ledger
from sentinel.serve.lineup import load_lineup
from sentinel.telemetry.counters import Counters
from sentinel.telemetry.tracing import open_tracer
from sentinel.transport.access.access import Access
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.wide.application import FrontPages, application_of
from sentinel.transport.wide.calls import FrontCalls
from sentinel.transport.wide.following import Following
from sentinel.transport.wide.front import Front
from sentinel.transport.wide.judging import AsOfJudge, KnownLists
from sentinel.transport.wide.seal import Seal
from sentinel.transport.wide.sufficing import check_profiles_suffice

_log = logging.getLogger(__name__)
_CALLS_AT_ONCE = 4  # to Redis
_SHARE_OF_DEADLINE = 4
_PATIENCE_S = 5.0  # with the brokers, for a message


def serve_front(settings: Settings) -> None:
    """Answer transactions from the profiles in Redis until SIGTERM or Ctrl-C.

    Raises InvalidDefinition for settings or a detector that do not fit, BundleProblem without a model, StorageProblem
    for topics that do not, or without a log that says what is in force.
    """
    try:
        from sentinel.transport.kafka.handing_over import HandingOver
        from sentinel.transport.kafka.streams import connection_of
        from sentinel.transport.kafka.topics import TRANSACTIONS, check
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka]'") from error
    if settings.redis_url is None:
        raise InvalidDefinition(f"a front reads profiles from Redis, and {REDIS} is not set")
    if settings.workers != 1:
        raise InvalidDefinition("a front is one process (--workers 1); start as many of them as you need")
    connection = connection_of(settings)
    seal = Seal(settings.fronts_keys(), connection.topic(TRANSACTIONS))
    prepare_process(settings)
    check(connection, (TRANSACTIONS,))
    lists, models = KnownLists(), ModelCaller(limits_of(settings))
    snapshots = Snapshots(settings.snapshots)
    following = Following(_opener_of(settings), snapshots, _loader(settings, models, lists), lists)
    online = open_online(
        settings.home, following.judge.detector, settings.redis_url, settings.deadline_ms / 1000 / _SHARE_OF_DEADLINE
    )
    store = FrontStore(online, duration_us(settings.claims_kept) // 1000)
    try:
        store.check()
    except StorageProblem as problem:
        _log.warning("the fallback answers until there are profiles: %s", problem)

    def look() -> str | None:
        try:
            check(connection, (TRANSACTIONS,))
        except StorageProblem as problem:
            return str(problem)
        return None

    handing = HandingOver(connection, TRANSACTIONS, _PATIENCE_S, look)
    threads, counters = ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="redis"), Counters()
    front = Front(following.judge, store, handing.all_of, seal, threads, settings.max_waiting, Ledger(counters))
    following.follow_with(front.switch)
    access, calls = Access(settings, counters), FrontCalls(settings, front, counters)
    detectors = Detectors(settings, access, open_tracer(settings.otlp_endpoint), {Place(): calls})

    def stop() -> None:
        models.stop()
        store.close()
        threads.shutdown()
        detectors.close()

    pages = FrontPages(front, handing, following)
    run_http(settings, listen(settings), detectors, application_of(detectors, pages, front, [handing, following], stop))


def _opener_of(settings: Settings) -> Callable[[], LogReader]:
    """Opens the log of the owner: in Kafka where the settings say so, though nothing of it is in this home."""
    if settings.log != "kafka":
        return lambda: open_log(settings.home)
    place = KafkaPlace(settings.kafka or "", (settings.kafka_prefix or "") + topics_of(settings.home))
    reading, connection = (import_module(f"sentinel.record.kafka.{name}") for name in ("reader", "connection"))

    def opened() -> LogReader:
        reader: LogReader = reading.KafkaLogReader(place, connection.client_settings(place, os.environ))
        return reader

    return opened


def _loader(
    settings: Settings, models: ModelCaller, lists: KnownLists
) -> Callable[[Deployment, AsOfJudge | None], AsOfJudge]:
    """Makes judges of deployments; the champion decides, with the thresholds and the rules in force."""
    registry = open_registry(settings.models_folder, settings.models, read_trusted_keys(settings.trusted_keys_file))

    def load(deployment: Deployment, before: AsOfJudge | None) -> AsOfJudge:
        """Raises BundleProblem, InvalidDefinition."""
        if deployment.experiment is not None:
            _log.warning(
                "an experiment is in force, and fronts take no part in it: all is decided by %s", deployment.champion
            )
        alone = msgspec.structs.replace(deployment, experiment=None)
        lineup = load_lineup(alone, registry, None if before is None else before.lineup)
        plan = lineup.champion.bundle.manifest.plan
        check_profiles_suffice(plan, settings)
        judge = AsOfJudge(lineup, models, lists)
        judge.warm()
        return judge

    return load
