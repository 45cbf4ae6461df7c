"""Writes the profiles of one task to Redis, beside it: what fronts answer from. No event waits for it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from sentinel.config import read_settings
from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.model.bundle import Bundle
from sentinel.record.online.keepers import KeeperStore
from sentinel.record.online.layout import JOB, ProfileRow
from sentinel.record.online.place import REDIS, open_online
from sentinel.transport.flink.job_spec import JobSpec

MOST_WAITING = 100_000
"""Keys whose profiles wait for Redis; more are written when their timers ask for it."""

_EVERY_S, _BEAT_S, _RETRY_S = 0.02, 0.1, 1.0
_log = logging.getLogger(__name__)


def keeper_store(spec: JobSpec, bundle: Bundle) -> KeeperStore:
    """Where the profiles of a job go: the address is in the environment of each worker, as it has a password.

    Raises InvalidDefinition where there is none.
    """
    settings = read_settings({"home": spec.home})
    if settings.redis_url is None:
        raise InvalidDefinition(f"{REDIS} is not set here, and the job writes profiles: set it for every worker")
    store = open_online(spec.home, bundle.manifest.detector, settings.redis_url)
    return KeeperStore(store, f"{JOB}{spec.prefix}{spec.name}", bundle.state_id)


class _Waiting(NamedTuple):
    """A key's newest profile, and when the first event was received that Redis lacks."""

    row: ProfileRow
    since_us: int


class ProfileWriter:
    """A thread that writes what was put, a few hundredths of a second later; of each key the newest.

    A profile that was put may be lost when the process dies; `is_written` says which ones have to be put again.
    """

    def __init__(
        self, store: KeeperStore, group: str, part: str, clock_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self._store, self._group, self._part, self._clock_us = store, group, f"{group}/{part}", clock_us
        self._waiting: dict[int, _Waiting] = {}
        self._under_way: dict[int, _Waiting] = {}
        self._holding = threading.Lock()
        self._stopping = threading.Event()
        self._sound_since_us = clock_us()  # whatever was put from then on is written, or held
        self._beat_us = 0
        self._has_begun = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"profiles-{group}", daemon=True)
        self._thread.start()

    def put(self, row: ProfileRow, received_us: int) -> None:
        """Have a profile written whose newest event was received then."""
        with self._holding:
            before = self._waiting.get(row.key)
            if before is None and len(self._waiting) >= MOST_WAITING:
                self._sound_since_us = self._clock_us()
                return
            self._waiting[row.key] = _Waiting(row, received_us if before is None else before.since_us)

    def is_written(self, key: int, put_us: int) -> bool | None:
        """Whether what was put at `put_us` for a key is in Redis; None where that is lost, and has to be put again."""
        with self._holding:
            if key in self._waiting or key in self._under_way:
                return False
            return True if self._sound_since_us <= put_us else None

    def stop(self) -> None:
        """Write what waits, if Redis is there, and end."""
        self._stopping.set()
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        while True:
            ends = self._stopping.is_set()
            is_well = self._write()
            if ends:
                return
            self._stopping.wait(_EVERY_S if is_well else _RETRY_S)

    def _write(self) -> bool:
        """Write what waits, and say up to when all is written; whether that could be done."""
        begun_us = self._clock_us()
        with self._holding:
            self._under_way, self._waiting = self._waiting, {}
        self._has_begun |= bool(self._under_way)
        try:
            if self._under_way:
                self._store.write(self._group, [one.row for one in self._under_way.values()])
                self._store.beat(self._part, min(one.since_us for one in self._under_way.values()))
                self._beat_us = begun_us
            elif self._has_begun and begun_us - self._beat_us >= _BEAT_S * 1_000_000:
                self._store.beat(self._part, begun_us)  # nothing has come since
                self._beat_us = begun_us
        except StorageProblem as fault:
            self._tell(str(fault))
            with self._holding:
                self._waiting, self._under_way = self._merged(), {}
            return False
        self._tell(None)
        with self._holding:
            self._under_way = {}
        return True

    def _merged(self) -> dict[int, _Waiting]:
        """What could not be written, with what was put meanwhile."""
        found = dict(self._under_way)
        for key, one in self._waiting.items():
            before = found.get(key)
            found[key] = one if before is None else one._replace(since_us=before.since_us)
        return found

    def _tell(self, problem: str | None) -> None:
        if problem is not None and self._problem is None:
            _log.error("profiles of %s are not written: %s", self._group, problem)
        self._problem = problem
