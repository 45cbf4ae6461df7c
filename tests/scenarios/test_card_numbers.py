"""No card number leaves the process: not in answers, errors, logs, metrics or traces, and not in any file."""

import http.client
import json
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sentinel.commands.server_process import ServerFailed, ServerProcess, free_port
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.errors import InvalidDefinition
from sentinel.events.card_numbers import is_card_number, masked
from sentinel.events.files import history_of_frame
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.train.pipeline import train

HOST = "127.0.0.1"
KEY = "Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"
PANS = ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "3530111333300000"]
NUMBER = re.compile(rb"(?<![0-9.])[0-9](?:[ -]?[0-9]){11,18}(?![0-9])")  # the digits behind a point are a probability's


@pytest.fixture(scope="module")
def detector(tmp_path_factory, shop_detector):
    """The shop's detector, with its cards secret."""
    file = tmp_path_factory.mktemp("secret") / "secret_shop.py"
    declared = 'secret=("card",), keep_digits=("card",), keys='
    file.write_text(Path(shop_detector).read_text().replace("keys=", declared, 1))
    return load_detector(str(file))


@pytest.fixture(scope="module")
def home(detector, shop_history, tmp_path_factory):
    home = tmp_path_factory.mktemp("cards") / "home"
    cards = [f"{PANS[n % 5][:-1]}{n % 10}" if n % 7 else PANS[n % 5] for n in range(len(shop_history))]
    shops = shop_history["shop"].to_list()
    shops[::100] = [f"shop {PANS[0][:4]}-{PANS[0][4:]}"] * len(shops[::100])
    frame = shop_history.with_columns(pl.Series("card", cards), pl.Series("shop", shops))
    settings = Settings(home=home, hash_key=KEY)
    history = history_of_frame(frame, detector.schema, secrets=settings.secrets())
    HomeDeployment(home).promote(train(detector, history, Registry(home / "models"), lambda *_: None).version)
    return home


@pytest.fixture(scope="module")
def seen():
    """Everything that came out of the server."""
    return []


@pytest.fixture(scope="module")
def server(home):
    given = {"SENTINEL_HASH_KEY": KEY, "SENTINEL_LOG_TO": str(home / "messages.log"), "SENTINEL_LOG_LEVEL": "DEBUG"}
    server = ServerProcess(home, HOST, free_port(HOST), environment=given | {"SENTINEL_SNAPSHOT_EVERY": "10"})
    home.chmod(0o755)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def ask(server, seen):
    def asked(method, path, body=None, **headers):
        connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, raw, {"content-type": "application/json"} | headers)
        answer = connection.getresponse()
        found = answer.read()
        seen.append(b"%d\n%b\n%b" % (answer.status, str(answer.getheaders()).encode(), found))
        connection.close()
        return answer.status, found

    return asked


def payment(name, **changes):
    return {
        "transaction_id": name, "event_time": int(time.time()), "amount": 12.5, "card": PANS[0], "shop": "s", "risk": 1,
    } | changes  # fmt: skip


def card_numbers_in(data):
    found = (re.sub(rb"[ -]", b"", one) for one in NUMBER.findall(data))
    return {one for one in found if is_card_number(one.decode()) or one.decode() in PANS}


def test_no_card_number_leaves_the_process(ask, server, seen, home, detector):
    pan = PANS[1]
    status, said = ask("POST", "/v1/score", payment(pan, card=int(PANS[0]), shop=f"at {pan}", channel=pan))
    assert status == 200
    name = json.loads(said)["transaction_id"]
    assert name.startswith("s1_")
    assert json.loads(ask("POST", "/v1/score", payment(pan, card=PANS[0], shop=f"at {pan}", channel=pan))[1])[
        "replayed"
    ]
    assert ask("POST", "/v1/score", payment(pan, amount=1))[0] == 409
    assert ask("POST", "/v1/score", [payment(f"n{n}", card=PANS[n % 5]) for n in range(50)])[0] == 200
    assert ask("POST", "/v1/outcomes", {"transaction_id": pan, "is_fraud": True})[0] == 200
    assert ask("POST", "/v1/outcomes", {"transaction_id": PANS[4], "is_fraud": True})[0] == 202
    found = json.loads(ask("GET", f"/v1/decisions/{pan}")[1])
    assert found["transaction_id"] == name
    assert (found["transaction"]["card_first6"], found["transaction"]["card_last4"]) == ("411111", "1111")
    assert len(json.loads(ask("GET", f"/v1/decisions?card={PANS[0]}&limit=100")[1])["decisions"]) == 11
    assert ask("GET", f"/v1/decisions/{PANS[3]}")[0] == 404

    for body in (
        payment("x", event_time=pan), payment("x", event_time=int(pan)), payment("x", amount=pan), {pan: 1},
        payment("x", **{pan: pan}), payment(pan + "x" * 120), payment("x", channel=f"{pan} " * 20), [payment("x", risk=pan)],
        payment("x", card_first6=pan), payment("x", card=[pan]), b'{"a": %b' % pan.encode(), payment("x", shop=None),
    ):  # fmt: skip
        ask("POST", "/v1/score", body, **{"x-request-id": f"r-{pan}", "traceparent": f"00-{pan * 2}-{pan}-01"})
        ask("POST", "/v1/outcomes", body)
    ask("POST", "/predict", {"features": {pan: 1}, "key": pan}, **{"x-request-id": pan})
    ask("GET", f"/v1/decisions?{pan}=1")
    ask("GET", f"/v1/decisions?action={pan}&cursor={pan}&from={pan}")
    ask("POST", "/admin/reload", {"version": pan, pan: 1})
    for path in ("/health", "/metrics", "/metrics/prom", "/v1/decisions", "/", f"/{pan}"):
        ask("GET", path)

    end = time.monotonic() + 120
    while json.loads(ask("GET", "/health")[1])["view"]["lag"] and time.monotonic() < end:
        time.sleep(0.2)
    server.kill()
    assert not {number for one in seen for number in card_numbers_in(one)}
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not card_numbers_in(data), path
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as parts:
                    assert not any(card_numbers_in(parts.read(part)) for part in parts.namelist()), path
    assert (home / "messages.log").exists()
    with sqlite3.connect(home / "views.db") as view:
        kept = "\n".join(map(str, view.execute("SELECT * FROM decisions").fetchall()))
    assert name in kept
    assert masked(kept) == kept


class Collector(BaseHTTPRequestHandler):
    """Keeps whatever it is sent, headers and all."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((str(self.headers), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def collector():
    with HTTPServer((HOST, 0), Collector) as server:
        server.received = []
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield server
        server.shutdown()


def test_no_card_number_and_no_secret_is_sent_to_a_collector_of_traces(home, collector, tmp_path):
    shutil.copytree(home, tmp_path / "home")
    made = subprocess.run(
        [sys.executable, "-m", "sentinel", "keys", "create", "shop", "--scopes", "score,outcomes,read", "--json",
         "--home", tmp_path / "home"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    key, admin = json.loads(made.stdout)["key"], "an-admin-key-that-nobody-knows"
    settings = {"SENTINEL_OTLP_ENDPOINT": f"http://{HOST}:{collector.server_port}", "SENTINEL_HASH_KEY": KEY,
                "SENTINEL_ADMIN_KEY": admin, "SENTINEL_LOG_LEVEL": "DEBUG"}  # fmt: skip
    server = ServerProcess(tmp_path / "home", HOST, free_port(HOST), environment=settings)
    server.start()
    pan, answers = PANS[1], []
    for headers in (
        {"x-request-id": f"r {pan}", "traceparent": f"00-{pan * 2}-{pan}-01"},
        {"x-request-id": "4111-1111-1111-1111", "traceparent": f"00-{pan}{'ab' * 8}-{'ab' * 8}-01"},
        {"x-request-id": f"card={pan};", "traceparent": f"cc-{'ab' * 16}-{pan}-01-{pan}"},
        {"x-request-id": f"{pan[:4]} {pan[4:]}", "traceparent": pan, "tracestate": f"pan={pan}", "baggage": f"a={pan}"},
        {"x-request-id": "plain", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "authorization": f"Bearer {key}"},
        {"x-request-id": "plain", "authorization": f"Bearer {admin}"},
        {"x-request-id": "plain", "authorization": f"Bearer sk_{pan}"},
    ):
        for path, body in (
            ("/v1/score", payment(pan, shop=pan, channel=pan)), ("/v1/score", payment("x", **{pan: pan})), ("/v1/score", pan),
            ("/v1/score", [payment(f"{pan} {n}") for n in range(3)]), ("/predict", {"features": {pan: 1}, "key": pan}),
            ("/v1/outcomes", {"transaction_id": pan, "is_fraud": True, "reason": pan}), (f"/v1/score?card={pan}", payment("q")),
            (f"/v1/outcomes/{pan}", {}), ("/admin/erase", {"key": "card", "value": pan}),
        ):  # fmt: skip
            connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
            connection.request("POST", path, json.dumps(body).encode(), {"content-type": "application/json"} | headers)
            answer = connection.getresponse()
            answers.append(f"{answer.getheaders()}".encode() + answer.read())
            connection.close()
    server.stop()  # it sends what it still has
    spans = [
        span
        for _, body in collector.received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(spans) == 6 * 7, "one for each scoring call of who was let in"
    ids = [one.hex() for span in spans for one in (span.trace_id, span.span_id, span.parent_span_id)]
    sent = [f"{headers}\n".encode() + body for headers, body in collector.received]
    for found in (*sent, *(str(span).encode() for span in spans), *answers):
        assert not card_numbers_in(found)
        assert masked(found.decode(errors="replace")).count("[card number]") == found.count(b"[card number]")
        for secret in (key, admin, KEY):
            assert secret.encode() not in found
    assert [one for one in ids if masked(one) != one] == []
    assert "ab" * 16 in ids, "a trace without one is followed"


def test_every_file_of_the_home_is_private(home, server):
    assert server is not None
    assert {stat.S_IMODE(path.lstat().st_mode) & 0o077 for path in (home, *home.rglob("*"))} == {0}


def test_the_model_learns_from_hashes_and_kept_digits(home):
    vocabulary = load_bundle(home / "models" / "v1").manifest.plan.vocabulary
    assert not card_numbers_in(repr(vocabulary).encode())


def test_without_the_key_or_with_another_one_a_server_does_not_start(home):
    for key, said in ((None, "none is given now"), ("short", "too short"), (KEY[::-1], "number the new one")):
        environment = {} if key is None else {"SENTINEL_HASH_KEY": key}
        with pytest.raises(ServerFailed, match=said):
            ServerProcess(home, HOST, free_port(HOST), environment=environment).start()


def test_training_without_a_key_is_refused(detector, shop_history):
    with pytest.raises(InvalidDefinition, match="no key"):
        history_of_frame(shop_history, detector.schema)
