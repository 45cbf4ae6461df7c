"""Composition root: the only file that picks concrete classes and starts a server."""

import gc
import sys
import time

import numpy as np
import uvicorn

from sentinel.config import Settings
from sentinel.engine import Engine
from sentinel.events.log import LABEL_UNKNOWN, MISSING, EventLog
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.review.journal import Journal
from sentinel.review.snapshots import Snapshots
from sentinel.transport.fast_lane import fast_lane
from sentinel.transport.http import Api, build
from sentinel.worker import Worker

_SWITCH_INTERVAL_S = 0.0005


def open_engine(settings: Settings) -> Engine:
    """Load the model, open the journal, rebuild the state. Raises SentinelError that says what is missing."""
    registry = Registry(settings.models)
    bundle = load_bundle(registry.path(settings.model or registry.champion()))
    warm(bundle.manifest.plan)
    journal = Journal(settings.journal)
    try:
        engine = Engine(bundle, journal, Snapshots(settings.snapshots), time.time_ns() // 1000)
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
    sys.setswitchinterval(_SWITCH_INTERVAL_S)  # engine and event loop share the interpreter: hand over quickly
    worker = Worker(lambda: open_engine(settings), settings.max_waiting)
    api = Api(settings, worker)
    uvicorn.run(
        build(api),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=fast_lane(api),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
