"""Transactions that are handed in over HTTP and go to whoever decides by way of Kafka: one who decides, and a front."""

import asyncio
import json
import secrets
import shutil
import time
import uuid
from collections import Counter
from contextlib import closing

import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.schema import Schema
from sentinel.record.entries import decision_rows
from sentinel.record.home_reader import open_log
from sentinel.record.kafka.connection import client_settings
from sentinel.record.kafka.kafka_log import KafkaLog
from sentinel.record.kafka.place import Place
from sentinel.record.log import Follower, Kind
from sentinel.transport.client import Client
from sentinel.transport.http.taken import Offer
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.decisions_seen import DecisionsSeen
from sentinel.transport.kafka.topics import ALL, create
from tests.http_calls import HOST, call
from tests.scenarios.kafka_streams import read_messages

PATH, LONG_S = "/api/v1/transactions", 90
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Consuming(ServerProcess):
    """`sentinel consume` instead of `sentinel serve`."""

    command = "consume"


@pytest.fixture(scope="module")
def topics(service):
    """Where the topics of these tests are."""
    found = Connection.of(service("kafka").environment["SENTINEL_KAFKA"], f"t{secrets.token_hex(4)}-", {})
    create(found, ALL, 1, -1, 7 * 86_400_000)
    return found


@pytest.fixture(scope="module")
def servers(topics, shop_home, tmp_path_factory):
    """One that decides and a front, which hand in to the same topic."""
    environment = {"SENTINEL_KAFKA": topics.servers, "SENTINEL_KAFKA_PREFIX": topics.prefix,
                   "SENTINEL_TRANSACTIONS_TO": "kafka"}  # fmt: skip
    folder, started = tmp_path_factory.mktemp("fronts"), []
    for name, kind in (("owner", Consuming), ("front", ServerProcess)):
        home = shutil.copytree(shop_home, folder / name)
        started.append(kind(home, HOST, free_port(HOST), environment=environment))
        started[-1].start()
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def owner(servers):
    return servers[0]


@pytest.fixture
def front(servers):
    return servers[1]


def taken(server, body, **headers):
    """Hand it in once the server can."""
    end = time.monotonic() + LONG_S
    while (found := call(server, PATH, body, **headers))[0] == 503:
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def decided(server, name):
    """The decision that the server tells of; before that it is pending at most."""
    end = time.monotonic() + LONG_S
    while (found := call(server, f"/v1/decisions/{name}"))[0] != 200:
        assert found == (202, found[1])
        assert found[1]["status"] == "pending"
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found[1]


def payment(**changes):
    usual = {"transaction_id": uuid.uuid4().hex, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5, "card": "c1"}
    return usual | {"shop": "s", "channel": "web"} | changes


def rows_of(home):
    with closing(open_log(home)) as log:
        return [row for page in Follower(log, 0).rest() for one in page if one.kind == Kind.DECIDED
                for row in decision_rows(one)]  # fmt: skip


def messages_in(topics, topic):
    return read_messages({"SENTINEL_KAFKA": topics.servers, "SENTINEL_KAFKA_PREFIX": topics.prefix}, topic)


def test_what_is_handed_in_is_in_the_topic_as_it_came_and_then_decided(topics, owner):
    one = payment()
    status, answer = taken(owner, one, traceparent=TRACE)
    assert (status, answer) == (
        202,
        {"status": "success", "message": "It is in the topic", "transaction_id": one["transaction_id"],
         "source": "kafka", "decision": f"/v1/decisions/{one['transaction_id']}"},
    )  # fmt: skip
    (message,) = [m for m in messages_in(topics, "transactions") if one["transaction_id"].encode() in m.value()]
    assert (json.loads(message.value()), message.key()) == (one, b"c1")
    assert dict(message.headers())["traceparent"].decode() == TRACE
    assert decided(owner, one["transaction_id"])["transaction"]["amount"] == 12.5


def test_the_same_again_is_known_and_other_content_a_conflict_before_and_after_its_decision(owner):
    one = payment()
    assert taken(owner, one)[1]["status"] == "success"
    for _ in range(2):
        assert taken(owner, one)[1]["status"] == "ignored"
        assert call(owner, PATH, one | {"amount": 13.5})[0] == 409
        decided(owner, one["transaction_id"])


def test_two_fronts_may_both_take_it_and_it_is_decided_once(owner, front):
    one = payment()
    assert [taken(server, one)[0] for server in (front, owner)] == [202, 202]
    seen = decided(front, one["transaction_id"])
    stored = decided(owner, one["transaction_id"])
    assert (seen["fraud_probability"], seen["decision"]) == (stored["fraud_probability"], stored["decision"])
    assert taken(front, one)[1]["status"] == "ignored"
    last = payment()
    taken(owner, last)
    decided(owner, last["transaction_id"])
    assert [row.transaction_id for row in rows_of(owner.home)].count(one["transaction_id"]) == 1
    assert rows_of(front.home) == []


def test_other_content_under_an_id_of_another_front_becomes_a_dead_letter(topics, owner, front):
    one = payment()
    taken(owner, one)
    decided(owner, one["transaction_id"])
    assert taken(front, one | {"amount": 99.0})[1]["status"] == "success"
    end = time.monotonic() + LONG_S
    while not (letters := [m for m in messages_in(topics, "dead-letters") if b"99.0" in m.value()]):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert b"with other content" in dict(letters[0].headers())["reason"]


def test_each_of_a_batch_has_its_own_answer(front):
    one = payment()
    status, told = taken(front, [one, payment(amount="x"), one, one | {"amount": 13.5}])
    assert (status, [each["status"] for each in told]) == (200, ["success", 422, "ignored", 409])
    assert decided(front, one["transaction_id"])["decision"] in ("approve", "review", "block")


def test_of_a_thousand_equal_requests_at_once_one_is_new(front):
    body = json.dumps(payment()).encode()

    async def all_at_once():
        async with Client(HOST, front.port, 250) as client:
            return await asyncio.gather(*(client.post(PATH, body) for _ in range(1_000)))

    answers = asyncio.run(all_at_once())
    assert {status for status, _, _ in answers} == {202}
    assert Counter(json.loads(one)["status"] for _, one, _ in answers) == {"success": 1, "ignored": 999}


def test_what_cannot_be_read_is_refused_and_not_in_the_topic(topics, front):
    before = len(messages_in(topics, "transactions"))
    assert call(front, PATH, payment(amount="x"))[0] == 422
    assert call(front, "/v1/decisions/nobody")[0] == 404
    assert len(messages_in(topics, "transactions")) == before


def test_what_comes_without_an_id_gets_one_in_its_message_and_without_a_time_none_counts():
    schema = Schema(optional=("transaction_id", "event_time"))
    for raw in (b'{"amount": 1.5}', b'{"transaction_id":null,"amount":1.5}'):
        transaction = schema.decode(raw)
        schema.assign(transaction, "made")
        offer = Offer.of(schema, transaction, raw, None)
        assert json.loads(offer.value) == {"amount": 1.5, "transaction_id": "made"}
        assert (offer.name, offer.key, offer.ignoring) == ("made", "made", "event_time")
    raw = b'{"transaction_id": 7, "amount": 1.5, "event_time": 1735689600}'
    offer = Offer.of(schema, schema.decode(raw), raw, TRACE)
    assert (offer.value, offer.name, offer.ignoring, offer.traceparent) == (raw, "7", None, TRACE)


def test_a_front_sees_what_a_log_in_kafka_has_decided(service, made):
    servers, prefix = service("kafka").environment["SENTINEL_KAFKA"], f"t{secrets.token_hex(4)}-"
    seen, decisions = DecisionsSeen(Connection.of(servers, prefix, {})), {}
    place = Place(servers, prefix)
    with closing(KafkaLog(place, client_settings(place, {}))) as log, closing(seen):
        seen.open(lambda name: name != "t2", lambda name, decision: decisions.update({name: json.loads(decision)}))
        log.write(Kind.DECIDED, 3, 5, made.decided([{"id": f"t{n}"} for n in range(3)]))
        log.write(Kind.HEARTBEAT, 1, 6, b"")
        log.write(Kind.DECIDED, 1, 7, made.decided([{"id": "last"}]))
        end = time.monotonic() + LONG_S
        while "last" not in decisions:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert decisions.keys() == {"t0", "t1", "last"}
    assert (decisions["t1"]["position"], decisions["t1"]["transaction_id"]) == (2, "t1")


def test_without_brokers_it_cannot_be_asked_for():
    with pytest.raises(InvalidDefinition, match="needs SENTINEL_KAFKA"):
        Settings(transactions_to="kafka")
