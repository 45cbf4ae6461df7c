"""What tests of `sentinel consume` share: servers, topics, and independent readers of what is in them."""

import json
import os
import secrets
import subprocess
import sys
import time
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from sentinel.commands.server_process import ServerProcess
from sentinel.model.bundle import read_manifest
from sentinel.record.entries import decision_rows
from sentinel.record.home_reader import open_log
from sentinel.record.kafka.message import found_in
from sentinel.record.log import Follower, Kind
from tests.http_calls import call

LONG_S = 120


class Consuming(ServerProcess):
    """`sentinel consume` instead of `sentinel serve`."""

    command = "consume"

    def begin(self) -> None:
        """Start it, and wait only until it answers: it may stand by."""
        self._is_ready, usual = self.answers, self._is_ready
        try:
            self.start()
        finally:
            self._is_ready = usual

    def answers(self) -> bool:
        try:
            self.health()
        except (OSError, ValueError):
            return False
        return True

    def is_ready(self) -> bool:
        try:
            return self.ask("/health/ready")[0] == 200
        except OSError:
            return False

    def health(self) -> dict:
        return self.ask("/health")[1]

    def ask(self, path: str, body: dict | None = None, patience_s: float = 60) -> tuple[int, dict]:
        """The status and the body of an answer."""
        return call(self, path, body, patience_s)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


def new_topics(broker: str, **more: str) -> dict[str, str]:
    """The environment of a server with topics of its own."""
    return {"SENTINEL_KAFKA": broker, "SENTINEL_KAFKA_PREFIX": f"t{secrets.token_hex(4)}-", **more}


def sentinel(environment, *command, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", *command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(done.stdout) if done.stdout else done.stderr


def send(topics, topic, messages, headers=()):
    """Pairs of key and value."""
    producer = Producer({"bootstrap.servers": topics["SENTINEL_KAFKA"], "message.max.bytes": 8 << 20})
    for key, value in messages:
        value = json.dumps(value).encode() if isinstance(value, dict) else value
        producer.produce(topics["SENTINEL_KAFKA_PREFIX"] + topic, value, key, headers=list(headers))
    assert producer.flush(60) == 0


def read_messages(topics, topic):
    """What an independent reader sees of a topic, committed only, in the order of each partition."""
    consumer = Consumer({"bootstrap.servers": topics["SENTINEL_KAFKA"], "group.id": secrets.token_hex(8),
                         "isolation.level": "read_committed", "enable.partition.eof": True})  # fmt: skip
    name = topics["SENTINEL_KAFKA_PREFIX"] + topic
    left = set(consumer.list_topics(name, timeout=30).topics[name].partitions)
    consumer.assign([TopicPartition(name, n, 0) for n in left])
    found, end = [], time.monotonic() + LONG_S
    while left:
        message = consumer.poll(0.1)
        if message is not None and message.error() is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF
            left.discard(message.partition())
        elif message is not None:
            found.append(message)
        assert time.monotonic() < end
    consumer.close()
    return found


def read_all(topics, topic):
    """The keys and values of these."""
    return [(one.key(), one.value()) for one in read_messages(topics, topic)]


def records_in_kafka(topics):
    """The records of a log in Kafka, each with the positions of its inputs, as an independent reader sees them."""
    return [found_in(one) for one in read_messages(topics, "decisions")]


def decided_in_kafka(topics):
    records = [one.record for one in records_in_kafka(topics)]
    return [row for one in records if one.kind == Kind.DECIDED for row in decision_rows(one)]


def entries_in(home):
    with closing(open_log(home)) as log:
        return [record for page in Follower(log, 0).rest() for record in page]


def decided_in(home):
    return [row for one in entries_in(home) if one.kind == Kind.DECIDED for row in decision_rows(one)]


def assert_counted_once(home, rows):
    """Every decision has seen each transaction of its card before it, once: the n-th of a card counts n."""
    place = read_manifest(home / "models" / "v1").plan.names.index("count_by_card_24h")
    for row in rows:
        assert row.features[place] == int(row.transaction_id[1:]) // 20 + 1


def until(what, patience_s=LONG_S):
    end = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def payment(n, **changes):
    usual = {"transaction_id": f"p{n}", "event_time": 1_738_400_000 + n, "amount": 10 + n % 90, "card": f"c{n % 20}"}
    return usual | {"shop": f"s{n % 5}"} | changes


def keyed(*payments):
    return [(one["card"], one) for one in payments]
