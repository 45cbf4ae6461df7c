"""Wide fronts: how often an answer by older profiles differs from the exact one, and what a front bears.

`differences` needs nothing else: it judges simulated payments, with the frauds that are in them, by profiles that are
so many seconds old. `front` needs Redis and a broker (`make services NAMES="kafka redis"`): an owner that decides what
comes through the topic and writes the profiles, and one front under load beside it, on this machine.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer

from report import publish
from sentinel import Detector, Training, XGBoost
from sentinel.bench.load_generator import Load, Requests, Target, at_random, closed_loop, open_loop
from sentinel.bench.serving_benchmark import cpu_seconds
from sentinel.bench.serving_workloads import SCORE_DETECTOR
from sentinel.commands.live import bodies
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.detectors import payments as preset
from sentinel.events.columns import TRANSACTION
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.features.profile_store import ProfileStore
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import Bundle, load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.record.kafka.place import topics_of
from sentinel.record.online.place import open_online
from sentinel.simulate.payments import simulate
from sentinel.train.pipeline import train
from sentinel.transport.client import request_bytes
from sentinel.transport.wide.handed import Handed, decode_handed
from sentinel.transport.wide.seal import Seal
from services.catalog import CATALOG
from services.keeper import Keeper

AGES_S = (0.05, 1.0, 10.0, 60.0, 600.0, 3_600.0)
HOST, CONNECTIONS = "127.0.0.1", 64
_COLUMNS = ("transaction_id", "event_time", "amount", "card_id", "merchant_id", "is_fraud")


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("differences", "front"))
    parser.add_argument("--rows", type=int, default=60_000, help="transactions that are judged, or sent")
    parser.add_argument("--rates", default="200,1000", help="transactions a second that are offered to the front")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-wide-") as folder:
        if given.what == "differences":
            differences(Path(folder), given.rows)
        else:
            front(Path(folder) / "tenants" / f"b{secrets.token_hex(4)}", given.rows, given.rates.split(","))


def differences(folder: Path, rows: int) -> None:
    """The same payments judged with exact features, and with profiles of some age, at every age."""
    own = [one for one in preset.detector.features if not any(part.event for part in one.all_parts)]
    schema = msgspec.structs.replace(preset.detector.schema, events={})
    detector = Detector(
        name="wide", schema=schema, features=tuple(own), training=Training(learner=XGBoost(trees=100, patience=20))
    )
    payments = simulate(3 * rows, seed=11)
    history, learnt = (history_of_frame(one, schema) for one in (payments, payments[: 2 * rows]))
    registry = Registry(folder / "models")
    manifest = train(detector, learnt, registry, lambda *_: None)
    bundle = load_bundle(registry.path(manifest.version))
    events = columns_of_frame(schema, history.frame)
    is_transaction = events.kinds == TRANSACTION
    exact = MemoryStore(bundle.manifest.plan).advance(events).rows[-rows:]
    judged = np.flatnonzero(is_transaction)[-rows:]
    is_fraud = history.frame["is_fraud"].to_numpy()[-rows:].astype(bool)
    figures = {f"{age_s:g} s": _differing(bundle, events, judged, exact, is_fraud, age_s) for age_s in AGES_S}
    cards = len(np.unique(events.texts[judged, 0]))
    days = (events.time_us[judged[-1]] - events.time_us[judged[0]]) / 86_400_000_000
    method = (
        f"{rows:,} simulated payments of {cards:,} cards over {days:.0f} days ({is_fraud.sum()} frauds), each "
        "judged by itself with the profiles of its keys as they were so long before; what its card, merchant or device "
        "did since is missing"
    )
    publish("wide_differences", method, figures)


def _differing(bundle: Bundle, events: Any, judged: Any, exact: Any, is_fraud: Any, age_s: float) -> dict[str, Any]:
    lagging, asked = MemoryStore(bundle.manifest.plan), ProfileStore(bundle.manifest.plan, {})
    rows, done = np.empty_like(exact), 0
    ends = np.searchsorted(events.received_us, events.received_us[judged] - int(age_s * 1e6), side="right")
    for n, (place, end) in enumerate(zip(judged.tolist(), np.minimum(ends, judged).tolist(), strict=True)):
        if end > done:
            lagging.advance(events.rows(slice(done, end)))
            done = end
        one = events.rows(slice(place, place + 1))
        keys = asked.keys_of(one)
        profiles = {
            (by, key): profile for by, key in keys if (profile := lagging.export(by, np.array([key], np.uint64))[0])
        }
        rows[n] = asked.known_at(one, profiles).rows[0]
    thresholds = bundle.thresholds
    scores, wanted = (bundle.scorer.score(np.ascontiguousarray(one)).astype(float) for one in (rows, exact))
    levels, other = thresholds.levels(scores), thresholds.levels(wanted)
    any_feature = ((rows != exact) & ~(np.isnan(rows) & np.isnan(exact))).any(axis=1)
    return {
        "other_features": _share(any_feature),
        "other_score_by_0.01": _share(np.abs(scores - wanted) > 0.01),
        "other_decision": _share(levels != other),
        "other_decision_of_frauds": _share((levels != other)[is_fraud]),
        "frauds_not_approved_exact": int((other[is_fraud] > 0).sum()),
        "frauds_not_approved_as_of": int((levels[is_fraud] > 0).sum()),
    }


def _share(of: Any) -> float:
    return round(float(np.mean(of)), 6)


def front(home: Path, rows: int, rates: list[str]) -> None:
    """One front under load, an owner beside it; what was given is compared with what the owner decides."""
    payments = simulate(60_000 + rows, seed=1).select(*_COLUMNS)
    history = history_of_frame(payments, SCORE_DETECTOR.schema).frame
    home.mkdir(parents=True)
    registry = Registry(home / "models")
    manifest = train(
        SCORE_DETECTOR, history_of_frame(payments[:60_000], SCORE_DETECTOR.schema), registry, lambda *_: None
    )
    HomeDeployment(home).promote(manifest.version)
    requests = [request_bytes("/v1/score", body) for body in bodies(SCORE_DETECTOR.schema, history[60_000:])]
    environment = _environment(home)
    figures: dict[str, Any] = {}
    with _served(home, environment | {"SENTINEL_KAFKA": ""}) as owner, _Feed(home, environment, owner.port) as feed:
        feed.start()
        with _served(home, environment | {"SENTINEL_PROFILES": "redis"}) as server:
            part = len(requests) // (len(rates) + 1)
            _send(server, requests[:200], None)
            feed.wait_for(200)  # the owner's view is of a model once that has decided
            with closing(open_online(home, SCORE_DETECTOR.name, environment["SENTINEL_REDIS_URL"])) as online:
                while online.position() is None:
                    time.sleep(0.1)
            for n, rate in enumerate([*map(float, rates), None]):
                feed.clear()
                begun, busy = time.perf_counter(), cpu_seconds(server.pid)
                load = _send(server, requests[200 + n * part :][:part], rate)
                busy = cpu_seconds(server.pid) - busy
                answered = int(np.count_nonzero(load.accepted))
                feed.wait_for(answered)
                figures["closed loop" if rate is None else f"{rate:g}/s offered"] = (
                    load.figures()
                    | {
                        "processor_us_a_call": round(busy / answered * 1e6, 1),
                        "a_core_by_that": round(answered / busy),
                        "seconds": round(time.perf_counter() - begun, 1),
                    }
                    | feed.compared()
                )
    method = (
        f"single transactions over {CONNECTIONS} connections, ten windows over two keys, 200 trees; the stream of 120 "
        f"days is sent in minutes, so cards pay far more often than cards do; load {os.getloadavg()[0]:.1f}, and "
        "owner, broker, Redis and load share the machine"
    )
    publish("wide_front", method, figures)


def _environment(home: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("kafka", "redis"):
        running = Keeper(CATALOG).running(name)
        assert running is not None, 'make services NAMES="kafka redis"'
        found |= running.environment
    environment = {
        "SENTINEL_KAFKA": found["SENTINEL_KAFKA"], "SENTINEL_REDIS_URL": found["REDIS_URL"],
        "SENTINEL_DEADLINE_MS": "1000", "SENTINEL_KAFKA_PREFIX": f"bench{secrets.token_hex(4)}-",
        "SENTINEL_HOME": str(home), "SENTINEL_REASONS": "no", "SENTINEL_FRONTS_KEY": secrets.token_hex(32),
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "sentinel", "topics", "create", "--json"],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment},
    )  # fmt: skip
    return environment


@contextmanager
def _served(home: Path, environment: dict[str, str]) -> Any:
    server = ServerProcess(home, HOST, free_port(HOST), environment=environment)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _send(server: ServerProcess, requests: list[bytes], rate: float | None) -> Load:
    target, packed = Target(HOST, server.port, CONNECTIONS), Requests.pack(requests)
    if rate is None:
        return closed_loop(target, packed, count=len(requests))
    return open_loop(target, packed, at_random(rate, len(requests), seed=3))


class _Feed:
    """Has the owner decide what comes through the topic, in order, and compares that with what was given."""

    def __init__(self, home: Path, environment: dict[str, str], owner_port: int) -> None:
        prefix = environment["SENTINEL_KAFKA_PREFIX"] + topics_of(home)
        self._consumer = Consumer(
            {"bootstrap.servers": environment["SENTINEL_KAFKA"], "group.id": prefix, "auto.offset.reset": "earliest"}
        )
        self._consumer.subscribe([prefix + "transactions"])
        self._seal = Seal([environment["SENTINEL_FRONTS_KEY"]], prefix + "transactions")
        self._owner, self._stopping = f"http://{HOST}:{owner_port}/v1/score", threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._pairs: list[tuple[Handed, dict[str, Any]]] = []

    def __enter__(self) -> "_Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def clear(self) -> None:
        """Forget what was compared."""
        self._pairs.clear()

    def wait_for(self, n: int) -> None:
        """Until so many are decided."""
        while len(self._pairs) < n:
            time.sleep(0.05)

    def compared(self) -> dict[str, Any]:
        """How often what was given differs from what the owner has decided."""
        given = [one.given for one, _ in self._pairs]
        ages_ms = [one.profiles_age_ms for one in given if one.profiles_age_ms is not None]
        scores = np.array(
            [
                [one.fraud_probability, owned["fraud_probability"]]
                for (one, owned) in ((handed.given, owned) for handed, owned in self._pairs)
            ]
        )
        return {
            "without_profiles": sum(one.profiles_age_ms is None for one in given),
            "age_ms_median": round(float(np.median(ages_ms)), 1),
            "age_ms_p99": round(float(np.percentile(ages_ms, 99)), 1),
            "other_score": _share(scores[:, 0] != scores[:, 1]),
            "other_decision": _share(np.array([h.given.decision != o["decision"] for h, o in self._pairs])),
        }

    def _run(self) -> None:
        while not self._stopping.is_set():
            read = [one for one in self._consumer.consume(500, 0.05) if one.error() is None]
            if not read:
                continue
            handed = [decode_handed(self._seal.opened(one.value())) for one in read]
            body = b"[" + b",".join(bytes(one.transaction) for one in handed) + b"]"
            request = urllib.request.Request(self._owner, body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as reply:
                self._pairs += zip(handed, json.load(reply), strict=True)


if __name__ == "__main__":
    main()
