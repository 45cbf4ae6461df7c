"""What befalls an owner, its standby, and what they work with, under load and at random points."""

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.scenarios.kafka_streams import Consuming, decided_in_kafka, until
from tests.scenarios.load_beside import Load
from tests.scenarios.own_around import Around

KINDS = (
    "the owner is killed",
    "the broker is killed",
    "the projector is killed",
    "the database is killed",
    "Redis begins empty",
    "the database is put back",
    "the owner stops for a while",
    "the broker stops for a while",
    "the standby is killed",
    "Redis is killed",
    "what writes to Redis is killed",
)
PROJECTOR, ONLINE = b"sentinel.record.projector", b"sentinel.record.online.follower"
LONG_S = 240


class Fate(NamedTuple):
    """What befell them, and how long it took until another one was ready, in seconds; None where nobody took over."""

    what: str
    seconds: float | None


def befall(pair: list[Consuming], around: Around, load: Load, kinds: list[str], rng: np.random.Generator, say) -> None:
    """Have these things befall the pair, of which the first owns the log, and what is around it, one after the other.

    It ends when all that was sent is decided.
    """
    for kind in kinds:
        load.send(int(rng.integers(200, 1_500)))
        time.sleep(rng.uniform(0.0, 0.4))
        say(Fate(kind, _FATES[kind](pair, around, rng)))
        _settle(pair)
    load.end()
    until(lambda: {row.transaction_id for row in decided_in_kafka(load.topics)} >= load.ids, 600)


def _settle(pair: list[Consuming]) -> None:
    """Wait until one of them owns the log and the other one stands by, and have the owner first.

    Which of them is the owner may change meanwhile: a broker that was away may have counted either as gone.
    """

    def is_settled() -> bool:
        ready = [one.is_ready() for one in pair]
        if ready.count(True) != 1:
            return False
        if ready[1]:
            pair.reverse()
        return str(pair[1].health()["reason"]).startswith("this process stands by")

    until(is_settled, LONG_S)


def _owner_is_killed(pair: list[Consuming], _around: Around, _rng: np.random.Generator) -> float:
    begun_s = time.monotonic()
    pair[0].kill()
    until(pair[1].is_ready)
    seconds = time.monotonic() - begun_s
    pair[0].begin()
    return seconds


def _owner_stops(pair: list[Consuming], _around: Around, _rng: np.random.Generator) -> float:
    begun_s = time.monotonic()
    pair[0].signal(signal.SIGSTOP)
    try:
        until(pair[1].is_ready)
        seconds = time.monotonic() - begun_s
    finally:
        pair[0].signal(signal.SIGCONT)
    until(lambda: not pair[0].is_ready())
    return seconds


def _standby_is_killed(pair: list[Consuming], _around: Around, _rng: np.random.Generator) -> None:
    pair[1].kill()
    pair[1].begin()


def _is_killed(name: str):
    """A server that they work with is away for some seconds at most."""

    def befall_it(_pair: list[Consuming], around: Around, rng: np.random.Generator) -> None:
        service = getattr(around, name)
        service.kill()
        time.sleep(rng.uniform(0.0, 3.0))
        service.start()

    return befall_it


def _broker_stops(_pair: list[Consuming], around: Around, rng: np.random.Generator) -> None:
    around.broker.signal(signal.SIGSTOP)
    try:
        time.sleep(rng.uniform(1.0, 8.0))
    finally:
        around.broker.signal(signal.SIGCONT)


def _child_is_killed(module: bytes):
    """A process of either server, which is started again. A standby that never owned the log has not all of them."""

    def befall_it(pair: list[Consuming], _around: Around, rng: np.random.Generator) -> None:
        until(lambda: any(_children(one.pid, module) for one in pair))
        server = rng.choice([one for one in pair if _children(one.pid, module)])
        before = _children(server.pid, module)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: _children(server.pid, module) - before)

    return befall_it


def _children(parent: int, module: bytes) -> set[int]:
    """The processes that a server has started of a module."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] not in "ZX" and module in (path / "cmdline").read_bytes():
                found.add(int(path.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def _database_is_put_back(_pair: list[Consuming], around: Around, rng: np.random.Generator) -> None:
    around.database.kill()
    around.database.put_back()
    time.sleep(rng.uniform(0.0, 1.0))
    around.database.start()
    around.database.back_up()


def _redis_begins_empty(_pair: list[Consuming], around: Around, rng: np.random.Generator) -> None:
    around.redis.kill()
    around.redis.empty()
    time.sleep(rng.uniform(0.0, 1.0))
    around.redis.start()


_FATES = dict(
    zip(
        KINDS,
        (
            _owner_is_killed, _is_killed("broker"), _child_is_killed(PROJECTOR), _is_killed("database"),
            _redis_begins_empty, _database_is_put_back, _owner_stops, _broker_stops, _standby_is_killed,
            _is_killed("redis"), _child_is_killed(ONLINE),
        ),
        strict=True,
    )
)  # fmt: skip
