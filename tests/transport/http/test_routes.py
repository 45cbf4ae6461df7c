"""The HTTP API as a client sees it, through the fast lane and through uvicorn's own protocol: the same answers."""

import asyncio
import http.client
import itertools
import json
import shutil
import socket
import threading
import time
from types import SimpleNamespace
from typing import ClassVar

import msgspec
import pytest
import uvloop

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.events.secrets import Secrets
from sentinel.homes import Place
from sentinel.transport.access.access import ANYONE, Pass
from sentinel.transport.client import request_bytes
from sentinel.transport.http.api import Api
from sentinel.transport.http.calls import Call, Route
from sentinel.transport.http.detectors import Detectors
from sentinel.transport.http.other_lane import OtherLane as Application
from sentinel.transport.http.wire.connection import Connection
from sentinel.transport.http.wire.room import Room

HOST = "127.0.0.1"
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(shop_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("served")
    shutil.copytree(shop_home, home, dirs_exist_ok=True)
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    yield server
    server.stop()


class FastLane:
    """Requests that the fast lane answers itself."""

    def __init__(self, port):
        self.port = port

    def post(self, path, body, media="application/json", **headers):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            chunked = "Transfer-Encoding" in headers
            connection.request("POST", path, body, {"Content-Type": media, **headers}, encode_chunked=chunked)
            reply = connection.getresponse()
            return reply.status, reply.read(), dict(reply.getheaders())
        finally:
            connection.close()


class OtherLane(FastLane):
    """The same requests with chunked bodies, which are handed over."""

    def post(self, path, body, media="application/json", **headers):
        parts = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
        return super().post(path, iter(parts), media, **{"Transfer-Encoding": "chunked", **headers})


@pytest.fixture(params=[FastLane, OtherLane])
def lane(request, server):
    return request.param(server.port)


def payment(**changes):
    fields = {"transaction_id": f"p-{next(_NUMBERS)}", "event_time": "2025-02-01T10:00:00Z", "amount": 12.5, "card": "card-1",
              "shop": "shop-1", "channel": "web", "risk": 0.1}  # fmt: skip
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def score(lane, body, **kwargs):
    status, reply, _ = lane.post("/v1/score", json.dumps(body).encode(), **kwargs)
    return status, json.loads(reply)


ANSWER = {
    "transaction_id", "decision", "fraud_probability", "thresholds", "model_version", "detector", "features_state",
    "batch_size", "latency_us", "replayed", "degraded", "threshold", "circuit_breaker_state", "variant",
    "decided_by",
}  # fmt: skip


def test_a_transaction_is_decided(lane):
    asked = payment()
    status, answer = score(lane, asked)
    assert status == 200
    assert answer.keys() == ANSWER
    assert answer["transaction_id"] == asked["transaction_id"]
    assert answer["decision"] in ("approve", "review", "block")
    assert answer["detector"] == "shop"
    assert 0 <= answer["thresholds"]["review"] <= answer["thresholds"]["block"] <= 1


def test_asked_twice_it_is_the_same_answer_and_says_so(lane):
    asked = payment()
    _, first = score(lane, asked)
    status, second = score(lane, asked)
    assert status == 200
    assert second == {**first, "replayed": True}


def test_the_same_id_with_other_content_is_409(lane):
    asked = payment()
    score(lane, asked)
    status, answer = score(lane, {**asked, "amount": 13.0})
    assert status == 409
    assert "other content" in answer["error"]


@pytest.mark.parametrize(
    ("changes", "status", "path", "text"),
    [
        ({"extra": 1}, 422, "$.extra", "unknown field"),
        ({"amount": "much"}, 422, "$.amount", "Expected `float`, got `str`"),
        ({"amount": ...}, 422, "$.amount", "missing required field `amount`"),
        ({"amount": -1}, 422, "$.amount", "from 0 on"),
        ({"amount": 1e300}, 422, "$.amount", "<="),
        ({"amount": 0.001}, 422, "$.amount", "at most 2 decimals"),
        ({"event_time": "tomorrow"}, 422, "$.event_time", "ISO 8601"),
        ({"event_time": "2099-01-01T00:00:00Z"}, 422, "$.event_time", "a day ahead"),
        ({"event_time": 1e40}, 422, "$.event_time", "from 1970"),
        ({"card": None}, 422, "$.card", "Expected"),
        ({"transaction_id": ""}, 422, "$.transaction_id", "length >= 1"),
    ],
)
def test_what_is_wrong_is_named(lane, changes, status, path, text):
    asked = payment(**changes)
    found, answer = score(lane, asked)
    assert (found, answer["status"], answer["path"]) == (status, status, path)
    assert text in answer["error"]
    if isinstance(asked.get("transaction_id"), str) and asked["transaction_id"]:
        assert get(lane.port, f"/v1/decisions/{asked['transaction_id']}")[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "empty"),
        (b"   ", 400, "empty"),
        (b"[]", 400, "empty"),
        (b"{", 400, "No valid JSON"),
        (b"[{]", 400, "No valid JSON"),
        (b'{"amount": NaN}', 400, "No valid JSON"),
        (b'{"amount": Infinity}', 400, "No valid JSON"),
        (b'{"amount": 1e999}', 422, "out of range"),
        (json.dumps(payment()).encode().replace(b"card-1", b"\xff\xfe"), 400, "UTF-8"),
        (json.dumps(payment()).encode("utf-16"), 400, "No valid JSON"),
        (b"17", 422, "Expected `object`"),
        (b'"text"', 422, "Expected `object`"),
        (b"null", 422, "Expected `object`"),
        (b"[" + b",".join([b"{}"] * 1001) + b"]", 413, "at most 1000"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'[{"amount":' + b"[" * 100_000, 400, "nested too deeply"),
        (b'{"amount":' * 50_000, 422, "Expected `float`"),
    ],
)
def test_what_is_no_body_is_refused(lane, body, status, text):
    found, reply, _ = lane.post("/v1/score", body)
    assert found == status, reply
    assert text in json.loads(reply)["error"]


def test_a_body_above_a_mebibyte_is_413(lane):
    found, reply, _ = lane.post("/v1/score", b"[" + b" " * 2**20 + b"]")
    assert found == 413
    assert "1048576" in json.loads(reply)["error"]


def test_other_media_and_encodings_are_415(lane):
    assert lane.post("/v1/score", b"<a/>", "application/xml")[0] == 415
    assert lane.post("/v1/score", b"\x1f\x8b", **{"Content-Encoding": "gzip"})[0] == 415


def test_in_a_batch_a_bad_row_touches_no_neighbour(lane):
    good = [payment(card="card-b") for _ in range(3)]
    rows = [
        good[0],
        payment(amount="x"),
        good[1],
        17,
        None,
        payment(event_time="2099-01-01"),
        good[0],
        {**good[1], "amount": 1},
        good[2],
    ]
    status, answers = score(lane, rows)
    assert status == 200
    assert [answer.get("status", 200) for answer in answers] == [200, 422, 200, 422, 422, 422, 200, 409, 200]
    assert [answers[i]["transaction_id"] for i in (0, 2, 8)] == [one["transaction_id"] for one in good]
    assert answers[6]["replayed"]
    assert answers[0]["batch_size"] >= 3


def test_lines_are_answered_with_lines(lane):
    rows = [payment(), payment(amount=-1), payment()]
    body = b"\n".join(json.dumps(row).encode() for row in rows) + b"\n\n"
    status, reply, headers = lane.post("/v1/score", body, "application/x-ndjson")
    assert status == 200
    assert headers["content-type"] == "application/x-ndjson"
    answers = [json.loads(line) for line in reply.splitlines()]
    assert [answer.get("status", 200) for answer in answers] == [200, 422, 200]


def test_a_thousand_in_one_batch(lane):
    status, answers = score(lane, [payment() for _ in range(1000)])
    assert status == 200
    assert all(answer["decision"] for answer in answers)


def test_outcomes(lane):
    asked = payment()
    score(lane, asked)
    body = json.dumps({"transaction_id": asked["transaction_id"], "is_fraud": True, "time": "2025-02-03"}).encode()
    assert json.loads(lane.post("/v1/outcomes", body)[1]) == {
        "transaction_id": asked["transaction_id"], "is_fraud": True, "replayed": False,
    }  # fmt: skip
    assert json.loads(lane.post("/v1/outcomes", body)[1])["replayed"]
    _, stored = get(lane.port, f"/v1/decisions/{asked['transaction_id']}")
    (told,) = stored["outcomes"]
    assert (told["is_fraud"], told["time"]) == (True, "2025-02-03T00:00:00Z")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"transaction_id": "x"}, 422, "is_fraud"),
        ({"transaction_id": "x", "is_fraud": "yes"}, 422, "Expected `bool | int`"),
        ({"transaction_id": "x", "is_fraud": True, "time": "2099-01-01"}, 422, "a day ahead"),
        ({"transaction_id": "x", "is_fraud": True, "more": 1}, 422, "unknown field"),
    ],
)
def test_wrong_outcomes(lane, body, status, text):
    found, reply, _ = lane.post("/v1/outcomes", json.dumps(body).encode())
    assert found == status
    assert text in json.loads(reply)["error"]


def get(port, path):
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
        return reply.status, json.loads(body) if reply.getheader("content-type", "").startswith(
            "application/json"
        ) else body
    finally:
        connection.close()


def test_the_time_that_a_request_lay_unread_counts(tmp_path):
    """After a long turn of the loop the api hears how long ago a request had come in, and only then."""

    class Listening(Detectors):
        heard: ClassVar[list[int]] = []

        def begin(self, *asked):
            self.heard.append(asked[3])
            asked[2](b"{}")

    welcomed = []

    async def run():
        nothing = SimpleNamespace(waiting=0, repeats={})
        worker = SimpleNamespace(is_behind=False, welcome=lambda: welcomed.append(1), queue=nothing)
        settings = Settings(home=tmp_path)
        detectors = Listening(settings, None, None, {Place(): Api(settings, nothing, worker, Secrets())})
        lane = Application(SimpleNamespace(timeout_keep_alive=60.0), SimpleNamespace(connections=set()), {})
        make = lambda: Connection(detectors, lane, Room(9))  # noqa: E731
        server = await asyncio.get_running_loop().create_server(make, HOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            for worker.is_behind in (False, True):
                await asyncio.sleep(0.02)
                client.sendall(request_bytes("/v1/score", b"{}"))
                time.sleep(0.1)  # the loop is busy
                await asyncio.sleep(0.02)
        server.close()

    uvloop.run(run())
    assert Listening.heard[0] == 0
    assert 90e6 <= Listening.heard[1] < 60e9, "no time of day, however busy the machine"
    assert welcomed == [1]


@pytest.mark.parametrize(
    ("asked_ms", "patience_ms"), [(None, 40), (30.0, 15), (20.0, 10), (19.9, 10), (0.0001, 10), (1e9, 30_000)]
)
def test_half_of_the_deadline_may_go_into_waiting_and_a_caller_chooses_it_within_limits(
    tmp_path, asked_ms, patience_ms
):
    waits = []
    predictor = SimpleNamespace(ask=lambda _body, received_ns, due_ns, _tell: waits.append(due_ns - received_ns))
    settings = Settings(home=tmp_path, deadline_ms=80)
    api = Api(settings, predictor, None, Secrets())
    headers = {"host": "localhost", "content-type": "application/json"}
    call = msgspec.structs.replace(Call.of(Route.PREDICT, headers), deadline_ms=asked_ms)
    api.begin(call, b"", 5_000_000, print, Pass(ANYONE, None))
    assert waits == [patience_ms * 1_000_000]


def test_a_decision_can_be_read_back(server):
    asked = payment(risk=...)
    _, answer = score(FastLane(server.port), asked)
    status, stored = get(server.port, f"/v1/decisions/{asked['transaction_id']}")
    assert status == 200
    assert {name: stored[name] for name in ANSWER - {"replayed", "threshold"}} == {
        name: answer[name] for name in ANSWER - {"replayed", "threshold"}
    }
    assert stored["features"]["amount"] == 12.5
    assert stored["features"]["risk"] is None
    assert stored["transaction"]["event_time"] == "2025-02-01T10:00:00Z"
    assert stored["outcomes"] == []


def test_an_unknown_decision_is_404(server):
    status, answer = get(server.port, "/v1/decisions/none")
    assert status == 404
    assert "none" in answer["error"]


def test_health_and_pages(server):
    assert get(server.port, "/health/live") == (200, {"live": True})
    assert get(server.port, "/health/ready") == (200, {"ready": True, "reason": None})
    assert get(server.port, "/health/startup")[0] == 200
    until = time.monotonic() + 120
    while (health := get(server.port, "/health")[1])["view"]["position"] == 0:  # the projector is still beginning
        assert time.monotonic() < until
        time.sleep(0.1)
    assert (health["status"], health["model_version"]) == ("ready", "v1")
    assert health["waiting"] == 0
    history = health["history"]
    assert history["ends"].startswith("2025-01-3")
    assert f"know nothing from {history['ends']}" in history["warning"]
    assert f"know nothing from {history['ends']}" in (server.home / "server.log").read_text()
    log, view = health["log"], health["view"]
    assert (log["status"], log["first"]) == ("ok", 1)
    assert log["segments"] >= 1
    assert log["first"] < log["end"] >= view["position"] == log["end"] - view["lag"]
    while not (snapshots := get(server.port, "/health")[1].get("snapshots")):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert snapshots == {"status": "ok", "lag": snapshots["lag"], "restarts": 0}
    assert 0 < snapshots["lag"] <= get(server.port, "/health")[1]["log"]["end"]
    assert "/v1/score" in get(server.port, "/")[1]["endpoints"]
    assert b"swagger" in get(server.port, "/docs")[1].lower()
    assert {"/v1/score", "/v1/outcomes", "/v1/decisions/{transaction_id}"} <= get(server.port, "/openapi.json")[1][
        "paths"
    ].keys()
    assert get(server.port, "/nowhere")[0] == 404
    assert get(server.port, "/v1/score")[0] == 405


def raw(port, *parts, pause=0.0, read_for=2.0):
    """Send bytes, some time between them; what comes back until the server is silent or closes."""
    with socket.create_connection((HOST, port), timeout=read_for) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        found = b""
        connection.settimeout(0.5)
        try:
            while piece := connection.recv(65536):
                found += piece
        except TimeoutError:
            pass
        return found


def request(body, path=b"/v1/score", extra=b""):
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s" % (
        path, len(body), extra, body,
    )  # fmt: skip


def test_pipelined_requests_are_answered_in_order(server):
    asked = [payment() for _ in range(5)]
    bodies = [json.dumps(one).encode() for one in asked]
    bodies.insert(2, b"{broken")
    found = raw(server.port, b"".join(request(body) for body in bodies))
    assert found.count(b"HTTP/1.1 200 OK") == 5
    places = [found.index(one["transaction_id"].encode()) for one in asked]
    assert places == sorted(places)
    assert places[1] < found.index(b"HTTP/1.1 400") < places[2]


def test_a_request_in_pieces_is_put_together(server):
    whole = request(json.dumps(payment()).encode())
    found = raw(server.port, *[whole[i : i + 40] for i in range(0, len(whole), 40)], pause=0.01)
    assert found.startswith(b"HTTP/1.1 200 OK")


def test_a_connection_may_change_lanes_and_keeps_its_order(server):
    asked = payment()
    mixed = (
        request(json.dumps(asked).encode())
        + b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
        + request(json.dumps(asked).encode())
    )
    found = raw(server.port, mixed)
    assert found.count(b"HTTP/1.1 200 OK") == 3
    assert found.index(b'"replayed":false') < found.index(b'"live":true') < found.index(b'"replayed":true')


def test_expect_100_continue_is_honoured(server):
    body = json.dumps(payment()).encode()
    whole = request(body, extra=b"Expect: 100-continue\r\n")
    found = raw(server.port, whole[: -len(body)], body, pause=0.1)
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert b"HTTP/1.1 200 OK" in found


def test_connection_close_is_honoured(server):
    found = raw(server.port, request(json.dumps(payment()).encode(), extra=b"Connection: close\r\n"))
    assert b"HTTP/1.1 200 OK" in found


@pytest.mark.parametrize("garbage", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n", b"POST /v1/score HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
])  # fmt: skip
def test_garbage_is_refused_and_the_server_lives(server, garbage):
    found = raw(server.port, garbage)
    assert b" 200 " not in found
    assert get(server.port, "/health/live")[0] == 200


def test_a_client_that_leaves_disturbs_no_one(server):
    for _ in range(20):
        with socket.create_connection((HOST, server.port)) as connection:
            connection.sendall(request(json.dumps(payment()).encode())[:-5])
        with socket.create_connection((HOST, server.port)) as connection:
            connection.sendall(request(json.dumps(payment()).encode()))
    assert score(FastLane(server.port), payment())[0] == 200


def test_many_clients_at_once_each_get_their_own_answer(server):
    wrong = []

    def client():
        connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
        for _ in range(50):
            asked = payment()
            connection.request("POST", "/v1/score", json.dumps(asked), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
            if answer.get("transaction_id") != asked["transaction_id"]:
                wrong.append(answer)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
