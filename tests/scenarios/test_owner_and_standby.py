"""Owner and standby: two `sentinel consume` over one log in Kafka; whatever ends, each transaction is decided once."""

import os
import shutil
import signal

import numpy as np
import pytest

from sentinel.commands.server_process import free_port
from tests.scenarios.kafka_streams import (
    HOST,
    Consuming,
    assert_counted_once,
    decided_in_kafka,
    keyed,
    new_topics,
    payment,
    read_all,
    send,
    sentinel,
    until,
)
from tests.scenarios.owner_kills import KINDS, befall, found_in

KILLS = int(os.environ.get("SENTINEL_KILLS", "2"))
SEED = int(os.environ.get("SENTINEL_SEED", "11"))


@pytest.fixture(scope="module")
def broker(service):
    return service("kafka").environment["SENTINEL_KAFKA"]


@pytest.fixture
def topics(broker):
    found = new_topics(broker, SENTINEL_LOG="kafka")
    assert len(sentinel(found, "topics", "create", "--json")["made"]) == 4  # a log makes that of its records itself
    return found


@pytest.fixture
def pair(topics, shop_home, tmp_path):
    """Two servers with homes of their own, as of two machines: the first has begun, and owns the log."""
    homes = [shutil.copytree(shop_home, tmp_path / name) for name in ("one", "two")]
    shutil.rmtree(homes[1] / "log")  # of another machine, which has the models only
    servers = [Consuming(home, HOST, free_port(HOST), environment=topics) for home in homes]
    servers[0].start()
    servers[1].begin()
    yield servers
    for server in servers:
        server.stop()


def names_in(topics):
    return [row.transaction_id for row in decided_in_kafka(topics)]


def test_the_standby_says_who_owns_the_log_and_takes_over_when_the_owner_is_killed(pair, topics):
    owner, standby = pair
    send(topics, "transactions", keyed(*(payment(n) for n in range(500))))
    until(lambda: standby.health().get("log", {}).get("end", 0) > 500)
    assert standby.ask("/health/ready") == (503, {"ready": False, "reason": "standby"})
    until(lambda: f":{owner.port} owns the log" in standby.health()["reason"])
    status, said = standby.ask("/v1/score", payment(9_999))
    assert status == 503
    assert f"http://{HOST}:{owner.port}" in said["error"]
    status, answer = owner.ask("/v1/score", payment(500))
    assert status == 200
    send(topics, "transactions", keyed(*(payment(n) for n in range(501, 2_000))))
    owner.kill()
    send(topics, "transactions", keyed(*(payment(n) for n in range(2_000, 2_500))))
    until(standby.is_ready)
    assert standby.ask("/v1/score", payment(500)) == (200, {**answer, "replayed": True})
    until(lambda: len(names_in(topics)) >= 2_500)
    assert names_in(topics) == [f"p{n}" for n in range(2_500)]
    assert_counted_once(standby.home, decided_in_kafka(topics))
    assert read_all(topics, "dead-letters") == []


def test_the_owner_is_killed_and_stopped_under_load_and_nothing_is_lost_twice_or_different(pair, topics):
    rng, told = np.random.default_rng(SEED), []
    kinds = [KINDS[n % len(KINDS)] for n in range(KILLS)]
    sent = befall(pair, topics, kinds, rng, told.append)
    assert [one.what for one in told] == kinds
    for server in pair:
        server.stop()
    found = found_in(pair, topics, sent, len(kinds))
    print(f"seed {SEED}: {told}, {found}")
    assert found._replace(values=0) == (sent, 0, 0, 0, 0, 0), f"seed {SEED}"
    assert found.values > 0


def test_a_zombie_answers_nothing_and_stands_by(pair, topics):
    owner, standby = pair
    status, first = owner.ask("/v1/score", payment(0))
    assert status == 200
    owner.signal(signal.SIGSTOP)
    until(standby.is_ready)
    status, second = standby.ask("/v1/score", payment(20))
    assert status == 200
    owner.signal(signal.SIGCONT)
    status, said = owner.ask("/v1/score", payment(40))  # it may not know yet; what it would decide is not committed
    assert status == 503, said
    until(lambda: f":{standby.port} owns the log" in str(owner.health()["reason"]))
    assert names_in(topics) == ["p0", "p20"]
    assert standby.ask("/v1/score", payment(0)) == (200, {**first, "replayed": True})
    assert standby.ask("/v1/score", payment(20)) == (200, {**second, "replayed": True})
