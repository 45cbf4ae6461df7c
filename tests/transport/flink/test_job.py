"""A job of Flink for real, between real topics: every bit, over a savepoint, another parallelism and a kill -9."""

import json
import os
import time
import urllib.request

import msgspec
import numpy as np
import pytest
from flink_cluster import FlinkCluster
from topics_of_a_job import SOURCES, JobTopics, features_of_replays, twice

from sentinel.commands.server_process import free_port
from sentinel.config import read_settings
from sentinel.errors import StorageProblem
from sentinel.model.bundle import load_bundle
from sentinel.transport.kafka import dead_letters
from sentinel.transport.kafka.connection import Connection

pytestmark = pytest.mark.timeout(1_800)  # the kernel is compiled in an environment of its own first

N = 2_000
COSTLY = pytest.mark.skipif("CI" in os.environ, reason="a start of Flink takes half a minute of processor time")


@pytest.fixture(scope="module")
def feed(make_shop_frame):
    """Transactions of the last month, as they are sent."""
    rows = make_shop_frame(N, seed=9).to_dicts()
    ahead = time.time_ns() // 1000 - rows[-1]["event_time"]
    names = ("transaction_id", "amount", "card", "shop", "channel", "risk")
    return [{name: row[name] for name in names} | {"event_time": row["event_time"] + ahead} for row in rows]


@pytest.fixture
def topics(environment_of, service, shop_home, tmp_path):
    broker = service("kafka").environment["SENTINEL_KAFKA"]
    python = environment_of("flink") / "bin" / "python"
    settings = msgspec.structs.replace(read_settings({"home": shop_home}, {}), flink_python=python)
    made = JobTopics(settings, broker, tmp_path)
    yield made
    made.close()


@pytest.fixture
def cluster(environment_of, tmp_path):
    made = FlinkCluster(environment_of("flink"), SOURCES, tmp_path)
    yield made
    made.close()


def by_card(rows):
    return [(row["card"], row) for row in rows]


def outcomes_of(rows):
    """Of every third, by its id; a fifth of them are fraud."""
    told = [{"transaction_id": row["transaction_id"], "is_fraud": n % 5 == 0} for n, row in enumerate(rows[::3])]
    return [(one["transaction_id"], one) for one in told]


def check(topics, feed, outcomes):
    """Nothing lost, nothing twice, and no bit other than in a replay; every card's decisions in one partition."""
    decided, told = topics.decided, topics.told
    assert sorted(one["transaction_id"] for one in decided) == sorted(row["transaction_id"] for row in feed)
    assert sorted(one["outcome"]["transaction_id"] for one in told) == sorted(key for key, _ in outcomes)
    bundle = load_bundle(topics.settings.models_folder / "v1")
    expected = features_of_replays(bundle.manifest.plan, bundle.new_store, [*decided, *told])
    rows = np.array([[np.nan if one is None else one for one in entry["features"]] for entry in decided])
    wanted = np.array([expected[one["transaction_id"]] for one in decided])
    assert ((rows.view(np.int64) == wanted.view(np.int64)) | (np.isnan(rows) & np.isnan(wanted))).all()
    assert [one["fraud_probability"] for one in decided] == bundle.scorer.score(wanted).astype(float).tolist()
    for by in ("card", "shop"):
        assert not twice((one["sequence"][by], key_of(one, by, feed)) for one in [*decided, *told])
    assert all(len(partitions) == 1 for partitions in topics.where.values())
    assert np.isfinite(rows[:, -1]).any(), "no outcome has counted yet"


def key_of(entry, by, feed):
    named = entry["transaction"] if entry["kind"] == "decided" else None
    if named is None:
        wanted = entry["outcome"]["transaction_id"]
        named = next(row for row in feed if row["transaction_id"] == wanted)
    return named[by]


def test_over_a_savepoint_and_with_two_tasks_every_bit_is_that_of_a_replay_in_each_keys_order(topics, feed):
    half, port = N // 2, free_port("127.0.0.1")
    topics.send("transactions", by_card(feed[:half]))
    topics.start(**{"rest.port": str(port)})
    topics.read_until(lambda seen: len(seen.decided) == half)
    outcomes = outcomes_of(feed[:half])
    topics.send("outcomes", outcomes)
    topics.read_until(lambda seen: len(seen.told) == len(outcomes))
    poison = [
        None, b"\xff\x00 is no JSON", {"transaction_id": "p1", "amount": 1, "card": "c", "shop": "s"},
        {**feed[0], "transaction_id": "p2", "event_time": "2090-01-01T00:00:00Z"}, {**feed[0], "amount": 0.01},
    ]  # fmt: skip
    topics.send("transactions", [("c", one) for one in poison] + by_card(feed[:50]))
    topics.read_until(lambda seen: len(seen.dead) == len(poison))
    saved = stopped_with_savepoint(topics, port)
    topics.send("transactions", by_card(feed[half:]))
    topics.start(parallelism=2, restore=saved)
    topics.read_until(lambda seen: len(seen.decided) >= N)
    check(topics, feed, outcomes)
    assert {one["value"] for one in topics.dead} >= {None, poison[1], json.dumps(poison[2]).encode()}
    assert {one["topic"] for one in topics.dead} == {topics.prefix + "transactions"}
    letters = letters_of(topics)
    assert sorted(one.reason for one in letters) == sorted(one["reason"] for one in topics.dead)
    reasons = sorted(one["reason"] for one in topics.dead)
    assert [reason.split(":")[0].split(" ")[0] for reason in reasons] == ["Expected", "No", "Object", "a", "this"]


@COSTLY
def test_two_tasks_that_are_killed_go_on_from_the_last_checkpoint(topics, feed):
    outcomes = outcomes_of(feed)
    topics.send("transactions", by_card(feed[: N // 2]))
    topics.send("outcomes", outcomes)  # many come before their transaction
    topics.start(parallelism=2, checkpoint_ms=300)
    topics.read_until(lambda seen: len(seen.decided) >= N // 4)
    topics.send("transactions", by_card(feed[N // 2 :]))
    topics.kill()
    topics.start(parallelism=2, restore=topics.checkpoint())
    topics.read_until(lambda seen: len(seen.decided) >= N and len(seen.told) >= len(outcomes))
    check(topics, feed, outcomes)


@COSTLY
def test_a_task_manager_that_is_killed_is_replaced_and_nothing_is_lost_or_twice(topics, feed, cluster):
    """A cluster of processes of its own: the job goes on by itself, from its last checkpoint."""
    outcomes = outcomes_of(feed[: N // 4])
    cluster.add_task_manager()
    cluster.add_task_manager()
    topics.send("transactions", by_card(feed[: N // 2]))
    cluster.wait_for_slots(2)
    restarts = {"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.attempts": "50"}
    topics.start(parallelism=2, cluster=f"127.0.0.1:{cluster.port}", **restarts)
    topics.read_until(lambda seen: len(seen.decided) >= N // 4)
    topics.send("transactions", by_card(feed[N // 2 :]))
    topics.send("outcomes", outcomes)
    cluster.kill_task_manager()
    cluster.add_task_manager()
    topics.read_until(lambda seen: len(seen.decided) >= N and len(seen.told) >= len(outcomes))
    check(topics, feed, outcomes)


def letters_of(topics, patience_s=120):
    """As `sentinel dead-letters` reads them, which waits for a busy broker for some seconds alone."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return list(dead_letters.read(Connection(topics.broker, topics.prefix)))
        except StorageProblem:
            if time.monotonic() > until:
                raise


def stopped_with_savepoint(topics, port):
    """Stop the job where it stands, and what it goes on from."""
    [job] = rest(port, "/jobs")["jobs"]
    asked = {"targetDirectory": (topics.folder / "savepoints").as_uri(), "drain": False}
    request = rest(port, f"/jobs/{job['id']}/stop", asked)["request-id"]
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = rest(port, f"/jobs/{job['id']}/savepoints/{request}")
        if found["status"]["id"] == "COMPLETED":
            topics.ended()
            return found["operation"]["location"]
        time.sleep(0.2)
    pytest.fail("no savepoint within two minutes")


def rest(port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)
