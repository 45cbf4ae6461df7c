"""An owner whose follower writes profiles, fronts beside it, and what an independent reader sees of their topic."""

import json
import os
import secrets
import subprocess
import sys
import time
from datetime import UTC, datetime

from confluent_kafka import Consumer, TopicPartition

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.model.bundle import read_manifest
from sentinel.record.kafka.place import topics_of
from sentinel.record.online.place import open_online
from services.catalog import CATALOG
from services.keeper import Keeper
from tests.http_calls import HOST, PATIENCE_S, call, until


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


class OwnerAndFronts:
    """An owner whose follower writes profiles, fronts over the same home, and the topic between them."""

    def __init__(self, home, redis, kafka):
        self.home = home
        self._environment = {
            "SENTINEL_REDIS_URL": redis, "SENTINEL_KAFKA": kafka, "SENTINEL_KAFKA_PREFIX": f"w{secrets.token_hex(4)}-",
            "SENTINEL_FRONTS_KEY": secrets.token_hex(32),
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
        self.servers = []

    def start(self):
        """An owner that has decided once, since the view is of a model from then on; and a front."""
        self.owner = self._started(SENTINEL_KAFKA="")
        assert call(self.owner, "/v1/score", payment("warm-up"))[0] == 200
        self.until_written()
        self.fronts = [self.front()]

    def front(self):
        return self._started(SENTINEL_PROFILES="redis")

    def _started(self, **more):
        server = ServerProcess(self.home, HOST, free_port(HOST), environment=self._environment | more)
        self.servers.append(server)
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
        for server in reversed(self.servers):
            server.stop()
        self.topic.close()
        self.profiles.close()


class OwnRedis:
    """A server that a test may kill, with what the one that runs here was installed with."""

    def __init__(self, folder):
        folder.mkdir()
        (folder / "venv-redis").symlink_to(Keeper(CATALOG).folder / "venv-redis")
        self._keeper = Keeper({"redis": CATALOG["redis"]}, folder)
        self.start()

    def start(self):
        self.url = self._keeper.up("redis", lambda _said: None).environment["REDIS_URL"]

    def stop(self):
        self._keeper.stop("redis")


def payment(card, shop="s1", amount=10.0):
    return {
        "transaction_id": f"p{secrets.token_hex(6)}", "event_time": datetime.now(UTC).isoformat(), "amount": amount,
        "card": card, "shop": shop,
    }  # fmt: skip
