"""Composes a wide front: a model, Redis, the topic `transactions`, and the connections before them."""

import logging
from concurrent.futures import ThreadPoolExecutor

from sentinel.app import limits_of, listen, prepare_process, run_http, warm
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.events.times import duration_us
from sentinel.homes import Place
from sentinel.model.bundle import load_warm
from sentinel.model.open_registry import open_registry
from sentinel.model.signing import read_trusted_keys
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import HomeDeployment
from sentinel.record.online.fronts import FrontStore
from sentinel.record.online.place import REDIS, open_online
from sentinel.serve.ledger import Ledger
from sentinel.serve.lineup import Contender
from sentinel.telemetry.counters import Counters
from sentinel.telemetry.tracing import open_tracer
from sentinel.transport.access.access import Access
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.wide.application import FrontPages, application_of
from sentinel.transport.wide.calls import FrontCalls
from sentinel.transport.wide.front import Front
from sentinel.transport.wide.judging import AsOfJudge
from sentinel.transport.wide.sufficing import check_profiles_suffice

_log = logging.getLogger(__name__)
_CALLS_AT_ONCE = 4  # to Redis
_SHARE_OF_DEADLINE = 4


def serve_front(settings: Settings) -> None:
    """Answer transactions from the profiles in Redis until SIGTERM or Ctrl-C.

    Raises InvalidDefinition for settings or a detector that do not fit, BundleProblem without a model, StorageProblem
    for topics that do not.
    """
    try:
        from sentinel.transport.kafka.streams import connection_of
        from sentinel.transport.kafka.topics import TRANSACTIONS, check
        from sentinel.transport.wide.handing import Handing
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka]'") from error
    if settings.redis_url is None:
        raise InvalidDefinition(f"a front reads profiles from Redis, and {REDIS} is not set")
    if settings.workers != 1:
        raise InvalidDefinition("a front is one process (--workers 1); start as many of them as you need")
    prepare_process(settings)
    connection = connection_of(settings)
    check(connection, (TRANSACTIONS,))
    deployment, counters = HomeDeployment(settings.home), Counters()
    in_force = deployment.read()
    contender = _contender(settings, deployment.champion(), in_force)
    plan = contender.bundle.manifest.plan
    check_profiles_suffice(plan, settings)
    warm(plan)
    online = open_online(
        settings.home, contender.bundle.manifest.detector, settings.redis_url,
        settings.deadline_ms / 1000 / _SHARE_OF_DEADLINE,
    )  # fmt: skip
    store = FrontStore(online, duration_us(settings.claims_kept) // 1000)
    try:
        store.check()
    except StorageProblem as problem:
        _log.warning("the rules answer until there are profiles: %s", problem)
    judge = AsOfJudge(contender, limits_of(settings), rules_only=in_force.fallback_only)
    handing, threads = Handing(connection), ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="redis")
    front = Front(judge, store, handing, threads, settings.max_waiting, Ledger(counters))
    access, calls = Access(settings, counters), FrontCalls(settings, plan.schema, front, counters)
    detectors = Detectors(settings, access, open_tracer(settings.otlp_endpoint), {Place(): calls})

    def stop() -> None:
        judge.stop()
        store.close()
        threads.shutdown()
        detectors.close()

    pages = FrontPages(contender, front, handing)
    run_http(settings, listen(settings), detectors, application_of(detectors, pages, front, handing, stop))


def _contender(settings: Settings, champion: str, in_force: Deployment) -> Contender:
    """The champion, with the thresholds in force. Raises BundleProblem where it cannot be loaded."""
    registry = open_registry(settings.models_folder, settings.models, read_trusted_keys(settings.trusted_keys_file))
    if in_force.experiment is not None:
        _log.warning("an experiment is in force, and fronts take no part in it: all is decided by %s", champion)
    return Contender(load_warm(registry, champion), in_force.thresholds)
