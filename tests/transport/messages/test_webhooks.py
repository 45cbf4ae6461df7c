"""Webhooks: signed, to public addresses only, bounded whatever the receiver does."""

import hashlib
import hmac
import socket
import threading
import time

import pytest

from sentinel.errors import InvalidDefinition
from sentinel.record.written.outbox import Message
from sentinel.transport.messages import destinations
from sentinel.transport.messages.destinations import SendFailed, Webhook
from sentinel.transport.webhooks.addresses import WrongAddress, resolve, target_of

SECRET = "s" * 32
MESSAGE = Message("abc", "decision.state", "t1", '{"state":"approved"}', 1_700_000_000_000_000)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(destinations, "WITHIN_S", 1.5)


def hook(url, *, private=True):
    return Webhook("webhook 1", target_of(url, private=private), ("*",), SECRET, private)


def test_what_arrives_is_signed_and_says_what_it_is(receivers):
    receiver = receivers()
    hook(receiver.url).send(MESSAGE, 1_700_000_009.7)
    ((headers, body),) = receiver.requests
    moment, _, mark = headers["sentinel-signature"].partition(",v1=")
    assert moment == "t=1700000009"
    assert hmac.compare_digest(mark, hmac.new(SECRET.encode(), b"1700000009." + body, hashlib.sha256).hexdigest())
    assert receiver.messages == [
        {
            "id": "abc",
            "kind": "decision.state",
            "about": "t1",
            "at": "2023-11-14T22:13:20Z",
            "data": {"state": "approved"},
        }
    ]
    assert (headers["sentinel-id"], headers["path"]) == ("abc", "/hook?key=secret")
    assert headers["host"] == f"127.0.0.1:{receiver.port}"


def test_nothing_secret_is_shown(receivers):
    assert "secret" not in hook(receivers().url).shown


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("500", "it answered 500"), ("redirect", "it answered 302"), ("silent", "no whole answer within"),
        ("drip", "no whole answer within"), ("endless", "no whole answer within"), ("long", "connection failed"),
        ("reset", "connection failed"),
    ],
)  # fmt: skip
def test_whatever_a_receiver_does_a_try_ends(receivers, how, says):
    receiver = receivers()
    receiver.how = how
    with pytest.raises(SendFailed, match=says) as refused:
        hook(receiver.url).send(MESSAGE, time.time())
    assert not refused.value.for_good


def test_one_who_says_that_it_is_gone_is_not_asked_again(receivers):
    receiver = receivers()
    receiver.how = "410"
    with pytest.raises(SendFailed) as refused:
        hook(receiver.url).send(MESSAGE, time.time())
    assert refused.value.for_good


def test_nobody_there_is_said(receivers):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(SendFailed, match="connection failed"):
        hook(f"http://127.0.0.1:{port}/").send(MESSAGE, time.time())


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "10.0.0.1",
        "169.254.169.254",
        "[::ffff:127.0.0.1]",
        "0",
        "2130706433",
        "0x7f.1",
    ],
)
def test_private_addresses_however_written_get_nothing(host):
    with pytest.raises(SendFailed, match=r"no public address|is not found"):
        hook(f"https://{host}/", private=False).send(MESSAGE, time.time())


def resolving(monkeypatch, answers):
    """Have `rebinding.example` lead to one of these after the other; how often it was asked."""
    real, asked = socket.getaddrinfo, []

    def lookup(host, port, *args, **more):
        if host != "rebinding.example":
            return real(host, port, *args, **more)
        asked.append(host)
        given = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in given]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


def test_a_name_that_is_bound_anew_is_not_asked_again(receivers, monkeypatch):
    first = receivers()
    second = receivers(host="127.0.0.2", port=first.port)
    asked = resolving(monkeypatch, [["127.0.0.1"], ["127.0.0.2"]])
    hook(f"http://rebinding.example:{first.port}/").send(MESSAGE, time.time())
    assert (len(asked), len(first.requests), second.connections) == (1, 1, 0)
    assert first.requests[0][0]["host"] == f"rebinding.example:{first.port}"


def test_a_name_of_which_one_address_is_private_gets_nothing(receivers, monkeypatch):
    receiver = receivers()
    resolving(monkeypatch, [["93.184.216.34", "127.0.0.1"]])
    target = target_of(f"https://rebinding.example:{receiver.port}/", private=False)
    with pytest.raises(WrongAddress, match=r"leads to 127\.0\.0\.1"):
        resolve(target, 30.0, private=False)
    resolving(monkeypatch, [["93.184.216.34"], ["127.0.0.1"]])
    assert resolve(target, 30.0, private=False) == "93.184.216.34"
    assert receiver.connections == 0


def test_a_name_server_that_never_answers_holds_nobody_up(monkeypatch):
    hangs = threading.Event()

    def lookup(*_args, **_more):
        hangs.wait()
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    target = target_of("https://hangs.example/", private=False)
    try:
        for _ in range(8):
            with pytest.raises(WrongAddress, match="the name server does not answer"):
                resolve(target, 0.05, private=False)
        with pytest.raises(WrongAddress, match="8 look-ups of names hang"):
            resolve(target, 0.05, private=False)
    finally:
        hangs.set()
    with pytest.raises(WrongAddress, match="no answer"):  # as soon as one of them has ended
        resolve(target, 60.0, private=False)


@pytest.mark.parametrize(
    "url", ["", "ftp://a.example/", "https://", "https://u:p@a.example/", "https://a.example:99999/", "https://a b/",
            "http://a.example/", "https://a.example/#x", "https://a.example/\r\nx: y"],
)  # fmt: skip
def test_an_address_that_cannot_be_one_is_refused(url):
    with pytest.raises(InvalidDefinition, match="SENTINEL_WEBHOOK_URL"):
        target_of(url, private=False)
