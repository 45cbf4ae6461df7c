"""Fronts on a real Redis and a real broker: the features of the owner to the bit, and one decision for an id."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from confluent_kafka import Consumer, TopicPartition

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.model.bundle import read_manifest
from sentinel.record.kafka.place import topics_of
from sentinel.record.online.place import open_online

HOST, PATIENCE_S = "127.0.0.1", 60


class Topic:
    """What an independent reader sees of the topic `transactions`."""

    def __init__(self, servers, name):
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": secrets.token_hex(8)})
        self._consumer.assign([TopicPartition(name, n, 0) for n in range(2)])
        self.messages = []

    def read_until(self, enough):
        until = time.monotonic() + PATIENCE_S
        while not enough(self.messages):
            assert time.monotonic() < until, len(self.messages)
            for one in self._consumer.consume(1000, 0.1):
                assert one.error() is None, one.error()
                self.messages.append((one.key(), json.loads(one.value())))
        return self.messages

    def first_of(self, names):
        """The first message of each id."""
        names = list(names)
        self.read_until(lambda seen: set(names) <= {one["given"]["transaction_id"] for _, one in seen})
        found = {}
        for _, one in self.messages:
            found.setdefault(one["given"]["transaction_id"], one)
        return {name: found[name] for name in names}

    def close(self):
        self._consumer.close()


class Wide:
    """An owner whose follower writes profiles, fronts over the same home, and the topic between them."""

    def __init__(self, home, redis, kafka):
        self.home = home
        self._environment = {
            "SENTINEL_REDIS_URL": redis, "SENTINEL_KAFKA": kafka, "SENTINEL_KAFKA_PREFIX": f"w{secrets.token_hex(4)}-",
        }  # fmt: skip
        made = subprocess.run(
            [sys.executable, "-m", "sentinel", "topics", "create", "--partitions", "2", "--json"],
            capture_output=True, text=True,
            env={**os.environ, **self._environment, "SENTINEL_HOME": str(home)},
        )  # fmt: skip
        assert made.returncode == 0, made.stderr[-2000:]
        prefix = self._environment["SENTINEL_KAFKA_PREFIX"] + topics_of(home)
        self.topic = Topic(kafka, prefix + "transactions")
        self.names = read_manifest(home / "models" / "v1").plan.names
        self.profiles = open_online(home, "shop", redis)
        self.owner = self._started(SENTINEL_KAFKA="")
        self.fronts = [self.front()]

    def front(self):
        return self._started(SENTINEL_PROFILES="redis")

    def _started(self, **more):
        server = ServerProcess(self.home, HOST, free_port(HOST), environment=self._environment | more)
        server.start()
        return server

    def own(self, names):
        """Have the owner decide these transactions as they came through the topic, and write their profiles."""
        for name, one in self.topic.first_of(names).items():
            assert call(self.owner, "/v1/score", one["transaction"])[0] == 200, name
        self.until_written()

    def until_written(self):
        """Until the profiles in Redis have all that the owner has decided."""
        end = call(self.owner, "/health")[1]["log"]["end"]
        until(lambda: (at := self.profiles.position()) is not None and at.position >= end)

    def owned(self, name):
        return call(self.owner, f"/v1/decisions/{name}")[1]

    def close(self):
        for server in [*self.fronts, self.owner]:
            server.stop()
        self.topic.close()
        self.profiles.close()


def call(server, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{HOST}:{server.port}{path}", data, {"content-type": "application/json"} if data else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(what):
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


def payment(card, shop="s1", amount=10.0):
    return {
        "transaction_id": f"p{secrets.token_hex(6)}", "event_time": datetime.now(UTC).isoformat(), "amount": amount,
        "card": card, "shop": shop,
    }  # fmt: skip


@pytest.fixture(scope="module")
def wide(service, shop_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("wide") / "tenants" / f"w{secrets.token_hex(4)}"  # its own project in Redis
    shutil.copytree(shop_home, home)
    made = Wide(home, service("redis").environment["REDIS_URL"], service("kafka").environment["SENTINEL_KAFKA"])
    pay = payment("warm-up")
    call(made.owner, "/v1/score", pay)  # the view is of a model once that has decided
    made.until_written()
    yield made
    made.close()


def test_with_current_profiles_every_feature_is_that_of_the_owner_to_the_bit(wide):
    for n in range(12):
        asked = [payment(f"c{card}", f"s{card}", amount=1.5 * n + card + 0.25) for card in range(3)]
        status, answers = call(wide.fronts[0], "/v1/score", asked)
        assert status == 200
        wide.own([one["transaction_id"] for one in asked])
        handed = wide.topic.first_of([one["transaction_id"] for one in asked])
        for sent, answer in zip(asked, answers, strict=True):
            owned = wide.owned(sent["transaction_id"])
            assert handed[sent["transaction_id"]]["features"] == list(owned["features"].values())
            assert (answer["fraud_probability"], answer["decision"]) == (owned["fraud_probability"], owned["decision"])
            assert (answer["features_state"], answer["degraded"]) == ("as_of", None)
            assert 0 <= answer["profiles_age_ms"] < 1000 * PATIENCE_S
    assert owned["features"]["count_by_card_24h"] == 12


def test_without_new_profiles_a_transaction_is_added_to_those_that_are_there(wide):
    asked = [payment("stale", "s9", amount) for amount in (5.0, 7.0, 11.0)]
    seen = []
    for one in asked:
        status, answer = call(wide.fronts[0], "/v1/score", one)
        assert (status, answer["features_state"]) == (200, "as_of")
        handed = wide.topic.first_of([one["transaction_id"]])[one["transaction_id"]]
        seen.append(dict(zip(wide.names, handed["features"], strict=True)))
    assert [one["count_by_card_24h"] for one in seen] == [1, 1, 1]  # nobody has told Redis of the others
    assert [one["amount"] for one in seen] == [5, 7, 11]
    wide.own([one["transaction_id"] for one in asked])
    assert [wide.owned(one["transaction_id"])["features"]["count_by_card_24h"] for one in asked] == [1, 2, 3]


def test_an_id_that_is_asked_of_two_fronts_at_once_gets_one_decision(wide):
    wide.fronts.append(wide.front())
    asked = [payment(f"t{n % 7}", amount=1.0 + n) for n in range(40)]
    with ThreadPoolExecutor(8) as threads:
        both = [[threads.submit(call, front, "/v1/score", one) for one in asked] for front in wide.fronts]
        first, second = ([future.result() for future in futures] for futures in both)
    handed = wide.topic.first_of([one["transaction_id"] for one in asked])
    for one, (status, here), (other_status, there) in zip(asked, first, second, strict=True):
        assert (status, other_status) == (200, 200)
        assert {here["replayed"], there["replayed"]} == {False, True}
        decision = {name: value for name, value in here.items() if name != "replayed"}
        assert decision == {name: value for name, value in there.items() if name != "replayed"}
        given = handed[one["transaction_id"]]["given"]
        assert decision == {name: value for name, value in given.items() if name != "replayed"}
    changed = {**asked[0], "amount": 99.0}
    for front in wide.fronts:
        status, said = call(front, "/v1/score", changed)
        assert (status, "other content" in said["error"]) == (409, True)


def test_what_a_front_answered_before_it_was_killed_is_what_another_one_repeats(wide):
    victim, answers = wide.front(), {}
    asked = [payment(f"k{n % 5}", amount=2.0 + n) for n in range(150)]
    killing = ThreadPoolExecutor(1)

    def ask(one):
        try:
            status, answer = call(victim, "/v1/score", one)
        except OSError:
            return
        assert status == 200
        answers[one["transaction_id"]] = answer

    with ThreadPoolExecutor(8) as threads:
        begun = [threads.submit(ask, one) for one in asked]
        until(lambda: len(answers) >= 20)
        killing.submit(victim.kill).result()
        for future in begun:
            future.result()
    killing.shutdown()
    again = {one["transaction_id"]: call(wide.fronts[0], "/v1/score", one) for one in asked}
    handed = wide.topic.first_of(again)
    for name, (status, answer) in again.items():
        assert status == 200
        given = handed[name]["given"]
        assert (given["decision"], given["fraud_probability"]) == (answer["decision"], answer["fraud_probability"])
        if name in answers:
            assert (answers[name]["fraud_probability"], answer["replayed"]) == (answer["fraud_probability"], True)
    assert 20 <= len(answers) < len(asked)


def test_equal_requests_are_decided_once(wide):
    one = payment("same")
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: call(wide.fronts[0], "/v1/score", one), range(200)))
    assert [status for status, _ in found].count(200) == 200
    assert [answer["replayed"] for _, answer in found].count(False) == 1
    wide.topic.first_of([one["transaction_id"]])
    assert [one["given"]["transaction_id"] for _, one in wide.topic.messages].count(one["transaction_id"]) == 1
