"""Sending to a server: in order, once, on from where it ended, and patient with what is busy."""

import json
import os
import secrets
import shutil
import threading
import urllib.request
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import obstore
import polars as pl
import pytest
import trustme
from confluent_kafka import Consumer, TopicPartition

from sentinel.commands.sending.position import path_of
from sentinel.commands.sending.send import Asked, send
from sentinel.commands.sending.targets import HttpTarget, SendingStopped
from sentinel.commands.server_process import ServerProcess, free_port, port_is_free
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem, InvalidDefinition, StorageProblem
from sentinel.events.reading import Reading
from sentinel.objects.s3_objects import open_bucket
from sentinel.record.applied import log_folder
from sentinel.record.entries import decision_rows, outcome_rows
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.topics import TRANSACTIONS, create

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def server(shop_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(shop_home, home)
    found = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_OUTCOMES_PER_MINUTE": "1000000"})
    found.start()
    yield found
    found.stop()


@pytest.fixture
def file(tmp_path, request):
    """A file with 900 payments of its own: two cannot be read, and one is refused by the server only."""
    name = request.node.name.partition("[")[0]
    rows = [{"transaction_id": f"{name}-{n}", "event_time": f"2025-02-01T10:{n // 60:02}:{n % 60:02}Z", "amount": 5.5 + n,
             "card": f"c{n % 7}", "shop": "s", "is_fraud": n % 50 == 0} for n in range(900)]  # fmt: skip
    path = tmp_path / "payments.jsonl"
    path.write_text(
        "".join(json.dumps(one) + "\n" for one in [*rows, {**rows[0], "transaction_id": "x", "amount": -1}])
    )
    return path


@pytest.fixture
def sending(server, file, shop_detector, tmp_path):
    def run(source=None, **changes):
        usual = {"source": str(source or file), "to": f"http://{HOST}:{server.port}", "detector": shop_detector}
        return send(Settings(home=tmp_path / "own"), Asked(**usual | changes), Reading(), lambda *_: None)

    return run


def taken_in(home, kind, rows_of, beginning):
    with closing(FileLogReader(log_folder(home))) as log:
        return [row for page in Follower(log, 0).rest() for record in page if record.kind == kind
                for row in rows_of(record) if row.transaction_id.startswith(beginning)]  # fmt: skip


def test_a_file_is_sent_in_its_order_and_not_again(sending, server, request):
    first = sending(outcomes=True)
    assert (first.new, first.repeated, first.refused, first.earlier) == (900, 0, 0, 0)
    assert sum(first.left_out.values()) == 1
    assert first.outcomes == {"new": 900}
    rows = taken_in(server.home, Kind.DECIDED, decision_rows, request.node.name)
    assert [row.transaction_id for row in rows] == [f"{request.node.name}-{n}" for n in range(900)]
    outcomes = taken_in(server.home, Kind.OUTCOMES, outcome_rows, request.node.name)
    assert sum(one.is_fraud for one in outcomes) == 18
    second = sending(outcomes=True)
    assert (second.new, second.repeated, second.earlier, second.outcomes) == (0, 0, 900, {})
    third = sending(again=True)
    assert (third.new, third.repeated) == (0, 900)


def test_the_same_content_under_another_name_was_sent_already_and_another_target_gets_it(
    sending, file, tmp_path, server
):
    assert sending().new == 900
    shutil.copy(file, tmp_path / "copy.jsonl")
    assert sending(tmp_path / "copy.jsonl").earlier == 900
    assert sending(to=f"http://localhost:{server.port}").repeated == 900


def test_a_folder_is_sent_file_by_file(sending, file, tmp_path):
    (tmp_path / "folder").mkdir()
    frame = pl.read_ndjson(file)[:900]
    frame[:300].write_csv(tmp_path / "folder" / "a.csv")
    frame[300:].write_parquet(tmp_path / "folder" / "b.parquet")
    (tmp_path / "folder" / "notes.txt").write_text("no data")
    found = sending(tmp_path / "folder")
    assert (found.sources, found.new) == (2, 900)


def test_an_object_of_s3_and_all_below_a_key_are_sent(sending, file, service, monkeypatch):
    for name, value in service("s3").environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"sentinel-{secrets.token_hex(6)}"
    store = open_bucket(bucket, None, os.environ)
    asked = urllib.request.Request(obstore.sign(store, "PUT", "", timedelta(minutes=1)), method="PUT")
    urllib.request.urlopen(asked, timeout=30).close()
    lines = file.read_bytes().splitlines(keepends=True)
    obstore.put(store, "day/1.jsonl", b"".join(lines[:400]))
    obstore.put(store, "day/2.jsonl", b"".join(lines[400:]))
    obstore.put(store, "day/readme.md", b"no data")
    assert sending(f"s3://{bucket}/day/1.jsonl").new == 400
    both = sending(f"s3://{bucket}/day")
    assert (both.sources, both.earlier, both.new) == (2, 400, 500)
    with pytest.raises(DataProblem, match="no such object"):
        sending(f"s3://{bucket}/night")


def test_a_refused_row_is_counted_with_its_reason_and_stops_nobody(sending, file):
    assert sending().new == 900
    frame = pl.read_ndjson(file)[:900].with_columns(
        pl.col("amount") + (pl.col("transaction_id").str.ends_with("-7")) * 1.0
    )
    frame.write_ndjson(file)
    found = sending()
    assert (found.new, found.repeated, found.refused) == (0, 899, 1)
    assert "decided before with other content" in found.reasons[0]


def test_a_rate_is_kept_to(sending, file):
    pl.read_ndjson(file)[:100].write_ndjson(file)
    found = sending(rate=200.0)
    assert found.new == 100
    assert found.seconds > 0.4  # a hundred at two hundred a second; a busy machine only takes longer


def test_what_cannot_be_sent_is_told(sending, tmp_path, server):
    with pytest.raises(DataProblem, match="no such file"):
        sending(tmp_path / "nothing.csv")
    for to in ("ftp://example.org", "localhost:8000", "kafka://x"):
        with pytest.raises(InvalidDefinition, match=r"write http\(s\)://host:port"):
            sending(to=to)
    with pytest.raises(InvalidDefinition, match="--rate must be above 0"):
        sending(rate=0.0)
    with pytest.raises(InvalidDefinition, match="SENTINEL_KAFKA"):
        sending(to="kafka")
    with pytest.raises(SendingStopped, match="send the same again later"):
        sending(to=f"http://{HOST}:{free_port(HOST)}", patience_s=0.2)


def test_a_position_that_cannot_be_read_is_told(sending, tmp_path):
    sending()
    (kept,) = (tmp_path / "own" / "sent").iterdir()
    kept.write_text("{")
    with pytest.raises(StorageProblem, match="delete it to begin anew"):
        sending()
    assert path_of(tmp_path, "a", "b", "c") != path_of(tmp_path, "a", "b", "d")


def test_a_kill_in_the_middle_is_gone_on_from(sending, server, shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "other")
    other = ServerProcess(tmp_path / "other", HOST, free_port(HOST))
    other.start()
    threading.Timer(0.5, other.kill).start()
    with pytest.raises(SendingStopped):
        sending(to=f"http://{HOST}:{other.port}", rate=500.0, patience_s=0.3)
    other.start()
    try:
        found = sending(to=f"http://{HOST}:{other.port}")
        assert found.earlier > 0
        assert found.refused == 0
        assert found.earlier + found.new + found.repeated == 900
    finally:
        other.stop()
    rows = list(taken_in(other.home, Kind.DECIDED, decision_rows, ""))
    assert len(rows) == len({row.transaction_id for row in rows}) == 900


class Busy(BaseHTTPRequestHandler):
    """Refuses twice, then takes every second row, and then all."""

    protocol_version = "HTTP/1.1"
    asked: list[int] = []  # noqa: RUF012 - of this one server

    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Busy.asked.append(len(rows))
        busy = {"status": 429, "error": "too many"}
        status, answer = 200, [{"status": "success"} for _ in rows]
        if len(Busy.asked) <= 2:
            status, answer = (429, 503)[len(Busy.asked) - 1], busy
        elif len(Busy.asked) == 3:
            answer = [one if n % 2 else busy for n, one in enumerate(answer)]
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


def test_a_busy_server_is_asked_again_after_longer_pauses_and_only_for_what_it_did_not_take():
    with HTTPServer((HOST, 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pauses = []
        target = HttpTarget(f"http://{HOST}:{server.server_port}", None, 60.0, pauses.append)
        fates = target.send("transactions", ["k"] * 10, [b"{}"] * 10)
        target.close()
        server.shutdown()
    assert [one.what for one in fates] == ["new"] * 10
    assert Busy.asked == [10, 10, 10, 5]
    assert pauses == [0.1, 0.2, 0.1]


class Secure(ServerProcess):
    """It speaks TLS, so a readiness call over plain HTTP would never be answered."""

    def _is_ready(self):
        return not port_is_free(self.host, self.port)


@pytest.fixture(scope="module")
def secure(shop_home, tmp_path_factory):
    """A server that speaks TLS and wants a key; the file of its authority."""
    folder = tmp_path_factory.mktemp("secure")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert(HOST)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "server.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    given = {"SENTINEL_TLS_CERTIFICATE": folder / "server.pem", "SENTINEL_TLS_KEY": folder / "key.pem",
             "SENTINEL_AUTH": "required", "SENTINEL_ADMIN_KEY": "k" * 46}  # fmt: skip
    home = shutil.copytree(shop_home, folder / "home")
    found = Secure(home, HOST, free_port(HOST), environment={name: str(one) for name, one in given.items()})
    found.start()
    yield found, folder / "ca.pem"
    found.stop()


def test_a_server_that_speaks_tls_and_wants_a_key_is_sent_to(secure, file, shop_detector, tmp_path):
    server, ca = secure
    asked = Asked(str(file), f"https://{HOST}:{server.port}", shop_detector, ca=ca)
    told = send(Settings(home=tmp_path / "own", key="k" * 46), asked, Reading(), lambda *_: None)
    assert (told.new, told.repeated) == (900, 0)
    with pytest.raises(SendingStopped, match=r"answered 40[13]"):
        send(Settings(home=tmp_path / "other", key="w" * 46), asked, Reading(), lambda *_: None)
    of_nobody = Asked(str(file), asked.to, shop_detector)
    with pytest.raises(SendingStopped, match=r"certificate verify failed.*--ca names the certificate"):
        send(Settings(home=tmp_path / "third", key="k" * 46), of_nobody, Reading(), lambda *_: None)


def test_a_file_of_an_authority_that_cannot_be_used_is_told(file, shop_detector, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    for to, ca, said in (
        (f"https://{HOST}:1", tmp_path / "ca.pem", "give a PEM file"),
        (f"https://{HOST}:1", tmp_path / "none.pem", "give a PEM file"),
        (f"http://{HOST}:1", tmp_path / "ca.pem", "--ca is for https://"),
        ("kafka", tmp_path / "ca.pem", "set SENTINEL_KAFKA_SSL_CA_LOCATION"),
    ):
        with pytest.raises(InvalidDefinition, match=said):
            send(Settings(home=tmp_path), Asked(str(file), to, shop_detector, ca=ca), Reading(), lambda *_: None)


def test_what_the_simulator_makes_is_sent_to_kafka_in_the_order_of_its_times(service, tmp_path):
    servers, prefix = service("kafka").environment["SENTINEL_KAFKA"], f"t{secrets.token_hex(4)}-"
    create(Connection.of(servers, prefix, {}), (TRANSACTIONS,), 1, -1, 7 * 86_400_000)
    settings = Settings(home=tmp_path, kafka=servers, kafka_prefix=prefix)
    asked = Asked("simulator", "kafka", "payments", transactions=400, seed=3)
    assert send(settings, asked, Reading(), lambda *_: None).new == 400
    assert send(settings, asked, Reading(), lambda *_: None).earlier == 400
    other = msgspec.structs.replace(asked, seed=4)
    assert send(settings, other, Reading(), lambda *_: None).new == 400
    consumer = Consumer({"bootstrap.servers": servers, "group.id": prefix, "enable.auto.commit": False})
    consumer.assign([TopicPartition(f"{prefix}transactions", 0, 0)])
    found, schema = [], load_detector("payments").schema
    while len(found) < 800:
        message = consumer.poll(60)
        assert message is not None
        found.append(schema.decode(message.value()))
        assert message.key().decode() == getattr(found[-1], schema.keys[0])
    consumer.close()
    times = [getattr(one, schema.time) for one in found]
    assert times[:400] == sorted(times[:400])
    assert times[400:] == sorted(times[400:])
