"""The fast lane and the application's lane, byte by byte: no client can tell which of them has answered."""

import contextlib
import json
import socket
import time
import urllib.request
import uuid

import pytest

from sentinel.commands.server_process import ServerProcess

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
VECTOR = json.dumps({"features": [20.5, 0.1, 1, 1, 2, 20.5, None, None, 1, 3600, 4, 0.02]}).encode()
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(path, body, media=b"application/json", extra=b"", version=b"1.1"):
    return b"POST %s HTTP/%s\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s" % (
        path, version, media, len(body), extra, body,
    )  # fmt: skip


def payment(**changes):
    """A transaction whose card and shop nobody knows: wherever it comes from, the model says the same."""
    fields = {"transaction_id": uuid.uuid4().hex, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5,
              "card": uuid.uuid4().hex, "shop": uuid.uuid4().hex, "channel": "web", "risk": 0.1}  # fmt: skip
    return fields | changes


def score(*payments, **kwargs):
    body = json.dumps(payments[0] if len(payments) == 1 else payments).encode()
    return post(b"/v1/score", body, **kwargs)


def predict(body=VECTOR, **kwargs):
    return post(b"/predict", body, **kwargs)


def lines(*payments):
    return post(b"/v1/score", b"\n".join(json.dumps(one).encode() for one in payments), b"application/x-ndjson")


def chunked(request):
    """The same request with its body in two chunks."""
    head, _, body = request.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    parts = [part for part in (body[:10], body[10:]) if part]
    return b"\r\n".join([*kept, b"Transfer-Encoding: chunked", b"", b""]) + b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""]
    )


class Lanes:
    """One server, and the ways to reach either lane."""

    def __init__(self, port, wire):
        self.port = port
        self.wire = wire

    def fast(self, request, **kwargs):
        with self.wire(self.port) as connection:
            connection.send(request)
            return connection.answer(**kwargs)

    def after_hand_over(self, request, **kwargs):
        with self.wire(self.port) as connection:
            connection.send(LIVE)
            assert connection.answer().json == {"live": True}
            connection.send(request)
            return connection.answer(**kwargs)

    def in_chunks(self, request):
        return self.fast(chunked(request))


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    environment = {"CACHE_TTL_S": "0", "LEAST_DEADLINE_MS": "0.000001", "HEAD_TIMEOUT_S": "6", "BODY_TIMEOUT_S": "7",
                   "IDLE_TIMEOUT_S": "4"}  # fmt: skip
    return start_server(shop_home, {f"SENTINEL_{name}": value for name, value in environment.items()})


@pytest.fixture(scope="module")
def lanes(server, wire):
    return Lanes(server.port, wire)


UNFINISHED = {
    "nothing": b"",
    "half a head": predict()[:40],
    "half a body": predict()[:-5],
    "half a head after hand-over": LIVE + predict()[:40],
    "half a body after hand-over": LIVE + predict()[:-5],
    "half a chunk": chunked(predict())[:-12],
    "a body that was expected": predict(extra=b"Expect: 100-continue\r\n")[: -len(VECTOR)],
    "an answered request": predict(),
    "an answered request after hand-over": LIVE + predict(),
}


@pytest.fixture(scope="module", autouse=True)
def unfinished(server, wire):
    """Clients that never finish, opened first and looked at last: meanwhile they wait."""
    opened = {name: wire(server.port) for name in UNFINISHED}
    for name, connection in opened.items():
        connection.send(UNFINISHED[name])
    yield opened
    for connection in opened.values():
        connection.__exit__()


CALLS = {
    "a vector": (200, predict),
    "a vector by name": (400, lambda: predict(b'{"features":{"amount":1.5}}')),
    "a vector with an id": (200, lambda: predict(extra=b"X-Request-Id: r-1:a/b_c.d\r\n")),
    "a vector with an odd id": (200, lambda: predict(extra=b"x-request-id: r 1 \xe9\r\n")),
    "a vector with a long id": (200, lambda: predict(extra=b"x-request-id: %s\r\n" % (b"r" * 129))),
    "a vector of a trace": (200, lambda: predict(extra=b"Traceparent: %s\r\nX-Request-ID: r-2\r\n" % TRACE)),
    "a trace that is none": (200, lambda: predict(extra=b"traceparent: 00-0-0-01\r\n")),
    "an empty id": (200, lambda: predict(extra=b"x-request-id:\r\n")),
    "no time left": (200, lambda: predict(extra=b"X-Deadline-Ms: 0.000001\r\n")),
    "a deadline that is none": (200, lambda: predict(extra=b"X-Deadline-Ms: soon\r\n")),
    "many headers": (200, lambda: predict(extra=b"".join(b"X-%d: y\r\n" % i for i in range(100)))),
    "a cookie twice": (200, lambda: predict(extra=b"Cookie: a=1\r\nCookie: b=2\r\n")),
    "a query": (200, lambda: post(b"/predict?a=b", VECTOR)),
    "an escaped path": (200, lambda: post(b"/%70redict", VECTOR)),
    "a whole address": (200, lambda: post(b"http://localhost/predict", VECTOR)),
    "keep-alive": (200, lambda: predict(extra=b"Connection: keep-alive\r\n")),
    "identity": (200, lambda: predict(extra=b"Content-Encoding: identity\r\n")),
    "another site's page": (403, lambda: predict(extra=b"Origin: http://evil.example\r\n")),
    "another page's blob": (415, lambda: predict(media=b"")),
    "another name": (403, lambda: predict().replace(b"localhost", b"evil.example")),
    "another site": (403, lambda: predict(extra=b"Sec-Fetch-Site: cross-site\r\n")),
    "our own page": (200, lambda: predict(extra=b"Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n")),
    "through a proxy": (401, lambda: predict(extra=b"X-Forwarded-For: 127.0.0.1\r\n")),
    "a wrong key": (401, lambda: predict(extra=b"Authorization: Bearer sk_wrong\r\n")),
    "wrong number": (400, lambda: predict(b'{"features":[1,2]}')),
    "wrong JSON": (400, lambda: predict(b"{")),
    "wrong JSON of a trace": (400, lambda: predict(b"{", extra=b"X-Request-Id: r\r\nTraceparent: %s\r\n" % TRACE)),
    "no body": (400, lambda: predict(b"")),
    "wrong type": (422, lambda: predict(b'{"features":["x"]}')),
    "another field": (422, lambda: predict(b'{"features":[],"more":1}')),
    "not UTF-8": (400, lambda: post(b"/v1/score", b'{"card":"\xff"}')),
    "nothing": (400, lambda: post(b"/v1/score", b" ")),
    "an empty batch": (400, lambda: post(b"/v1/score", b"[]")),
    "an unknown field": (422, lambda: score(payment(transaction_id="x" * 9, nobody=1))),
    "out of range": (422, lambda: score(payment(amount=-1))),
    "no time at all": (422, lambda: score(payment(event_time="soon"))),
    "half an outcome": (422, lambda: post(b"/v1/outcomes", b'{"transaction_id":"nobody"}')),
    "too many": (413, lambda: post(b"/v1/score", b"[" + b"0," * 1000 + b"0]")),
    "too large": (413, lambda: predict(b" " * (2**20 + 1), extra=b"X-Request-Id: r-3\r\n")),
    "another media type": (415, lambda: post(b"/v1/score", b"<a/>", b"application/xml")),
    "compressed": (415, lambda: predict(extra=b"X-Request-Id: r-4\r\nContent-Encoding: gzip\r\n")),
    "nobody's path": (404, lambda: post(b"/nowhere", VECTOR)),
    "lines that are wrong": (200, lambda: lines({"card": 1}, payment(amount=-1))),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("other", ["after_hand_over", "in_chunks"])
def test_both_lanes_give_the_same_bytes(lanes, name, other):
    status, make = CALLS[name]
    request = make()
    found, again = lanes.fast(request), getattr(lanes, other)(request)
    assert found.status == status
    assert found.comparable == again.comparable
    assert found.headers.get("x-request-id", "").startswith("r") == (b"-Id: r" in request or b"-ID: r" in request)


def test_names_of_headers_may_be_written_in_any_way(lanes):
    plain = predict(extra=b"X-Request-Id: abc\r\nX-Deadline-Ms: 0.000001\r\n")
    head, _, body = plain.partition(b"\r\n\r\n")
    first, _, headers = head.partition(b"\r\n")
    named = [line.partition(b":") for line in headers.split(b"\r\n")]
    for change in (bytes.lower, bytes.upper, bytes.swapcase):
        request = b"\r\n".join([first, *(change(name) + b":" + value for name, _, value in named)]) + b"\r\n\r\n" + body
        for answer in (lanes.fast(request), lanes.after_hand_over(request)):
            assert answer.headers["x-request-id"] == "abc"
            assert answer.json["degraded"] == "overloaded"
            assert answer.comparable == lanes.fast(plain).comparable


@pytest.mark.parametrize("way", ["fast", "after_hand_over", "in_chunks"])
def test_a_request_id_and_a_trace_come_back(lanes, way):
    extra = b"X-Request-Id: mine\r\nTraceparent: %s\r\n" % TRACE
    for request in (predict(extra=extra), score(payment(), extra=extra), score(payment(amount=-1), extra=extra)):
        answer = getattr(lanes, way)(request)
        assert list(answer.headers) == ["x-request-id", "traceparent", "content-length", "content-type"]
        assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("mine", TRACE.decode())


@pytest.mark.parametrize("way", ["fast", "after_hand_over", "in_chunks"])
def test_a_deadline_that_has_passed_gets_the_rules_decision(lanes, way):
    for request, place in ((predict(extra=b"x-deadline-ms: 0.000001\r\n"), "threshold_used"),
                           (score(payment(), extra=b"x-deadline-ms: 0.000001\r\n"), "threshold")):  # fmt: skip
        answer = getattr(lanes, way)(request).json
        assert (answer["degraded"], answer["fraud_probability"], answer[place]) == ("overloaded", 0.05, 0.35)


def test_fresh_decisions_differ_in_nothing_but_their_ids(lanes):
    found = []
    for way in (lanes.fast, lanes.after_hand_over, lanes.in_chunks):
        asked = payment()
        head, body = way(score(asked)).comparable
        assert b'"replayed":false' in body
        found.append((head, body.replace(asked["transaction_id"].encode(), b"ID")))
    assert found[0] == found[1] == found[2]


def test_a_replay_is_the_same_to_the_last_digit(lanes):
    one, batch, told = score(payment()), score(payment(), payment(amount="x"), payment()), payment()
    outcome = post(b"/v1/outcomes", json.dumps({"transaction_id": told["transaction_id"], "is_fraud": True}).encode())
    stream = lines(payment(), {"a": 1}, payment())
    lanes.fast(score(told))
    for request in (one, batch, stream, outcome):
        lanes.fast(request)
        found = lanes.fast(request)
        assert b'"replayed":true' in found.body
        assert found == lanes.after_hand_over(request) == lanes.in_chunks(request)
    assert lanes.fast(stream).headers["content-type"] == "application/x-ndjson"


def test_other_content_under_an_id_is_409_on_both(lanes):
    asked = payment()
    lanes.fast(score(asked))
    request = score({**asked, "amount": 13}, extra=b"X-Request-Id: again\r\n")
    found = lanes.fast(request)
    assert found.status == 409
    assert found == lanes.after_hand_over(request) == lanes.in_chunks(request)


UNUSUAL = {
    "GET": (405, b"GET /predict HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "GET with a body": (405, b"GET /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"),
    "PUT": (405, predict().replace(b"POST", b"PUT", 1)),
    "OPTIONS": (405, b"OPTIONS /v1/score HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "a path's end": (307, post(b"/v1/outcomes/", VECTOR)),
    "HTTP/1.0": (200, predict(version=b"1.0")),
    "HTTP/1.0 keep-alive": (200, predict(version=b"1.0", extra=b"Connection: keep-alive\r\n")),
    "close": (200, predict(extra=b"Connection: close\r\n")),
    "close in capitals": (200, predict(extra=b"CONNECTION: CLOSE\r\n")),
    "a long header": (200, predict(extra=b"X-Long: %s\r\n" % (b"a" * 8_000))),
    "a header too long": (431, predict(extra=b"X-Long: %s\r\n" % (b"a" * 9_000))),
    "a header of any length": (431, predict(extra=b"X-Long: %s\r\n" % (b"a" * 2_000_000))),
    "a name too long": (431, predict(extra=b"%s: a\r\n" % (b"X" * 10_000))),
    "too many headers": (431, predict(extra=b"".join(b"X-%d: y\r\n" % i for i in range(200)))),
    "headers too long together": (431, predict(extra=b"".join(b"X-%d: %s\r\n" % (i, b"a" * 4_000) for i in range(9)))),
    "a path too long": (431, post(b"/predict?" + b"a" * 100_000, VECTOR)),
    "a line before it": (200, b"\r\n" + predict()),
    "no version": (400, b"POST /predict\r\n\r\n"),
    "no length": (400, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n"),
    "an expectation of something else": (200, predict(extra=b"Expect: rain\r\n")),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_gets_the_same_bytes_first_and_later(lanes, name):
    status, request = UNUSUAL[name]
    found = lanes.fast(request)
    assert found.status == status
    assert found.comparable == lanes.after_hand_over(request).comparable
    closes = b"HTTP/1.1" not in request or b"close" in request.lower() or name == "GET with a body" or status == 431
    assert ("connection" in found.headers) == closes


MALFORMED = {
    "folded header": predict(extra=b"X-A: b\r\n c\r\n"),
    "space in a name": predict(extra=b"X A: b\r\n"),
    "no colon": predict(extra=b"garbage\r\n"),
    "zero byte": predict(extra=b"X-A: \x00\r\n"),
    "control character in an id": predict(extra=b"X-Request-Id: a\x01b\r\n"),
    "two lengths": predict(extra=b"Content-Length: 5\r\n"),
    "length and chunks": predict(extra=b"Transfer-Encoding: chunked\r\n"),
    "signed length": b"POST /predict HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}",
    "endless length": b"POST /predict HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "small letters": b"post /predict HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "line feeds alone": predict().replace(b"\r\n", b"\n"),
    "another version": predict(version=b"3.1"),
    "chunks of no size": b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "words": b"hello\r\n",
    "words after POST": b"POST garbage\r\n",
    "two lines before it": b"\r\n\r\n" + predict(),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_refused_at_once_and_the_connection_ends(lanes, name):
    for before in (b"", LIVE, predict()):
        with lanes.wire(lanes.port) as connection:
            if before:
                connection.send(before)
                assert connection.answer().status == 200
            connection.send(MALFORMED[name])
            answer = connection.answer()
            assert (answer.status, answer.headers["connection"], answer.json["status"]) == (400, "close", 400)
            assert connection.is_closed(within_s=2)


@pytest.mark.parametrize("way", ["fast", "after_hand_over"])
def test_head_has_the_head_of_get_and_no_body(lanes, way):
    get = getattr(lanes, way)(b"GET /predict HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = getattr(lanes, way)(b"HEAD /predict HTTP/1.1\r\nHost: localhost\r\n\r\n", bodyless=True)
    assert head == (get.head, b"")
    assert head.headers["allow"] == "POST"


@pytest.mark.parametrize("extra", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
@pytest.mark.parametrize("before", [b"", LIVE, predict()], ids=["first", "after hand-over", "again"])
def test_a_connection_is_kept_unless_it_shall_close(lanes, before, extra):
    with lanes.wire(lanes.port) as connection:
        if before:
            connection.send(before)
            connection.answer()
        for _ in range(1 if extra else 5):
            connection.send(predict(extra=extra))
            assert connection.answer().status == 200
        assert connection.is_closed(within_s=2 if extra else 0.05) == bool(extra)


@pytest.mark.parametrize("before", [b"", LIVE], ids=["first", "after hand-over"])
def test_100_continue_comes_before_the_body_is_sent(lanes, before):
    head, _, body = predict(extra=b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with lanes.wire(lanes.port) as connection:
        if before:
            connection.send(before)
            connection.answer()
        connection.send(head + b"\r\n\r\n")
        assert connection.answer() == (b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        connection.send(body)
        answer, expected = connection.answer(), lanes.fast(predict())
        assert (answer.status, answer.comparable[1]) == (200, expected.comparable[1])


@pytest.mark.parametrize("before", [b"", LIVE], ids=["first", "after hand-over"])
@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_pipelined_requests_are_answered_in_order_whatever_their_paths(lanes, before, pieces):
    asked = [payment() for _ in range(3)]
    told = json.dumps({"transaction_id": asked[0]["transaction_id"], "is_fraud": False}).encode()
    requests = [
        score(asked[0]), predict(), predict(b"{"), post(b"/v1/outcomes", told), score(asked[1]), predict(),
        chunked(score(asked[0])), predict(), LIVE, score(asked[2]), predict(b'{"features":[1]}'), LIVE,
    ]  # fmt: skip
    sent = before + b"".join(requests)
    size = -(-len(sent) // pieces)
    with lanes.wire(lanes.port) as connection:
        for begin in range(0, len(sent), size):
            connection.send(sent[begin : begin + size])
        found = [connection.answer() for _ in range(len(requests) + bool(before))][bool(before) :]
    assert [one.status for one in found] == [200, 200, 400, 200, 200, 200, 200, 200, 200, 200, 400, 200]
    places = {0: asked[0], 4: asked[1], 6: asked[0], 9: asked[2]}
    assert {i: found[i].json["transaction_id"] for i in places} == {
        i: one["transaction_id"] for i, one in places.items()
    }
    assert found[3].json["is_fraud"] is False
    assert found[6].json["replayed"]
    assert found[1].comparable == found[5].comparable == found[7].comparable
    assert found[8].json == found[11].json == {"live": True}


def test_what_follows_a_close_is_not_answered(lanes):
    for before in (b"", LIVE):
        with lanes.wire(lanes.port) as connection:
            connection.send(before + predict(extra=b"Connection: close\r\n") + predict())
            answers = [connection.answer() for _ in range(1 + bool(before))]
            assert answers[-1].headers["connection"] == "close"
            assert connection.is_closed(within_s=2)


@pytest.mark.parametrize("before", [b"", LIVE], ids=["first", "after hand-over"])
@pytest.mark.parametrize("kind", [bytes, chunked], ids=["whole", "chunked"])
def test_a_client_that_sends_byte_by_byte_is_answered(lanes, before, kind):
    with lanes.wire(lanes.port) as connection:
        if before:
            connection.send(before)
            connection.answer()
        for byte in kind(predict(extra=b"X-Request-Id: slow\r\n")):
            connection.send(bytes([byte]))
            time.sleep(0.0005)
        answer = connection.answer()
    assert (answer.status, answer.headers["x-request-id"]) == (200, "slow")
    assert answer.body.startswith(lanes.fast(predict()).body[:60])


HALF_CLOSED = {
    "a vector": (predict, 1),
    "a transaction": (lambda: score(payment()), 1),
    "lines": (lambda: lines(*(payment() for _ in range(50))), 1),
    "what the application answers": (lambda: LIVE, 1),
    "a page": (lambda: b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n", 1),
    "both lanes in turn": (lambda: (predict() + LIVE + score(payment())) * 20, 60),
    "chunks": (lambda: chunked(score(payment())), 1),
    "a body that was expected": (lambda: predict(extra=b"Expect: 100-continue\r\n"), 1),
}


@pytest.mark.parametrize("name", HALF_CLOSED)
def test_a_client_that_has_sent_all_and_says_so_gets_every_answer(lanes, name):
    made, n = HALF_CLOSED[name]
    with lanes.wire(lanes.port) as connection:
        connection.send(made())
        connection._socket.shutdown(socket.SHUT_WR)
        assert [connection.answer().status for _ in range(n)] == [200] * n
        assert connection.is_closed(within_s=2)


@pytest.mark.parametrize("request_", [predict(), LIVE], ids=["fast lane", "other lane"])
def test_an_idle_connection_is_kept_as_long_as_the_setting_says(lanes, request_):
    with lanes.wire(lanes.port) as connection:
        for _ in range(2):
            connection.send(request_)
            assert connection.answer().status == 200
            assert not connection.is_closed(within_s=3.5)
        assert connection.is_closed(within_s=5.5)


LARGE = post(b"/v1/score", b"[" + b"0," * 999 + b"0]")
"""Two kilobytes that are answered with seventy."""


def test_a_client_that_does_not_read_is_not_read_from_and_gets_all_its_answers_later(lanes, ask):
    """What is answered but not read has to be kept: it may not grow without end."""

    def refused():
        return ask(lanes.port, "GET", "/metrics").json["errors"]

    n, before, found = 500, refused(), [0, 1]
    with lanes.wire(lanes.port) as connection:
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)
        connection.send(LARGE * n)
        while found[-1] != found[-2]:
            time.sleep(0.3)
            found.append(refused() - before)
        assert 0 < found[-1] < 1000 * n // 2
        answers = {connection.answer() for _ in range(n)}
        assert [(one.status, len(one.json)) for one in answers] == [(200, 1000)]
        assert 1000 * n <= refused() - before <= 1000 * n + len(UNFINISHED)  # these may have been given up meanwhile


@pytest.mark.parametrize("n", [20, 60, 100])
def test_a_client_that_reads_late_is_read_from_again_after_a_hand_over(lanes, n):
    """The answers are large and pile up; the last request changes lanes while nothing more is read."""
    with lanes.wire(lanes.port) as connection:
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.send(LARGE * n + score(payment()) + LIVE)
        time.sleep(0.3)
        assert [connection.answer().status for _ in range(n + 2)] == [200] * (n + 2)
        for request in (predict(), LIVE, LARGE, predict()):
            connection.send(request)
            assert connection.answer().status == 200


def test_clients_that_leave_disturb_no_one(lanes):
    for request in (predict(), score(payment()), chunked(score(payment())), LIVE + predict(), predict() * 50):
        for part in (request, request[:-3], request[:30]):
            with lanes.wire(lanes.port) as connection:
                connection.send(part)
            connection = lanes.wire(lanes.port)
            connection.send(part)
            connection.reset()
    assert lanes.fast(predict()).status == lanes.after_hand_over(predict()).status == 200


@pytest.mark.parametrize(
    ("environment", "text"),
    [({}, "No model can answer"), ({"SENTINEL_MAX_WAITING": "0"}, "waiting already")],
    ids=["no model", "overloaded"],
)
def test_503_says_when_to_come_back_on_both_lanes(start_server, shop_home, wire, tmp_path, environment, text):
    server = start_server(shop_home, environment) if environment else start_server(tmp_path, kind=NeverReady)
    lanes = Lanes(server.port, wire)
    for make in (predict, lambda **kwargs: score(payment(), **kwargs)):
        for extra in (b"", b"X-Request-Id: a\r\nTraceparent: %s\r\n" % TRACE):
            request = make(extra=extra)
            found = lanes.fast(request)
            assert found.status == 503
            assert list(found.headers) == [
                "retry-after", *(["x-request-id", "traceparent"] if extra else []), "content-length", "content-type",
            ]  # fmt: skip
            assert text in found.json["error"]
            assert found == lanes.after_hand_over(request) == lanes.in_chunks(request)


class NeverReady(ServerProcess):
    """A server without a model: it lives, and says what is missing."""

    def _is_ready(self):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{self.host}:{self.port}/health/live") as reply,
        ):
            return reply.status == 200


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_client_that_never_finishes_is_closed_after_a_while(unfinished, name):
    connection = unfinished[name]
    for _ in range(UNFINISHED[name].count(b"HTTP/1.1") - (not name.startswith("an answered"))):
        assert connection.answer().status == 200
    if "expected" in name:
        assert connection.answer().status == 100
    if "half" in name or "expected" in name:
        answer = connection.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert f"{6 if 'head' in name.removesuffix('after hand-over') else 7} s" in answer.json["error"]
    assert connection.is_closed(within_s=11)
