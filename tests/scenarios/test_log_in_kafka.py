"""A server whose log is in Kafka: nothing that was answered is lost or there twice, and its disk can be thrown away."""

import asyncio
import json
import shutil
import time
import uuid
from collections import Counter
from contextlib import closing, suppress

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.errors import StorageProblem
from sentinel.record.applied import HomeDeployment
from sentinel.record.entries import decision_rows
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.segment import Image, record_at, seed_of
from sentinel.transport.client import Client

HOST = "127.0.0.1"


def payment(i):
    return json.dumps(
        {"transaction_id": f"{i}-{uuid.uuid4().hex}", "event_time": 1_738_400_000 + i, "amount": 10 + i % 50,
         "card": f"card-{i % 20}", "shop": f"shop-{i % 7}"}
    ).encode()  # fmt: skip


@pytest.fixture
def start(shop_home, tmp_path):
    """Starts servers of home folders whose log is in this broker; all are ended."""
    servers = []

    def starting(name, brokers):
        home = tmp_path / name
        if not home.exists():
            shutil.copytree(shop_home, home)
        environment = {"SENTINEL_LOG": "kafka", "SENTINEL_KAFKA": brokers, "SENTINEL_KAFKA_PREFIX": prefix}
        servers.append(ServerProcess(home, HOST, free_port(HOST), environment=environment))
        servers[-1].start()
        return servers[-1]

    prefix = f"test-{uuid.uuid4().hex[:8]}-"
    starting.prefix = prefix
    yield starting
    for server in servers:
        server.stop()


async def send(port, seconds, acknowledged, during=None):
    """Eight clients; what was answered is kept, what was not is sent again."""
    until = time.monotonic() + seconds

    async def one(client, i):
        while time.monotonic() < until:
            body = payment(i)
            i += 8
            while time.monotonic() < until + 60:
                status, answer, _ = await client.post("/v1/score", body)
                if status == 200:
                    acknowledged[json.loads(answer)["transaction_id"]] = (body, json.loads(answer))
                    break
                await asyncio.sleep(0.05)

    async with Client(HOST, port, 8) as client:
        sending = [asyncio.ensure_future(one(client, n)) for n in range(8)]
        if during is not None:
            await asyncio.sleep(seconds / 2)
            await asyncio.get_running_loop().run_in_executor(None, during)
        with suppress(Exception):
            await asyncio.gather(*sending)


def assert_answers_stay(port, acknowledged):
    async def ask():
        async with Client(HOST, port, 1) as client:
            give_up = time.monotonic() + 90
            for body, answer in acknowledged.values():
                while (found := await client.post("/v1/score", body))[0] == 503:
                    assert time.monotonic() < give_up, found[1]
                    await asyncio.sleep(0.1)
                status, again, _ = found
                assert status == 200
                assert json.loads(again) == {**answer, "replayed": True}

    asyncio.run(ask())


def decided_in(servers, prefix):
    """The ids of all committed decisions, and their scores, read by a consumer that is none of ours."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "check", "isolation.level": "read_committed",
         "enable.partition.eof": True, "enable.auto.commit": False}
    )  # fmt: skip
    consumer.assign([TopicPartition(f"{prefix}decisions", 0, 0)])
    rows = []
    while True:
        message = consumer.poll(30)
        assert message is not None
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF
            consumer.close()
            return rows
        log_id = dict(message.headers())["log"].decode()
        record = record_at(Image(message.value()), 0, seed_of(log_id)).record
        if record.kind == Kind.DECIDED:
            rows += decision_rows(record)


def assert_decided_once(servers, prefix, acknowledged):
    rows = decided_in(servers, prefix)
    assert max(Counter(row.transaction_id for row in rows).values()) == 1
    scores = {row.transaction_id: row.fraud_probability for row in rows}
    assert acknowledged.keys() <= scores.keys()
    assert all(answer["fraud_probability"] == scores[name] for name, (_, answer) in acknowledged.items())


def test_a_log_of_files_moves_and_a_fresh_disk_answers_as_the_one_that_was_killed(service, start, tmp_path):
    brokers, acknowledged = service("kafka").environment["SENTINEL_KAFKA"], {}
    server = start("home", brokers)
    asyncio.run(send(server.port, 1.0, acknowledged, server.kill))
    assert len(acknowledged) > 20
    with pytest.raises(StorageProblem, match="its server alone writes it"):
        HomeDeployment(tmp_path / "home").change(lambda before: before._replace(challenger=None))
    with closing(open_log(tmp_path / "home")) as log, closing(FileLogReader(tmp_path / "home" / "log.moved")) as before:
        moved = [record for page in Follower(before, 1).rest() for record in page]
        assert len(moved) > 1
        assert log.log_id == before.log_id
        assert log.read(1, sum(record.rows for record in moved))[: len(moved)] == moved
    (tmp_path / "other").mkdir()
    shutil.copytree(tmp_path / "home" / "models", tmp_path / "other" / "models")
    fresh = start("other", brokers)
    assert_answers_stay(fresh.port, acknowledged)
    asyncio.run(send(fresh.port, 0.5, acknowledged))
    assert_answers_stay(fresh.port, acknowledged)
    assert_decided_once(brokers, start.prefix, acknowledged)


def test_a_broker_that_is_killed_under_load_loses_nothing_and_decides_nothing_twice(own_kafka, start):
    acknowledged = {}
    server = start("home", own_kafka.servers)

    def kill_and_start():
        own_kafka.kill()
        own_kafka.start()

    asyncio.run(send(server.port, 4.0, acknowledged, kill_and_start))
    assert len(acknowledged) > 50
    assert_answers_stay(server.port, acknowledged)
    assert_decided_once(own_kafka.servers, start.prefix, acknowledged)
