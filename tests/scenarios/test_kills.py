"""kill -9 at random points under load: decisions, repeats, outcomes, swaps, snapshots. 0 lost, 0 twice, 0 bits differ.

`SENTINEL_KILLS=200` for as many points; `SENTINEL_SEED` for others.
"""

import asyncio
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid

import numpy as np
import pytest

from sentinel import (
    Detector,
    Schema,
    Training,
    XGBoost,
    count,
    distinct,
    field,
    fraud_rate,
    maximum,
    mean,
    seconds_since_last,
    std,
)
from sentinel.commands.server_process import free_port
from sentinel.events.files import history_of_frame
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.record.entries import decision_rows, outcome_rows
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.verify import verify
from sentinel.train.pipeline import train
from sentinel.transport.client import Client, Unreachable

HOST = "127.0.0.1"
KILLS = int(os.environ.get("SENTINEL_KILLS", "3"))
SEED = int(os.environ.get("SENTINEL_SEED", "1"))
VERSIONS = ("v1", "v2", "v3")
"""v1 and v2 share a feature state, v3 has another one."""


class Load:
    """What was sent and acknowledged over all lives of the server."""

    repeated, pause_s = 0.2, 0.0

    def __init__(self, rng):
        self.rng = rng
        self.decided = {}
        self.outcomes = collections.defaultdict(list)
        self.differing = []

    def payment(self):
        rng = self.rng
        return {"transaction_id": uuid.UUID(int=rng.getrandbits(128)).hex, "amount": rng.randint(1, 20_000) / 100,
                "event_time": 1_738_400_000 + rng.randint(0, 40 * 86_400), "card": f"card-{rng.randint(0, 30)}",
                "shop": f"shop-{rng.randint(0, 7)}", "risk": rng.random()}  # fmt: skip

    async def run(self, port):
        with contextlib.suppress(Unreachable, OSError):
            async with Client(HOST, port, 8) as client:
                tasks = [self._score(client) for _ in range(5)] + [self._tell(client), self._swap(client)]
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _score(self, client):
        while True:
            bodies = [json.dumps(self.payment()).encode() for _ in range(self.rng.choice((1, 1, 5, 60)))]
            if self.decided and self.rng.random() < self.repeated:
                bodies = [self.rng.choice(list(self.decided.values()))[0] for _ in bodies]
            await asyncio.sleep(self.pause_s)
            status, raw, _ = await client.post("/v1/score", b"[" + b",".join(bodies) + b"]")
            if status != 200:
                continue
            for body, answer in zip(bodies, json.loads(raw), strict=True):
                before = self.decided.setdefault(answer["transaction_id"], (body, answer))[1]
                if before | {"replayed": True} != answer | {"replayed": True}:
                    self.differing.append((before, answer))

    async def _tell(self, client):
        while True:
            await asyncio.sleep(0.01)
            if not self.decided:
                continue
            told = {"transaction_id": self.rng.choice(list(self.decided)), "is_fraud": self.rng.random() < 0.5}
            status, raw, _ = await client.post("/v1/outcomes", json.dumps(told).encode())
            if status == 200 and not json.loads(raw)["replayed"]:
                self.outcomes[told["transaction_id"]].append(told["is_fraud"])

    async def _swap(self, client):
        while True:
            await asyncio.sleep(self.rng.random() / 3)
            await client.post("/admin/reload", json.dumps({"version": self.rng.choice(VERSIONS)}).encode())


class ShortLoad(Load):
    """Payments of many cards, most of them seen for a few seconds only; nothing is sent again: ids are forgotten too."""

    repeated, pause_s = 0.0, 0.2  # what follows the log has the lowest priority, and has to have its turn

    def payment(self):
        late_s = self.rng.choice((0, 0, 0, 0.5, 2))
        card = self.rng.choice(
            (f"card-{int(time.time())}-{self.rng.randint(0, 200)}", f"card-{self.rng.randint(0, 9)}")
        )
        return super().payment() | {"event_time": round(time.time() - late_s, 3), "card": card}

    async def _swap(self, client):
        """There is one model."""


def serve(home, port, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(port)],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"SENTINEL_SNAPSHOT_EVERY": "300", **environment},
    )


async def wait_ready(port):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(Unreachable, OSError):
            async with Client(HOST, port, 1) as client:
                status, _, _ = await client.post("/v1/outcomes", b'{"transaction_id":"none","is_fraud":true}')
                if status == 202:
                    return
        await asyncio.sleep(0.05)
    pytest.fail("the server was not ready again within a minute")


async def live_and_die(home, load, rng, long_enough, **environment):
    port = free_port(HOST)
    process = serve(home, port, **environment)
    try:
        await wait_ready(port)
        traffic = asyncio.ensure_future(load.run(port))
        await long_enough(port, rng)
    finally:
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    traffic.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await traffic


async def a_moment(_port, rng):
    await asyncio.sleep(rng.random() * 1.5)


def first_position(port):
    with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=30) as answer:
        return json.load(answer)["log"]["first"]


async def something_was_pruned(port, rng):
    """And then a moment; not all of the time, and not for ever: the processes that it takes have the lowest priority."""
    until = time.monotonic() + (40 if rng.random() < 0.7 else 3)
    before = await asyncio.to_thread(first_position, port)
    while time.monotonic() < until and await asyncio.to_thread(first_position, port) == before:
        await asyncio.sleep(0.2)
    await a_moment(port, rng)


@pytest.mark.timeout(300 + 20 * KILLS)
def test_kill_9_at_random_points_loses_nothing_decides_nothing_twice_and_changes_no_bit(four_models_home, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(four_models_home, home)
    rng = random.Random(SEED)
    load = Load(random.Random(SEED + 1))
    for _ in range(KILLS):
        asyncio.run(live_and_die(home, load, rng, a_moment))
    assert verify(home / "log").findings == []
    log = FileLogReader(home / "log")
    records = [record for page in Follower(log, 0).rest() for record in page]
    rows = [row for record in records if record.kind == Kind.DECIDED for row in decision_rows(record)]
    outcomes = [row for record in records if record.kind == Kind.OUTCOMES for row in outcome_rows(record)]
    lost = set(load.decided) - {row.transaction_id for row in rows}
    stored = collections.defaultdict(list)
    for one in outcomes:
        stored[one.transaction_id].append(one.is_fraud)
    lost_outcomes = [name for name, told in load.outcomes.items() if not is_within(told, stored[name])]
    twice = len(rows) - len({row.transaction_id for row in rows})
    differing, compared = bits_that_differ(home, log, records, ("v1", "v3"))
    log.close()
    print(
        f"seed {SEED}: {KILLS} kills, {len(load.decided):,} decisions and {sum(map(len, load.outcomes.values())):,} outcomes acknowledged, "
        f"{len(lost)} lost, {twice} twice, {differing} of {compared:,} feature values differ"
    )
    assert (len(lost), twice, differing, load.differing) == (0, 0, 0, []), f"seed {SEED}"
    assert lost_outcomes == [], f"seed {SEED}"
    assert len({row.decider.state_id for row in rows}) == 2
    assert len(load.decided) > 20 * KILLS


SHORT = Detector(
    name="short",
    schema=Schema(keys=("card", "shop"), numbers=("risk",), optional=("risk",), max_late="1s"),
    features=(
        field("amount"), field("risk"), count(by="card", over="2s"), mean("amount", by="card", over="3s"),
        maximum("amount", by="card", over="1s"), distinct("shop", by="card", over="3s"), seconds_since_last(by="card"),
        std("amount", by="shop", over="2s"), fraud_rate(by="shop", over="2s", delay="1s"),
    ),
    forget_after="2s",
    training=Training(learner=XGBoost(trees=10, patience=10, max_depth=3)),
)  # fmt: skip
KEPT = {"SENTINEL_KEEP_LOG": "4s", "SENTINEL_REMEMBER_IDS": "4s", "SENTINEL_SNAPSHOT_EVERY": "100"}


@pytest.mark.timeout(600 + 30 * KILLS)
def test_kill_9_while_keys_are_forgotten_states_saved_and_the_log_pruned(shop_history, tmp_path):
    home, archive = tmp_path / "home", tmp_path / "archive"
    history = history_of_frame(shop_history.drop("channel"), SHORT.schema)
    train(SHORT, history, Registry(home / "models"), lambda *_: None)
    HomeDeployment(home).promote("v1")
    rng, load = random.Random(SEED), ShortLoad(random.Random(SEED + 1))
    for _ in range(KILLS):
        asyncio.run(live_and_die(home, load, rng, something_was_pruned, SENTINEL_ARCHIVE=str(archive), **KEPT))
    assert verify(home / "log").findings == []
    copies = list(archive.glob("*/*.segment"))
    assert copies
    for copy in copies:  # the log as it was
        shutil.copy(copy, home / "log")
    assert verify(home / "log").findings == []
    log = FileLogReader(home / "log")
    assert log.first == 1
    records = [record for page in Follower(log, 0).rest() for record in page]
    rows = [row for record in records if record.kind == Kind.DECIDED for row in decision_rows(record)]
    lost = set(load.decided) - {row.transaction_id for row in rows}
    differing, compared = bits_that_differ(home, log, records, ("v1",))
    log.close()
    print(
        f"seed {SEED}: {KILLS} kills, {len(load.decided):,} decisions acknowledged, {len(copies)} segments pruned, "
        f"{len(lost)} lost, {differing} of {compared:,} feature values differ"
    )
    assert (len(lost), len(rows) - len({row.transaction_id for row in rows}), differing) == (0, 0, 0), f"seed {SEED}"
    assert len(load.decided) > 20 * KILLS


def is_within(told, stored):
    """Whether these outcomes were stored in this order, with others between them perhaps."""
    rest = iter(stored)
    return all(one in rest for one in told)


def bits_that_differ(home, log, records, versions):
    """Stored features against a replay of the whole log for each feature state, and how many were compared."""
    differing = compared = 0
    for version in versions:
        bundle = load_bundle(home / "models" / version)
        state = FeatureState(bundle, activation_of(log, bundle.state_id))
        state.store = bundle.new_store()
        for record in records:
            again = state.take(record) if record.position >= state.begin else None
            for n, row in enumerate(decision_rows(record) if again is not None else ()):
                if row.decider.state_id == state.id:
                    same = again.rows[n].view(np.int64) == row.features.view(np.int64)
                    differing += int(np.count_nonzero(~(same | (np.isnan(again.rows[n]) & np.isnan(row.features)))))
                    compared += row.features.size
    return differing, compared
