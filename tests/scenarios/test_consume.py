"""`sentinel consume` on a real broker: what comes in is decided once and comes out once, whatever ends in between."""

import io
import json
import os
import shutil
import struct
import threading
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fastavro
import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from sentinel.commands.server_process import free_port
from sentinel.record.entries import context_rows, outcome_rows
from sentinel.record.log import Kind
from tests.http_calls import HOST
from tests.scenarios.kafka_streams import (
    Consuming,
    assert_counted_once,
    decided_in,
    entries_in,
    keyed,
    new_topics,
    payment,
    read_all,
    read_messages,
    send,
    sentinel,
    until,
)

KILLS = int(os.environ.get("SENTINEL_KILLS", "2"))
AVRO = {
    "type": "record", "name": "Payment", "fields": [
        {"name": "transaction_id", "type": "string"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "card", "type": "string"}, {"name": "shop", "type": "string"},
        {"name": "channel", "type": ["null", "string"]},
    ],
}  # fmt: skip
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def broker(service):
    return service("kafka").environment["SENTINEL_KAFKA"]


@pytest.fixture
def topics(broker, tmp_path):
    """The environment of a server with topics of its own."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "7.avsc").write_text(json.dumps(AVRO))
    found = new_topics(broker, SENTINEL_AVRO_SCHEMAS=str(tmp_path / "schemas"))
    assert len(sentinel(found, "topics", "create", "--json")["made"]) == 5
    return found


@pytest.fixture
def start(topics, tmp_path):
    started = []

    def starting(home, **more):
        copy = shutil.copytree(home, tmp_path / "home")
        started.append(Consuming(copy, HOST, free_port(HOST), environment={**topics, **more}))
        started[0].start()
        return started[0]

    yield starting
    for server in started:
        server.stop()


def as_avro(number, one, schema=AVRO):
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(schema), one)
    return struct.pack(">bI", 0, number) + data.getvalue()


def test_transactions_events_and_outcomes_are_taken_and_decisions_come_out(start, topics, event_shop_home):
    server = start(event_shop_home)
    some = [payment(n) for n in range(500)]
    send(topics, "events", [("c1", {"event": "login", "event_id": "e1", "event_time": 1_738_400_000, "card": "c1",
                                    "channel": "web"})])  # fmt: skip
    send(topics, "transactions", keyed(*some))
    until(lambda: len(decided_in(server.home)) == 500)
    send(topics, "outcomes", [("c1", {"transaction_id": "p1", "is_fraud": True, "source": "bank"})])
    until(lambda: any(one.kind == Kind.OUTCOMES for one in entries_in(server.home)))
    with urllib.request.urlopen(f"http://{HOST}:{server.port}/v1/decisions/p1") as reply:
        shown = json.load(reply)
    assert [one["source"] for one in shown["outcomes"]] == ["bank"]
    server.stop()
    told = [(key.decode(), json.loads(value)) for key, value in read_all(topics, "decisions")]
    assert sorted(one["transaction_id"] for _, one in told) == sorted(one["transaction_id"] for one in some)
    of = {row.transaction_id: row for row in decided_in(server.home)}
    for key, one in told:
        row = of[one["transaction_id"]]
        assert key == f"c{int(one['transaction_id'][1:]) % 20}"
        assert (one["decision"], one["fraud_probability"]) == (row.decision, row.fraud_probability)
    rows = [row for one in entries_in(server.home) if one.kind == Kind.CONTEXT for row in context_rows(one)]
    assert [row.event_id for row in rows] == ["e1"]
    assert read_all(topics, "dead-letters") == []


def test_a_file_that_is_sent_to_kafka_is_decided(start, topics, shop_home, shop_detector, tmp_path):
    server = start(shop_home)
    file = tmp_path / "payments.jsonl"
    some = [payment(n, event_time=f"2025-02-01T10:{n // 60:02}:{n % 60:02}Z", is_fraud=n == 3) for n in range(300)]
    file.write_text("".join(json.dumps(one) + "\n" for one in some))
    to = ("send", str(file), "--to", "kafka", "--detector", shop_detector, "--home", str(tmp_path / "own"), "--json")
    assert sentinel(topics, *to)["new"] == 300
    until(lambda: len(decided_in(server.home)) == 300)
    again = sentinel(topics, *to, "--outcomes")
    assert (again["new"], again["earlier"], again["outcomes"]) == (0, 300, {"new": 300})
    until(lambda: sum(len(outcome_rows(one)) for one in entries_in(server.home) if one.kind == Kind.OUTCOMES) == 300)
    assert read_all(topics, "dead-letters") == []


def test_a_card_s_transactions_are_decided_in_their_order(start, topics, shop_home):
    server = start(shop_home)
    send(topics, "transactions", keyed(*(payment(n) for n in range(2_000))))
    until(lambda: len(decided_in(server.home)) == 2_000)
    rows = decided_in(server.home)
    for card in range(20):
        numbers = [int(row.transaction_id[1:]) for row in rows if int(row.transaction_id[1:]) % 20 == card]
        assert numbers == sorted(numbers)
    assert not any(row.late for row in rows if row.transaction_id == "p1999")


def test_avro_is_decided_as_the_same_in_json(start, topics, shop_home):
    server = start(shop_home)
    one = {"transaction_id": "a1", "event_time": datetime.fromtimestamp(1_738_400_000, UTC), "amount": Decimal("12.50"),
           "card": "avro", "shop": "s1", "channel": "web"}  # fmt: skip
    send(topics, "transactions", [("avro", as_avro(7, one))])
    until(lambda: len(decided_in(server.home)) == 1)
    send(topics, "transactions", [("avro", {**one, "event_time": 1_738_400_000, "amount": 12.5})])
    send(topics, "transactions", keyed(payment(1)))
    until(lambda: len(decided_in(server.home)) == 2)
    assert [row.transaction_id for row in decided_in(server.home)] == ["a1", "p1"]  # the second a1 was the same one
    assert read_all(topics, "dead-letters") == []


def test_what_nothing_can_be_made_of_is_a_dead_letter_with_its_bytes_and_blocks_nobody(
    start, topics, shop_home, tmp_path
):
    server = start(shop_home)
    large = json.dumps(payment(6, channel="x" * 2_000_000)).encode()
    poison = [
        ("c", b"{"), ("c", b"\xff\xfe"), ("c", None), (None, json.dumps(payment(5)).encode()), ("c", large),
        ("c", json.dumps(payment(7, colour="red")).encode()), ("c", json.dumps(payment(8, amount="x")).encode()),
        ("c", b"\0\0"), ("c", struct.pack(">bI", 0, 99) + b"abc"), ("c", struct.pack(">bI", 0, 7) + b"\xff" * 5),
        ("c", as_avro(7, {"transaction_id": "x", "event_time": 1, "amount": Decimal(1), "card": "c", "shop": "s", "channel": None})
              + b"left"), ("c", b"[1,2]"), ("c", b""), ("c", json.dumps(payment(1, amount=77)).encode()),
    ]  # fmt: skip
    send(topics, "transactions", keyed(payment(1)))
    until(lambda: len(decided_in(server.home)) == 1)
    send(topics, "transactions", poison)
    send(topics, "outcomes", [(None, {"transaction_id": "p1"}), (None, {"transaction_id": "p1", "is_fraud": True})])
    send(topics, "events", [(None, {"event": "login", "event_id": "e1"})])
    send(topics, "transactions", keyed(payment(2)))
    until(lambda: len(decided_in(server.home)) == 2)
    until(lambda: any(one.kind == Kind.OUTCOMES and outcome_rows(one) for one in entries_in(server.home)))
    until(lambda: len(read_all(topics, "dead-letters")) == len(poison) + 2)
    server.stop()
    found = sentinel(topics, "dead-letters", "list", "--json")["dead_letters"]
    of = {(one["topic"].removeprefix(topics["SENTINEL_KAFKA_PREFIX"])) for one in found}
    assert of == {"transactions", "outcomes", "events"}
    assert len({(one["topic"], one["place"]) for one in found}) == len(poison) + 2
    reasons = "\n".join(one["reason"] for one in found)
    for said in ("No valid JSON", "tombstone", "No key", "2000", "colour", "`$.amount`", "number of its schema",
                 "no file 99.avsc", "Avro schema 7", "left behind", "decided before with other content", "is_fraud",
                 "knows no context events"):  # fmt: skip
        assert said in reasons, said
    values = [value for _, value in read_all(topics, "dead-letters")]
    assert sorted(value or b"" for _, value in poison) == sorted(
        value or b""
        for value in values
        if value not in (b'{"transaction_id": "p1"}', b'{"event": "login", "event_id": "e1"}')
    )
    (big,) = [one for one in found if one["bytes"] == len(large)]
    sentinel(topics, "dead-letters", "show", big["number"], "--out", str(tmp_path / "big"))
    assert (tmp_path / "big").read_bytes() == large


def test_a_dead_letter_is_taken_when_it_is_sent_again_after_the_fault_is_mended(start, topics, shop_home, tmp_path):
    server = start(shop_home)
    two = AVRO | {"name": "Later"}
    one = {"transaction_id": "later", "event_time": 1_738_400_000_000, "amount": Decimal(1), "card": "c", "shop": "s"}
    send(topics, "transactions", [("c", as_avro(8, one | {"channel": None}, two))])
    until(lambda: len(read_all(topics, "dead-letters")) == 1)
    (tmp_path / "schemas" / "8.avsc").write_text(json.dumps(two))
    assert sentinel(topics, "dead-letters", "retry", "--json") == {"sent_again": 1}
    until(lambda: [row.transaction_id for row in decided_in(server.home)] == ["later"])
    assert "no dead letter 9-9" in sentinel(topics, "dead-letters", "retry", "9-9", code=1)


def test_nothing_is_lost_and_nothing_is_twice_over_kills(start, topics, shop_home):
    server, sent, rng = start(shop_home), 0, np.random.default_rng(7)
    for number in range(KILLS + 1):
        some = [payment(n) for n in range(sent, sent + 3_000)]
        sent += len(some)
        send(topics, "transactions", keyed(*some))
        send(topics, "transactions", [("c", b"poison %d" % number)])
        if number < KILLS:
            time.sleep(rng.uniform(0.0, 0.4))
            server.kill()
            server.start()
    until(lambda: len(decided_in(server.home)) >= sent)
    until(lambda: len(read_all(topics, "decisions")) >= sent)
    server.stop()
    rows = decided_in(server.home)
    names = [row.transaction_id for row in rows]
    assert sorted(names) == sorted(f"p{n}" for n in range(sent))
    told = [json.loads(value) for _, value in read_all(topics, "decisions")]
    assert sorted(one["transaction_id"] for one in told) == sorted(names)
    of = {row.transaction_id: row for row in rows}
    assert all(one["fraud_probability"] == of[one["transaction_id"]].fraud_probability for one in told)
    assert_counted_once(server.home, rows)
    dead = {value for _, value in read_all(topics, "dead-letters")}
    assert dead == {b"poison %d" % n for n in range(KILLS + 1)}
    replayed = sentinel(topics, "replay", "--all", "--home", str(server.home), "--json")
    assert (replayed["differing"], replayed["impossible"]) == (0, 0)
    assert replayed["decisions"] == sent


def test_what_waited_in_kafka_bears_the_time_at_which_it_came_in_and_its_trace_goes_on(start, topics, shop_home):
    send(topics, "transactions", keyed(payment(0)), headers=[("traceparent", TRACE.encode())])
    (sent,) = read_messages(topics, "transactions")
    time.sleep(1.5)  # it waits for as long
    server = start(shop_home)
    until(lambda: len(decided_in(server.home)) == 1)
    (row,) = decided_in(server.home)
    until(lambda: len(read_messages(topics, "decisions")) == 1)
    (told,) = read_messages(topics, "decisions")
    assert dict(told.headers())["traceparent"].decode().split("-")[1] == TRACE.split("-")[1]
    newest = max(one.received_us for one in entries_in(server.home) if one.position < row.position)
    assert row.received_us == max(sent.timestamp()[1] * 1_000, newest)


class Registry(BaseHTTPRequestHandler):
    """A schema registry that is told what to answer with."""

    status = 503

    def do_GET(self):
        self.send_response(self.status if self.path == "/schemas/ids/7" else 404)
        self.end_headers()
        if self.status == 200:
            self.wfile.write(json.dumps({"schema": json.dumps(AVRO)}).encode())

    def log_message(self, *_said):
        """Say nothing."""


@contextmanager
def registry():
    kind = type("Answering", (Registry,), {})
    with ThreadingHTTPServer((HOST, 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield kind, f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_what_is_no_message_s_fault_stops_it_there_is_told_with_its_place_and_goes_on_when_it_is_mended(
    start, topics, shop_home
):
    one = {"transaction_id": "a1", "event_time": 1_738_400_000_000, "amount": Decimal("12.50"), "card": "c1",
           "shop": "s1", "channel": None}  # fmt: skip
    with registry() as (answering, url):
        server = start(shop_home, SENTINEL_AVRO_SCHEMAS=url)
        send(topics, "transactions", [*keyed(payment(0)), ("c1", as_avro(7, one)), *keyed(payment(1))])
        until(lambda: not server.is_ready())
        place = f"{topics['SENTINEL_KAFKA_PREFIX']}transactions, partition 0, offset 1 cannot be taken"
        until(lambda: place in server.health()["stream"]["status"])
        assert server.ask("/health/ready")[1] == {"ready": False, "reason": "stream"}
        assert "registry answered 503" in server.health()["reason"]
        assert [row.transaction_id for row in decided_in(server.home)] == ["p0"]
        with urllib.request.urlopen(f"http://{HOST}:{server.port}/metrics/prom", timeout=60) as reply:
            figures = dict(line.rsplit(" ", 1) for line in reply.read().decode().splitlines() if line[0] != "#")
        assert (figures["sentinel_stream_stuck"], figures["sentinel_stream_lag"]) == ("1.0", "2.0")
        assert float(figures["sentinel_stream_lag_seconds"]) > 0
        answering.status = 200
        until(server.is_ready)
        until(lambda: [row.transaction_id for row in decided_in(server.home)] == ["p0", "a1", "p1"])
        until(lambda: (server.health()["stream"]["lag"], server.health()["stream"]["lag_s"]) == (0, 0.0))
    assert server.health()["stream"]["status"] == "ok"
    assert read_all(topics, "dead-letters") == []


def test_several_partitions_are_refused_where_a_feature_follows_another_key(broker, shop_home, tmp_path):
    found = new_topics(broker)
    sentinel(found, "topics", "create", "--partitions", "3", "--json")
    home = str(shutil.copytree(shop_home, tmp_path / "home"))
    said = sentinel(found, "consume", "--home", home, "--port", str(free_port(HOST)), code=1)
    assert "has 3 partitions, by card, and features follow shop, too" in " ".join(said.split())


def test_topics_that_do_not_fit_are_refused_with_what_to_set(broker, shop_home, tmp_path):
    found = new_topics(broker)
    home = str(shutil.copytree(shop_home, tmp_path / "home"))
    assert "there is no topic" in sentinel(found, "consume", "--home", home, "--port", str(free_port(HOST)), code=1)
    wrong = {
        "outcomes": (3, {}),
        "transactions": (2, {"retention.ms": "3600000"}),
        "events": (2, {"cleanup.policy": "compact"}),
    }
    made = [NewTopic(found["SENTINEL_KAFKA_PREFIX"] + name, n, 1, config=more) for name, (n, more) in wrong.items()]
    admin = AdminClient({"bootstrap.servers": broker})
    for one in admin.create_topics(made).values():
        one.result(30)
    sentinel(found, "topics", "create", "--partitions", "2", "--json")
    said = sentinel(found, "consume", "--home", home, "--port", str(free_port(HOST)), code=1)
    for what in ("cleanup.policy=compact", "message.timestamp.type=LogAppendTime", "forgets after 1 hours",
                 "has 3 partitions and the topic of transactions 2"):  # fmt: skip
        assert what in " ".join(said.split()), what


def test_a_broker_that_is_not_there_and_a_setting_that_does_not_fit_are_told():
    port = free_port(HOST)
    away = {"SENTINEL_KAFKA": f"{HOST}:{port}"}
    assert f"Kafka at {HOST}:{port}" in sentinel(away, "topics", "check", code=1)
    assert "SENTINEL_KAFKA=host:port" in sentinel({"SENTINEL_KAFKA": ""}, "topics", "check", code=1)
