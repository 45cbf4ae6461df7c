"""What hostile or careless writers do to the topics of `sentinel consume`: each is told, and the rest goes on."""

import json
import shutil
import signal
import struct
import urllib.request

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from sentinel.commands.server_process import free_port
from tests.http_calls import HOST
from tests.scenarios.kafka_streams import (
    Consuming,
    decided_in,
    keyed,
    new_topics,
    payment,
    read_messages,
    send,
    sentinel,
    until,
)

RECURSIVE = {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]}
EMPTY = {"type": "record", "name": "N", "fields": [{"name": "many", "type": {"type": "array", "items": "null"}}]}


@pytest.fixture(scope="module")
def topics(service, tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemas")
    for number, schema in ((1, RECURSIVE), (2, EMPTY)):
        (folder / f"{number}.avsc").write_text(json.dumps(schema))
    found = new_topics(service("kafka").environment["SENTINEL_KAFKA"], SENTINEL_AVRO_SCHEMAS=str(folder))
    sentinel(found, "topics", "create", "--json")
    return found


@pytest.fixture(scope="module")
def server(topics, shop_home, tmp_path_factory):
    home = shutil.copytree(shop_home, tmp_path_factory.mktemp("hostile") / "home")
    one = Consuming(home, HOST, free_port(HOST), environment=topics)
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture
def admin(topics):
    return AdminClient({"bootstrap.servers": topics["SENTINEL_KAFKA"]})


def decided(server):
    return {row.transaction_id for row in decided_in(server.home)}


def test_messages_that_are_bombs_are_dead_letters_and_what_follows_is_decided(server, topics):
    deep, name = 100_000, topics["SENTINEL_KAFKA_PREFIX"] + "transactions"
    card = json.dumps(payment(0))[:-1].encode()
    bombs = [
        b"[" * deep,
        b'{"transaction_id":' + b"[" * deep,
        card + b', "x":' + b"[" * deep + b"]" * deep + b"}",
        card + b', "x":' + b'{"a":' * deep + b"1" + b"}" * deep + b"}",
        struct.pack(">bI", 0, 1) + b"\x02" * deep + b"\0",
        struct.pack(">bI", 0, 2) + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\0",
        b'{"transaction_id": "\\ud800"}',
        b'{"amount": ' + b"9" * 50_000 + b"}",
        b'{"amount": 1e999}',
        b'{"given":{"decision":"approve"},"features":[],"transaction":' + card + b"}}",
        b" " * (40 << 20),  # 40 MiB that are 40 kB as they travel
    ]
    told = {"bootstrap.servers": topics["SENTINEL_KAFKA"], "compression.type": "gzip", "message.max.bytes": 64 << 20}
    producer = Producer(told)
    for one in bombs:
        producer.produce(name, one, b"c")
    producer.produce(name, b"{", b"c", headers=[(f"h{n}", b"x") for n in range(20_000)])
    producer.produce(name, b"{", b"c", headers=[("h", b"x" * (8 << 20))] * 2)
    for n in (100, 101):
        producer.produce(name, json.dumps(payment(n)).encode(), b"c")
    assert producer.flush(60) == 0
    until(lambda: {"p100", "p101"} <= decided(server))
    letters = read_messages(topics, "dead-letters")
    assert len(letters) == len(bombs) + 2
    found = sentinel(topics, "dead-letters", "list", "--json")["dead_letters"]
    whole = [one for one in found if one["cut"] is None]
    assert [one["bytes"] for one in whole] == [len(one) for one in bombs[:-1]] + [1]
    assert [one["cut"] for one in found if one["cut"]] == [(40 << 20) + 1, pytest.approx((16 << 20) + 2, abs=64)]
    assert len(letters[-2].headers()) == 20_003
    reasons = [one["reason"] for one in found]
    assert "its type R is inside itself" in reasons[4]
    assert "an array of what takes no bytes" in reasons[5]
    assert "this server takes none" in reasons[9]  # of a front's answers
    cut = next(one["number"] for one in found if one["cut"])
    assert "has the beginning of 41,943,041 bytes only" in sentinel(topics, "dead-letters", "retry", cut, code=1)
    assert server.is_ready()


def test_times_of_long_ago_and_far_ahead_are_told_and_do_not_move_the_clock(server, topics):
    """A message bears its writer's times; what the broker stamps is the clock."""
    producer = Producer({"bootstrap.servers": topics["SENTINEL_KAFKA"]})
    for at_ms in (0, 4_102_444_800_000):
        one = payment(at_ms % 7 + 200, event_time=at_ms // 1_000)
        producer.produce(
            topics["SENTINEL_KAFKA_PREFIX"] + "transactions", json.dumps(one).encode(), b"c", timestamp=at_ms
        )
    assert producer.flush(60) == 0
    send(topics, "transactions", keyed(payment(210)))
    until(lambda: "p210" in decided(server))
    before, after = (next(row for row in decided_in(server.home) if row.transaction_id == name).received_us
                     for name in ("p101", "p210"))  # fmt: skip
    assert 0 < after - before < 3_600_000_000


def test_what_was_deleted_before_it_was_read_is_told_and_the_rest_is_decided(server, topics, admin):
    name = topics["SENTINEL_KAFKA_PREFIX"] + "transactions"
    server.signal(signal.SIGSTOP)
    try:
        send(topics, "transactions", keyed(payment(300), payment(301), payment(302)))
        end = read_messages(topics, "transactions")[-1].offset() + 1
        (done,) = admin.delete_records([TopicPartition(name, 0, end - 1)]).values()
        assert done.result(60).low_watermark == end - 1
    finally:
        server.signal(signal.SIGCONT)
    until(lambda: "p302" in decided(server))
    if "p300" not in decided(server):  # unless it had been fetched before it was stopped
        assert "what was between is gone" in (server.home / "server.log").read_text()


def test_a_topic_that_is_deleted_is_told_and_one_that_is_made_anew_is_read(server, topics, admin):
    name = topics["SENTINEL_KAFKA_PREFIX"] + "transactions"
    admin.delete_topics([name])[name].result(60)
    until(lambda: f"there is no topic {name}" in server.health()["stream"]["status"])
    sentinel(topics, "topics", "create", "--json")
    send(topics, "transactions", keyed(payment(400)))
    until(lambda: "p400" in decided(server))
    until(server.is_ready)


def test_partitions_that_are_added_are_refused_where_a_feature_follows_another_key(server, topics, admin):
    name = topics["SENTINEL_KAFKA_PREFIX"] + "transactions"
    admin.create_partitions([NewPartitions(name, 2)])[name].result(60)
    until(lambda: "partitions" in server.health()["stream"]["status"])
    until(lambda: not server.is_ready())
    with urllib.request.urlopen(f"http://{HOST}:{server.port}/metrics/prom", timeout=60) as reply:
        assert "sentinel_stream_stuck 1" in reply.read().decode().replace(".0", "")
    admin.delete_topics([name])[name].result(60)
    admin.create_topics([NewTopic(name, 1, config={"message.timestamp.type": "LogAppendTime"})])[name].result(60)
    send(topics, "transactions", keyed(payment(500)))
    until(lambda: "p500" in decided(server))
    until(server.is_ready)
