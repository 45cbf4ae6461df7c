"""HTTPS on both lanes, and which web pages a browser lets call the API."""

import json
import ssl

import pytest

from sentinel.commands.owner import ask_owner
from sentinel.config import Settings

VECTOR = json.dumps({"features": [20.5, 0.1, 1, 1, 2, 20.5, None, None, 1, 3600, 4, 0.02]}).encode()
PAYMENT = json.dumps(
    {"transaction_id": "tls", "event_time": 1_738_400_000, "amount": 12.5, "card": "c", "shop": "s"}
).encode()  # fmt: skip
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
KEY = "a key of more than 16".replace(" ", "-")
OURS, OTHERS = "https://console.example", "https://evil.example"


def post(path, body, extra=b""):
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
    return head % (path, len(body), extra) + body


# TLS


@pytest.fixture(scope="module")
def secure(start_secure, shop_home):
    return start_secure(shop_home, {"SENTINEL_CACHE_TTL_S": "0"})


def test_both_lanes_speak_tls_and_hand_over_under_it(secure, wire, trusting):
    with wire(secure.port, trusting) as connection:
        answers = []
        for request in (post(b"/predict", VECTOR), post(b"/v1/score", PAYMENT), LIVE):
            connection.send(request)
            answers.append(connection.answer())
        for request in (post(b"/predict", VECTOR), post(b"/v1/score", PAYMENT)):
            connection.send(request)
            answers.append(connection.answer())
    assert [one.status for one in answers] == [200] * 5
    assert answers[0].comparable == answers[3].comparable
    assert answers[1].json == {**answers[4].json, "replayed": answers[1].json["replayed"]}
    assert answers[2].json == {"live": True}


def test_commands_trust_the_certificate_of_their_server_whoever_issued_it(secure):
    """The system does not know the authority, and the file may have the certificate alone."""
    files = {"tls_certificate": secure.certificates / "certificate.pem", "tls_key": secure.certificates / "key.pem"}
    settings = Settings(home=secure.home, **files)
    said = ask_owner(settings, "/admin/log/prune", {"keep": "180d", "dry_run": True})
    assert said["removed"] == 0


def test_a_hand_over_amid_pipelined_requests_loses_no_byte(secure, wire, trusting):
    requests = [post(b"/v1/score", PAYMENT), post(b"/predict", b"{"), LIVE, post(b"/predict", VECTOR), LIVE] * 20
    sent = b"".join(requests)
    for size in (len(sent), 1000, 17):
        with wire(secure.port, trusting) as connection:
            for begin in range(0, len(sent), size):
                connection.send(sent[begin : begin + size])
            assert [connection.answer().status for _ in requests] == [200, 400, 200, 200, 200] * 20


def test_large_bodies_and_answers_pass(secure, wire, trusting):
    rows = [{**json.loads(PAYMENT), "transaction_id": f"large-{i}", "card": f"{i}" * 40} for i in range(1000)]
    with wire(secure.port, trusting) as connection:
        connection.send(post(b"/v1/score", json.dumps(rows).encode()))
        assert [one["transaction_id"] for one in connection.answer().json] == [row["transaction_id"] for row in rows]


def test_who_does_not_speak_tls_is_not_answered(secure, wire, ask):
    with wire(secure.port) as connection:
        connection.send(post(b"/predict", VECTOR))
        assert connection.is_closed(within_s=5)


def test_a_certificate_of_someone_else_is_not_trusted(secure, wire):
    with pytest.raises(ssl.SSLCertVerificationError):
        wire(secure.port, ssl.create_default_context())


def test_a_client_that_breaks_off_the_greeting_disturbs_no_one(secure, wire, trusting):
    for _ in range(5):
        connection = wire(secure.port)
        connection.send(b"\x16\x03\x01\x02\x00\x01\x00")
        connection.reset()
    with wire(secure.port, trusting) as connection:
        connection.send(post(b"/predict", VECTOR))
        assert connection.answer().status == 200


def test_addresses_that_the_server_tells_are_https(secure, wire, trusting):
    with wire(secure.port, trusting) as connection:
        connection.send(post(b"/v1/outcomes/", VECTOR))
        assert connection.answer().headers["location"] == "https://localhost/v1/outcomes"


# CORS


@pytest.fixture(scope="module")
def shared(start_server, shop_home):
    environment = {"SENTINEL_CORS_ORIGINS": f"{OURS}, https://second.example", "SENTINEL_ADMIN_KEY": KEY}
    return start_server(shop_home, environment).port


def cors_headers(answer):
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("path", ["/predict", "/v1/score"])
@pytest.mark.parametrize("origin", [OURS, "https://second.example"])
def test_a_browser_may_ask_for_a_page_that_is_listed(shared, ask, path, origin):
    wanted = {"access_control_request_method": "POST", "access_control_request_headers": "content-type, authorization"}
    answer = ask(shared, "OPTIONS", path, origin=origin, **wanted)
    assert answer.status == 200
    found = cors_headers(answer)
    assert found["access-control-allow-origin"] == origin
    assert "POST" in found["access-control-allow-methods"]
    allowed = found["access-control-allow-headers"].lower()
    assert "content-type" in allowed
    assert "authorization" in allowed
    assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize("path", ["/predict", "/v1/score", "/admin/reload"])
@pytest.mark.parametrize("origin", [OTHERS, "null", "https://console.example.evil.example", "http://console.example"])
def test_a_browser_may_not_ask_for_other_pages(shared, ask, path, origin):
    answer = ask(shared, "OPTIONS", path, origin=origin, access_control_request_method="POST")
    assert answer.status == 400
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/predict", VECTOR, 200), ("/v1/score", PAYMENT, 200), ("/predict", b"{", 400), ("/v1/score", b"{}", 422)],
)
def test_a_page_that_is_listed_is_answered_with_a_key_and_no_other_is(shared, ask, path, body, status):
    for origin, expected in ((OURS, status), (OTHERS, 403), (None, status)):
        answer = ask(shared, "POST", path, body, origin=origin, authorization=f"Bearer {KEY}")
        assert answer.status == expected
        assert answer.headers.get("access-control-allow-origin") == (OURS if origin == OURS else None)
    answer = ask(shared, "POST", path, body, origin=OURS)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, OURS)


def test_a_page_is_answered_after_the_fast_lane_has_answered_others(shared, wire):
    with wire(shared) as connection:
        connection.send(post(b"/predict", VECTOR))
        assert not cors_headers(connection.answer())
        bears = b"Authorization: Bearer %s\r\n" % KEY.encode()
        connection.send(post(b"/predict", VECTOR, b"Origin: %s\r\n%s" % (OURS.encode(), bears)))
        assert cors_headers(connection.answer()) == {"access-control-allow-origin": OURS}
        connection.send(post(b"/predict", VECTOR))
        assert not cors_headers(connection.answer())


def test_without_a_list_no_page_may(secure, wire, trusting):
    with wire(secure.port, trusting) as connection:
        connection.send(post(b"/predict", VECTOR, b"Origin: %s\r\n" % OURS.encode()))
        answer = connection.answer()
    assert answer.status == 403
    assert not cors_headers(answer)
