"""Between callers: strangers cost little and keep nothing, and what one key sends takes nothing from another."""

import contextlib
import json
import multiprocessing
import select
import socket
import threading
import time
import uuid

import pytest

from sentinel.commands.keys import create_key
from sentinel.config import Settings
from sentinel.transport.client import request_bytes

HOST = "127.0.0.1"
MILLION = 1_048_576


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(
        shop_home,
        {"SENTINEL_AUTH": "required", "SENTINEL_DEADLINE_MS": "4000", "SENTINEL_MAX_WAITING": "3000",
         "SENTINEL_CIRCUIT_THRESHOLD_MS": "4000"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def keys(server, ask):
    settings = Settings(home=server.home)
    made = {
        name: create_key(settings, name, scopes, "1d", None, None).key
        for name, scopes in (("shop", "score"), ("flood", "score"), ("grafana", "read"))
    }
    until = time.monotonic() + 120
    while ask(server.port, "GET", "/metrics", authorization=f"Bearer {made['grafana']}").status != 200:
        assert time.monotonic() < until
        time.sleep(0.1)
    return made


def payments(n):
    return [
        {"transaction_id": uuid.uuid4().hex, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5,
         "card": uuid.uuid4().hex, "shop": "s", "channel": "web", "risk": 0.1} for _ in range(n)
    ]  # fmt: skip


def head(path=b"/v1/score", *lines, length=MILLION):
    given = [b"POST %s HTTP/1.1" % path, b"Host: localhost", b"Content-Type: application/json"]
    return b"\r\n".join([*given, b"Content-Length: %d" % length, *lines]) + b"\r\n\r\n"


def errors(server, keys, ask):
    return ask(server.port, "GET", "/metrics", authorization=f"Bearer {keys['grafana']}").json["errors"]


# strangers


@pytest.mark.parametrize("path", [b"/v1/score", b"/predict", b"/admin/reload", b"/v1/wallet/score"])
def test_a_stranger_s_body_is_refused_with_its_head(server, wire, path):
    with wire(server.port) as connection:
        connection.send(head(path) + b"[")
        answer = connection.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert connection.is_closed(within_s=5)


@pytest.mark.parametrize(
    "request_head",
    [head(length=10**9), head(b"/v1/score", b"Content-Encoding: gzip", length=2) + b"{}",
     head(b"/v1/score", b"X-Request-Id: me", length=2) + b"{}"],
    ids=["too large", "packed", "named"],
)  # fmt: skip
def test_of_a_stranger_nothing_is_counted_and_nothing_comes_back(server, keys, wire, ask, request_head):
    before = errors(server, keys, ask)
    with wire(server.port) as connection:
        connection.send(request_head)
        answer = connection.answer()
    assert answer.status == 401
    assert "x-request-id" not in answer.headers
    assert errors(server, keys, ask) == before


def test_of_a_caller_who_is_known_it_is(server, keys, wire, ask):
    before = errors(server, keys, ask)
    key = b"Authorization: Bearer " + keys["shop"].encode()
    for request_head, status in (
        (head(b"/v1/score", key, length=10**9), 413),
        (head(b"/v1/score", key, b"Content-Encoding: gzip", length=2) + b"{}", 415),
    ):
        with wire(server.port) as connection:
            connection.send(request_head)
            assert connection.answer().status == status
    assert errors(server, keys, ask) == before + 2


def test_a_stranger_s_large_body_that_came_in_one_piece_waits_for_no_turn(server, wire):
    with wire(server.port) as connection:
        connection.send(request_bytes("/v1/score", b"[" + b" " * 30_000 + b"]"))
        assert connection.answer().status == 401
        assert connection.is_closed(within_s=5)


def test_who_pipelines_without_a_key_gets_one_answer(server, keys, wire):
    plain = request_bytes("/v1/score", json.dumps(payments(1)[0]).encode())
    let_in = request_bytes("/v1/score", json.dumps(payments(1)[0]).encode(), key=keys["shop"])
    with wire(server.port) as connection:
        connection.send(let_in + plain * 100 + let_in)
        assert [connection.answer().status for _ in range(2)] == [200, 401]
        assert connection.is_closed(within_s=5)


def test_a_key_that_lacks_a_scope_keeps_its_connection(server, keys, wire):
    wrong = request_bytes("/v1/score", b"{}", key=keys["grafana"])
    with wire(server.port) as connection:
        connection.send(wrong + wrong)
        assert [connection.answer().status for _ in range(2)] == [403, 403]


def crowd(port, data, connections, until):
    """Send without waiting for answers, on many connections; who is cut off comes again."""
    opened = []
    while time.monotonic() < until:
        while len(opened) < connections:
            opened.append(socket.create_connection((HOST, port)))
            opened[-1].setblocking(False)
        readable, writable, _ = select.select(opened, opened, [], 0.1)
        for one in writable:
            with contextlib.suppress(OSError):
                one.send(data)
        for one in readable:
            try:
                gone = one.recv(1 << 20) == b""
            except OSError:
                gone = True
            if gone:
                one.close()
                opened.remove(one)


CROWDS = {
    "refused": request_bytes("/v1/score", b"{}") * 200,
    "live": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200,
}


def lone_caller(wire, port, key, seconds):
    took, answers, end = [], [], time.monotonic() + seconds
    with wire(port) as connection:
        while time.monotonic() < end:
            body = json.dumps(payments(1)[0]).encode()
            begun = time.monotonic()
            connection.send(request_bytes("/v1/score", body, key=key))
            answers.append(connection.answer())
            took.append(time.monotonic() - begun)
            time.sleep(0.002)
    return sorted(took)[len(took) // 2], answers


@pytest.mark.parametrize("kind", CROWDS)
def test_a_crowd_of_strangers_leaves_a_lone_caller_its_place(server, keys, wire, kind):
    tried = []
    for _ in range(3):  # the machine has other things to do as well
        alone, _ = lone_caller(wire, server.port, keys["shop"], 1)
        process = multiprocessing.get_context("spawn").Process(
            target=crowd, args=(server.port, CROWDS[kind], 200, time.monotonic() + 20)
        )
        process.start()
        try:
            time.sleep(2)
            beside, answers = lone_caller(wire, server.port, keys["shop"], 2)
        finally:
            process.terminate()
            process.join()
        assert {one.status for one in answers} == {200}
        assert {one.json["degraded"] for one in answers} == {None}
        tried.append((alone, beside))
        if beside < 4 * alone + 0.005:
            return
    pytest.fail(f"seconds in the middle, alone and beside it: {tried}")


# keys


def send_batches(wire, port, batches, answers):
    with wire(port) as connection:
        for one in batches:
            connection.send(one)
            answers.append(connection.answer())


def test_one_key_that_floods_leaves_room_and_the_model_to_another(server, keys, wire):
    """Six thousand at once, where three thousand may wait."""
    batches = [
        [request_bytes("/v1/score", json.dumps(payments(1_000)).encode(), key=keys["flood"]) for _ in range(3)]
        for _ in range(6)
    ]
    flooded, threads = [], []
    for own in batches:
        threads.append(threading.Thread(target=send_batches, args=(wire, server.port, own, flooded)))
        threads[-1].start()
    answers = []
    while any(one.is_alive() for one in threads):
        answers += lone_caller(wire, server.port, keys["shop"], 0.2)[1]
    assert {one.status for one in answers} == {200}
    assert {one.json["degraded"] for one in answers} == {None}
    assert {one.status for one in flooded} <= {200, 503}
    degraded = {row["degraded"] for one in flooded if one.status == 200 for row in one.json}
    assert degraded == {None}


@pytest.mark.parametrize("many", [1, 3])
def test_a_key_in_a_hurry_is_refused_and_never_judged_without_the_model(server, keys, wire, many):
    """Batches that take longer than they may wait, on any machine."""
    requests = []
    for _ in range(many):
        body = json.dumps(payments(1_000)).encode()
        plain = request_bytes("/v1/score", body, key=keys["flood"])
        requests.append(plain.replace(b"\r\n", b"\r\nX-Deadline-Ms: 20\r\n", 1))
    answers = []
    threads = [threading.Thread(target=send_batches, args=(wire, server.port, [each], answers)) for each in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == many
    assert {each.status for each in answers} <= {200, 503}
    for each in answers:
        if each.status == 503:
            assert "own requests" in each.json["error"]
        else:
            assert {row["degraded"] for row in each.json} == {None}
