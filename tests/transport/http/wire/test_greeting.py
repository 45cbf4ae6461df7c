"""TLS handshakes: bounded in time, and counted from the moment a connection is taken."""

import contextlib
import json
import resource
import socket
import time
from pathlib import Path

import pytest

from sentinel.commands.server_process import ServerFailed

MOST, SPARE = 100, 64
HEAD_TIMEOUT_S = 2.0
PAYMENT = {"event_time": 1_738_400_000, "amount": 12.5, "card": "c", "shop": "s"}
BEGINNINGS = {
    "nothing": b"",
    "a part": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a record's head": b"\x16\x03\x01\x40\x00",
}


@pytest.fixture(scope="module")
def server(start_secure, shop_home):
    return start_secure(
        shop_home, {"SENTINEL_MAX_CONNECTIONS": str(MOST), "SENTINEL_HEAD_TIMEOUT_S": str(HEAD_TIMEOUT_S)}
    )


@pytest.fixture
def crowd(server):
    """Opens bare connections that send a beginning of a handshake; all of them are closed at the end."""
    opened = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[1], 8_192), limits[1]))

    def come(many, beginning):
        for _ in range(many):
            with contextlib.suppress(OSError):
                one = socket.create_connection(("127.0.0.1", server.port), timeout=5)
                opened.append(one)
                one.sendall(beginning)
        return opened

    yield come
    for one in opened:
        one.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def descriptors(server):
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def still_open(sockets):
    found = 0
    for one in sockets:
        one.setblocking(False)
        try:
            found += one.recv(1) != b""
        except BlockingIOError:
            found += 1
        except OSError:
            pass
    return found


def scored(wire, server, trusting, name):
    with wire(server.port, trusting) as connection:
        body = json.dumps({**PAYMENT, "transaction_id": name}).encode()
        head = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connection.send(head % len(body) + body)
        return connection.answer().status


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_crowd_that_begins_to_greet_takes_no_more_than_there_may_be_and_no_one_s_place(
    server, crowd, wire, trusting, beginning
):
    before = descriptors(server)
    sockets = crowd(6 * MOST, BEGINNINGS[beginning])
    begun = time.monotonic()
    assert scored(wire, server, trusting, f"amid {beginning}") == 200
    assert time.monotonic() - begun < HEAD_TIMEOUT_S
    assert descriptors(server) <= before + MOST + SPARE
    while still_open(sockets):
        assert time.monotonic() - begun < 3 * HEAD_TIMEOUT_S, "they are closed when their time is up"
        time.sleep(0.1)
    assert scored(wire, server, trusting, f"after {beginning}") == 200
    assert descriptors(server) <= before + 5


def test_files_that_secure_nothing_stop_the_start_with_a_sentence(start_secure, shop_home, tmp_path):
    (tmp_path / "none.pem").write_text("none")
    for path in (tmp_path / "none.pem", tmp_path / "missing.pem"):
        with pytest.raises(ServerFailed, match="cannot be used") as refused:
            start_secure(shop_home, {"SENTINEL_TLS_KEY": str(path)})
        assert "Traceback" not in str(refused.value)


def test_who_greets_and_is_one_too_many_is_told_so(server, wire, trusting):
    with contextlib.ExitStack() as stack:
        for _ in range(MOST):
            connection = stack.enter_context(wire(server.port, trusting))
            connection.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.answer().status == 200
        late = stack.enter_context(wire(server.port, trusting))
        late.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert late.answer().status == 503
    until = time.monotonic() + 60
    while True:
        with wire(server.port, trusting) as connection:
            connection.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if connection.answer().status == 200:
                break
        assert time.monotonic() < until
        time.sleep(0.1)


def test_who_is_refused_and_stays_is_counted_until_gone(server, wire, trusting):
    """The server says that it ends, and the client does not: that is no place beyond all limits."""
    before = descriptors(server)
    with contextlib.ExitStack() as opened:
        for _ in range(4 * MOST):
            with contextlib.suppress(OSError):
                opened.enter_context(wire(server.port, trusting))
        assert descriptors(server) <= before + MOST + SPARE
    until = time.monotonic() + 60
    while descriptors(server) > before + 5:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert scored(wire, server, trusting, "after those who stay") == 200


def test_a_crowd_that_begins_to_greet_keeps_no_one_out_who_may_come(server, crowd, wire, trusting):
    """Nor takes it a place of the connections that may be: those are for who has greeted."""
    with contextlib.ExitStack() as stack:
        crowd(2 * MOST, b"")
        for n in range(MOST):
            connection = stack.enter_context(wire(server.port, trusting))
            connection.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.answer().status == 200, n
