"""Paths and methods: ids of any kind are found, HEAD is GET without its body, and what is not there is said in one shape."""

import json
import uuid
from urllib.parse import quote

import pytest

IDS = [
    "a/b", "a//b", "//", "/a", "a/", ".", "..", "../x", "x/../y", "a b", " x ", "a+b", "a%2Fb", "%", "x%00", "a?b#c", "a&b=c",
    "ü/é", "日本語", "😀", "e\u0301", "\u202eabc", "a\tb", "a\nb", "a\r\n", "a\u0000b", "'\"\\", "score", "decisions/1", "x" * 128,
]  # fmt: skip
WITH_GET = [
    "/", "/health", "/health/live", "/health/ready", "/health/startup", "/metrics", "/metrics/prom", "/docs", "/openapi.json",
    "/v1/decisions", "/admin/version", "/admin/audit",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(start_server, event_shop_home):
    return start_server(event_shop_home)


def payment(**changes):
    fields = {
        "transaction_id": uuid.uuid4().hex,
        "event_time": "2025-02-01T10:00:00Z",
        "amount": 12.5,
        "card": "c",
        "shop": "s",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def login(name):
    return {"event": "login", "event_id": name, "event_time": "2025-02-01T10:00:00Z", "card": "c"}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("safe", ["", "/"], ids=["all encoded", "slashes as they are"])
@pytest.mark.parametrize(
    ("told", "to", "found_at", "named"),
    [
        (lambda name: payment(transaction_id=name), "/v1/score", "/v1/decisions", "transaction_id"),
        (login, "/v1/events", "/v1/events", "event_id"),
    ],
    ids=["decision", "event"],
)
def test_what_was_told_is_found_by_any_id(server, ask, name, safe, told, to, found_at, named):
    assert ask(server.port, "POST", to, told(name)).status == 200
    found = ask(server.port, "GET", f"{found_at}/{quote(name, safe=safe)}")
    assert (found.status, found.json[named]) == (200, name)
    head = ask(server.port, "HEAD", f"{found_at}/{quote(name, safe=safe)}")
    assert (head.status, head.body) == (200, b"")


def test_a_path_that_is_not_encoded_is_told_how(server, wire):
    with wire(server.port) as connection:
        connection.send("GET /v1/decisions/ü HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = connection.answer()
    assert (answer.status, answer.json["status"]) == (400, 400)
    assert "%C3%BC" in answer.json["error"]


@pytest.mark.parametrize("path", WITH_GET)
def test_head_is_get_without_its_body(server, wire, path):
    """On one connection, so that a body which came all the same would be read as the next answer."""
    with wire(server.port) as connection:
        connection.send(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 2)
        heads = [connection.answer(bodyless=True) for _ in range(2)]
        connection.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.answer().json == {"live": True}
    assert {one.status for one in heads} == {200}
    assert int(heads[0].headers["content-length"]) > 2


NOT_THERE = [
    "/nothing", "/v1", "/v1/nothing", "/v1/score/x", "/v1/wallet/score", "/v1/wallet/nothing", "/admin/nothing", "//", "/%00", "/%ff",
    "/health/live/x", "/docs/x", "/%E6%97%A5", "/..", "/v1/../admin/x", "/metrics/prom/x", "/" + "x" * 3000, "/nothing?a=b",
]  # fmt: skip


@pytest.mark.parametrize("path", NOT_THERE)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_what_is_not_there_is_said_in_the_shape_of_errors(server, ask, method, path):
    answer = ask(server.port, method, path)
    assert answer.status == 404 or (answer.status == 405 and method != "GET")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json.keys() == {"status", "error"}
    assert answer.json["status"] == answer.status
    assert len(answer.body) < 1200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/health", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/predict", "POST"),
        ("/v1/score", "POST"),
        ("/v1/decisions", "GET, HEAD"),
    ],
)
def test_another_method_is_told_those_that_are_taken(server, ask, path, allowed):
    answer = ask(server.port, "DELETE", path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.json["status"] == 405


TWICE = [
    ({"amount": 0.3}, {"amount": 0.1 + 0.2}, 200),
    ({"amount": 0.0}, {"amount": -0.0}, 200),
    ({"amount": 0.3}, {"amount": 0.31}, 409),
]


@pytest.mark.parametrize(("first", "second", "status"), TWICE)
@pytest.mark.parametrize("after", [b"", b"expect: 100-continue\r\n"], ids=["fast lane", "other lane"])
def test_a_repeat_is_what_has_the_same_amount_in_minor_units(server, wire, first, second, status, after):
    name = uuid.uuid4().hex
    answers = []
    for changes in (first, second):
        body = json.dumps(payment(transaction_id=name, **changes)).encode()
        with wire(server.port) as connection:
            connection.send(
                b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"%sContent-Length: %d\r\n\r\n%b" % (after, len(body), body)
            )
            answers.append(connection.answer())
            if answers[-1].status == 100:
                answers[-1] = connection.answer()
    assert [one.status for one in answers] == [200, status]
    assert answers[1].json.get("replayed") == (True if status == 200 else None)


def test_of_a_field_that_is_there_twice_the_last_counts_in_every_form(server, ask):
    """To look for it in every transaction would cost more than to read one."""

    def twice(name):
        return json.dumps(payment(transaction_id=name, amount=1)).encode()[:-1] + b', "amount": 2, "amount": 3}'

    one, two, three = (uuid.uuid4().hex for _ in range(3))
    assert ask(server.port, "POST", "/v1/score", twice(one)).status == 200
    assert ask(server.port, "POST", "/v1/score", b"[" + twice(two) + b"]").status == 200
    assert ask(server.port, "POST", "/v1/score", twice(three), content_type="application/x-ndjson").status == 200
    for name in (one, two, three):
        assert ask(server.port, "GET", f"/v1/decisions/{name}").json["transaction"]["amount"] == 3
