"""A real broker behind TLS, a password, and a proxy that cuts and slows: what works, and what is said where it cannot."""

import json
import secrets
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
from contextlib import closing

import pytest
import trustme
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives import serialization
from tcp_proxy import TcpProxy
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.errors import StorageProblem
from sentinel.record.kafka.connection import client_settings
from sentinel.record.kafka.kafka_log import KafkaLog
from sentinel.record.kafka.place import Place
from sentinel.record.kafka.reaching import reached
from sentinel.record.kafka.reader import KafkaLogReader
from sentinel.record.log import Follower, Kind
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.topics import ALL, check, create
from services.answering import free_port as service_port

HOST, LONG_S = "127.0.0.1", 90


class Broker:
    """A broker with four doors: plain, TLS, a password, and a proxy. `doors` are client settings by name."""

    def __init__(self, own, proxy, doors):
        self.own, self.proxy, self.doors = own, proxy, doors


@pytest.fixture(scope="module")
def broker(new_own_kafka, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broker")
    own = new_own_kafka(folder / "own")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("localhost", HOST)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
    (folder / "server.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, plain) + chain)
    tls, password, behind = service_port(), service_port(), service_port()
    proxy = TcpProxy(behind)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    own.set(
        listeners=f"TLS://{HOST}:{tls},PASSWORD://{HOST}:{password},PROXIED://{HOST}:{behind}",
        advertised_listeners=f"TLS://{HOST}:{tls},PASSWORD://{HOST}:{password},PROXIED://{HOST}:{proxy.port}",
        listener_security_protocol_map="TLS:SSL,PASSWORD:SASL_PLAINTEXT,PROXIED:PLAINTEXT",
        listener_name_tls_ssl_keystore_type="PEM",
        listener_name_tls_ssl_keystore_location=folder / "server.pem",
        listener_name_password_sasl_enabled_mechanisms="PLAIN",  # noqa: S106 - the name of one
        listener_name_password_plain_sasl_jaas_config=f'{login} user_ann="right";',
    )
    own.start()
    doors = {
        "plain": {"": own.servers},
        "tls": {"": f"{HOST}:{tls}", "SECURITY_PROTOCOL": "SSL", "SSL_CA_LOCATION": str(folder / "ca.pem")},
        "password": {"": f"{HOST}:{password}", "SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN",
                     "SASL_USERNAME": "ann", "SASL_PASSWORD": "right"},
        "proxied": {"": f"{HOST}:{proxy.port}"},
    }  # fmt: skip
    yield Broker(own, proxy, doors)
    proxy.close()
    own.stop()


def changed(door, changes):
    """The settings of a door; a change to None leaves one out."""
    return {name: text for name, text in (door | changes).items() if text is not None}


def environment(door):
    return {f"SENTINEL_KAFKA_{name}".rstrip("_"): text for name, text in door.items()}


def opened(door, prefix):
    given = environment(door)
    place = Place(given["SENTINEL_KAFKA"], prefix)
    return place, client_settings(place, given)


@pytest.mark.parametrize("door", ["tls", "password"])
def test_a_log_is_kept_behind_tls_and_a_password(broker, door):
    place, settings = opened(broker.doors[door], f"{door}-")
    with closing(KafkaLog(place, settings, copies=1)) as log:
        log.write(Kind.DECIDED, 1, 0, b"a")
        log.flush()
        with closing(KafkaLogReader(place, settings)) as reader:
            assert [one.body for one in reader.read(1, 10)] == [b"a"]


WRONG = [
    ("password", {"SASL_PASSWORD": "wrong"}, "the broker refuses who asks: see SENTINEL_KAFKA_SASL_USERNAME"),
    ("password", {"SASL_MECHANISM": "SCRAM-SHA-256"}, "supported mechanisms: PLAIN"),
    ("password", {"SECURITY_PROTOCOL": None}, "the port may be one for TLS or a password"),
    ("tls", {"SSL_CA_LOCATION": None}, "TLS does not come about: see SENTINEL_KAFKA_SSL_CA_LOCATION"),
    ("tls", {"SSL_CA_LOCATION": "/nowhere.pem"}, "a SENTINEL_KAFKA_ setting cannot be meant so"),
    ("tls", {"SECURITY_PROTOCOL": None, "SSL_CA_LOCATION": None}, "the port may be one for TLS or a password"),
    (
        "plain",
        {"SECURITY_PROTOCOL": "SSL"},
        "it may want TLS or a password (SENTINEL_KAFKA_SECURITY_PROTOCOL), or none",
    ),
    ("plain", {"SECURITY_PROTOCOL": "TLSv3"}, 'Invalid value "TLSv3"'),
    ("plain", {"FOO_BAR": "1"}, 'No such configuration property: "foo.bar"'),
    ("plain", {"": "127.0.0.1:9"}, "nobody listens there: start the broker, or see SENTINEL_KAFKA"),
    ("plain", {"": "nowhere.invalid:9092"}, "no machine has that name"),
]


@pytest.mark.parametrize(("door", "changes", "said"), WRONG, ids=[f"{door}-{said[:30]}" for door, _, said in WRONG])
def test_what_does_not_fit_is_said_in_words(broker, door, changes, said):
    _, settings = opened(changed(broker.doors[door], changes), "wrong-")
    with pytest.raises(KafkaException) as found:
        reached(settings, 2.0)
    assert said in found.value.args[0].str()


def test_it_is_said_at_the_start_too(broker):
    door = broker.doors["password"] | {"SASL_PASSWORD": "wrong"}
    place, settings = opened(door, "start-")
    with pytest.raises(StorageProblem, match="the broker refuses who asks"):
        KafkaLog(place, settings)
    with pytest.raises(StorageProblem, match="the broker refuses who asks"):
        check(Connection(place.servers, place.prefix, settings), ALL)


def bodies(log):
    return [one.body for page in Follower(log, 1).rest() for one in page]


def recover(log):
    give_up = time.monotonic() + LONG_S
    while log.fault is not None:
        try:
            log.recover()
        except StorageProblem:
            assert time.monotonic() < give_up


def test_connections_that_are_cut_lose_nothing_and_write_nothing_twice(broker):
    place, settings = opened(broker.doors["proxied"], "cut-")
    log, n, durable = KafkaLog(place, settings, copies=1), 0, []
    for _ in range(4):
        for _ in range(30):
            log.write(Kind.DECIDED, 1, n, b"%d" % n)
            n += 1
        broker.proxy.cut()
        try:
            log.flush()
        except StorageProblem:
            recover(log)
        found = bodies(log)
        assert found[: len(durable)] == durable
        assert len(set(found)) == len(found)
        durable = found
    broker.proxy.delay_s = 0.05
    log.write(Kind.DECIDED, 1, n, b"slow")
    log.flush()
    broker.proxy.delay_s = 0.0
    log.close()
    with closing(KafkaLogReader(place, settings)) as reader:
        assert bodies(reader) == [*durable, b"slow"]


def test_a_broker_that_is_away_for_a_while_is_waited_for(broker):
    place, settings = opened(broker.doors["proxied"], "away-")
    with closing(KafkaLog(place, settings, copies=1)) as log:
        log.write(Kind.DECIDED, 1, 0, b"a")
        log.flush()
        broker.proxy.is_away = True
        broker.proxy.cut()
        log.write(Kind.DECIDED, 1, 1, b"b")
        assert log.read(1, 1)[0].body == log.at(1).body == b"a"
        assert (log.first, log.durable) == (1, 2)
        broker.proxy.is_away = False
        try:
            log.flush()
        except StorageProblem:
            recover(log)
        assert bodies(log) in ([b"a"], [b"a", b"b"])


def doctor(home, monkeypatch, door, prefix, code=0, **more):
    for name, text in (environment(door) | {"SENTINEL_KAFKA_PREFIX": prefix} | more).items():
        monkeypatch.setenv(name, text)
    asked = ["doctor", "--home", str(home), "--port", str(free_port(HOST)), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == code, done.output
    return {one["what"]: one for one in json.loads(done.stdout)["checks"]}


def test_the_doctor_writes_reads_back_and_leaves_nothing(broker, tmp_path, monkeypatch):
    _, settings = opened(broker.doors["password"], "doctor-")
    found = doctor(tmp_path, monkeypatch, broker.doors["password"], "doctor-")
    assert "1 brokers" in found["Kafka"]["found"]
    assert "written and read back" in found["Kafka"]["found"]
    assert (found["topics"]["ok"], found["topics"]["warns"]) == (True, True)
    give_up = time.monotonic() + LONG_S
    while any(name.startswith("doctor-") for name in AdminClient(settings).list_topics(timeout=30).topics):
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_the_doctor_says_what_cannot_be_reached(broker, tmp_path, monkeypatch):
    found = doctor(tmp_path, monkeypatch, broker.doors["password"] | {"SASL_PASSWORD": "wrong"}, "doctor-", code=1)
    assert not found["Kafka"]["ok"]
    assert "the broker refuses who asks" in found["Kafka"]["found"]


def test_the_doctor_names_topics_that_do_not_fit_and_how_much_is_to_be_read(broker, tmp_path, shop_home, monkeypatch):
    door, prefix, home = broker.doors["plain"], f"d{secrets.token_hex(3)}-", tmp_path / "home"
    place, settings = opened(door, prefix)
    connection = Connection(place.servers, prefix, settings)
    create(connection, ALL, 2, -1, 7 * 86_400_000)
    shutil.copytree(shop_home, home)
    producer = Producer(settings)
    for n in range(5):
        producer.produce(connection.topic("transactions"), b"{}", f"c{n}")
    assert producer.flush(LONG_S) == 0
    found = doctor(home, monkeypatch, door, prefix)
    assert f"{prefix}transactions: 2 partitions" in found["topics"]["found"]
    assert found["read from Kafka"]["found"] == f"to be read: 5 of {prefix}transactions"
    create(Connection(place.servers, f"short-{prefix}", settings), ALL, 1, -1, 3_600_000)
    found = doctor(home, monkeypatch, door, f"short-{prefix}", code=1)
    assert "forgets after 1 hours: what is not read by then is lost" in found["topics"]["found"]


def post(port, body, path="/api/v1/transactions", **headers):
    named = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    asked = urllib.request.Request(f"http://{HOST}:{port}{path}", body, named)
    try:
        with urllib.request.urlopen(asked, timeout=LONG_S) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_while_the_broker_stands_still_nothing_is_claimed_and_the_same_is_taken_later(broker, shop_home, tmp_path):
    door, prefix = broker.doors["plain"], f"h{secrets.token_hex(3)}-"
    place, settings = opened(door, prefix)
    create(Connection(place.servers, prefix, settings), ALL, 1, -1, 7 * 86_400_000)
    given = environment(door) | {"SENTINEL_KAFKA_PREFIX": prefix, "SENTINEL_TRANSACTIONS_TO": "kafka"}
    front = ServerProcess(shutil.copytree(shop_home, tmp_path / "home"), HOST, free_port(HOST), environment=given)
    front.start()
    usual = {"event_time": "2025-02-01T10:00:00Z", "amount": 12.5, "card": "c1", "shop": "s", "channel": "web"}
    first, second = ({"transaction_id": uuid.uuid4().hex} | usual for _ in range(2))
    try:
        give_up = time.monotonic() + LONG_S
        while post(front.port, json.dumps(first).encode())[0] != 202:
            assert time.monotonic() < give_up
            time.sleep(0.1)
        broker.own.signal(signal.SIGSTOP)
        try:
            status, said = post(front.port, json.dumps(second).encode(), x_deadline_ms="1000")
        finally:
            broker.own.signal(signal.SIGCONT)
        assert status == 503
        assert "whether it has it is not known: send the same again" in said["error"]
        while (found := post(front.port, json.dumps(second).encode()))[0] != 202:
            assert time.monotonic() < give_up, found
            time.sleep(0.1)
        assert found[1]["transaction_id"] == second["transaction_id"]
    finally:
        front.stop()


def test_what_is_looked_up_far_away_keeps_nobody_else_waiting(broker, shop_home, tmp_path):
    """A server that has just begun has nothing at hand: the same transaction and its outcome are read from Kafka."""
    given = environment(broker.doors["proxied"]) | {"SENTINEL_KAFKA_PREFIX": "far-", "SENTINEL_LOG": "kafka"}
    home = shutil.copytree(shop_home, tmp_path / "home")
    usual = {"event_time": "2025-02-01T10:00:00Z", "amount": 12.5, "card": "c1", "shop": "s", "channel": "web"}
    old = json.dumps({"transaction_id": "old"} | usual).encode()
    first = ServerProcess(home, HOST, free_port(HOST), environment=given)
    first.start()
    assert post(first.port, old, "/v1/score")[0] == 200
    first.stop()
    server = ServerProcess(home, HOST, free_port(HOST), environment=given)
    server.start()
    answers = []
    told = json.dumps({"transaction_id": "old", "is_fraud": True}).encode()
    asking = [
        threading.Thread(
            target=lambda body, path: answers.append(post(server.port, body, path)), args=given, daemon=True
        )
        for given in ((old, "/v1/score"), (told, "/v1/outcomes"))
    ]
    try:
        broker.proxy.passes.clear()
        for one in asking:
            one.start()
        for _ in range(40):
            with urllib.request.urlopen(f"http://{HOST}:{server.port}/health/live", timeout=LONG_S) as reply:
                assert reply.status == 200
            time.sleep(0.05)
        assert answers == []
        broker.proxy.passes.set()
        for one in asking:
            one.join(LONG_S)
        assert sorted(status for status, _ in answers) == [200, 200]
        assert [found["replayed"] for _, found in answers if "decision" in found] == [True]
    finally:
        broker.proxy.passes.set()
        server.stop()
