"""Requests inside of requests: a body, or the rest of an odd head, must never be taken for a request of its own."""

import contextlib
import itertools
import json
import random
import time

from attacks.arena import Arena, Target, payment, read_all, request
from attacks.attack import Attack, Tried

_INNER = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PATHS = (b"/v1/score", b"/predict", b"/v1/outcomes", b"/admin/reload", b"/health")
_UPGRADES = (b"h2c", b"websocket", b"TLS/1.0", b"h2c, websocket")
_LENGTHS = (
    b"Content-Length: %d",
    b"Content-Length: +%d",
    b"Content-Length: 0%d",
    b"Content-Length: %d, %d",
    b"Content-Length : %d",
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: 0\r\nContent-Length: %d",
    b" Content-Length: %d",
    b"X: a\r\n Content-Length: %d",
    b"Content-Length:\x0b%d",
    b"Content_Length: %d",
    b"Content-Length: %d\x00",
    b"Content-Length: %d;",
    b"Content-Length: -%d",
)
_CODINGS = (
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"transfer-encoding:chunked\x00",
    b"X: y\nTransfer-Encoding: chunked",
)


def _count(target: Target, data: list[bytes]) -> int:
    """How often the inner request was answered as a request of its own."""
    with contextlib.closing(target.connect()) as wire:
        with contextlib.suppress(OSError):
            for n, part in enumerate(data):
                if n:
                    time.sleep(0.01)
                wire.sendall(part)
        answered = read_all(wire, 0.15)
    return sum(b"404" in part.split(b"\r\n", 1)[0] for part in answered.split(b"HTTP/1.1 ")[1:])


def upgrade(arena: Arena) -> Tried:
    """A body behind `Upgrade`, in one segment and in two."""
    broken, tried = [], 0
    with arena.server() as target:
        for path, protocol, connection, cut in itertools.product(
            _PATHS[:-1], _UPGRADES, (b"Upgrade", b"keep-alive, Upgrade"), (False, True)
        ):
            head = request(b"POST", path, _INNER, b"Connection: " + connection, b"Upgrade: " + protocol)
            at = len(head) - len(_INNER)
            tried += 1
            if _count(target, [head[:at], head[at:]] if cut else [head]):
                broken.append(f"POST {path.decode()} with Upgrade: {protocol.decode()}: the body was a request")
        if not target.is_well():
            broken.append("the server does not decide any more")
    return Tried(tried, broken)


def framing(arena: Arena) -> Tried:
    """Lengths and codings that two parsers read differently: the body is never a request while the length says so."""
    broken, tried, chance = [], 0, random.Random(1)
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_INNER), _INNER)
    with arena.server() as target:
        cases = [(path, length, coding) for path in _PATHS for length in _LENGTHS for coding in (b"", *_CODINGS)]
        for path, length, coding in chance.sample(cases, min(len(cases), 250 * arena.scale)):
            method = b"GET" if path == b"/health" else b"POST"
            many = length.count(b"%d")
            lines = [length % ((len(_INNER),) * many)] + ([coding] if coding else [])
            head = b"\r\n".join([b"%s %s HTTP/1.1" % (method, path), b"Host: localhost", *lines]) + b"\r\n\r\n"
            tried += 1
            # what follows is the body by the length that is written there: two answers mean that it was a request
            if _count(target, [head + _INNER]) and b"Length: 0" not in length and not coding and b"_" not in length:
                broken.append(f"{lines} on {path.decode()}: the body was a request")
            if coding and _count(target, [head + chunk]):
                broken.append(f"{lines} on {path.decode()}: a chunk was a request")
        if not target.is_well():
            broken.append("the server does not decide any more")
    return Tried(tried, broken[:10])


def order(arena: Arena) -> Tried:
    """Pipelined requests of both lanes get their own answers in their order, whatever was odd before."""
    broken = []
    rounds = 40 * arena.scale
    chance = random.Random(2)
    with arena.server() as target:
        for turn in range(rounds):
            names = [f"o{turn}-{n}" for n in range(8)]
            data = b"".join(
                request(
                    b"POST", b"/v1/score", json.dumps(payment(name)).encode(),
                    *([b"Upgrade: h2c", b"Connection: Upgrade"] if chance.random() < 0.1 else []),
                )
                for name in names
            )  # fmt: skip
            with contextlib.closing(target.connect()) as wire:
                wire.sendall(data)
                answered = read_all(wire, 0.3)
            found = [
                json.loads(part.split(b"\r\n\r\n", 1)[1]).get("transaction_id")
                for part in answered.split(b"HTTP/1.1 ")[1:]
            ]
            if found != names[: len(found)] or not found:
                broken.append(f"asked {names}, answered {found}")
    return Tried(rounds, broken)


ATTACKS = [
    Attack("upgrade", "the body of an upgrade is read as a request", upgrade),
    Attack("framing", "two opinions about where a request ends", framing),
    Attack("order", "the answer of another request", order),
]
