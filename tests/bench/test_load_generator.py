"""The load generator against small servers that answer well, in pieces, late, wrongly or not at all."""

import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from sentinel.bench.load_generator import (
    ANSWER_BYTES,
    Load,
    Requests,
    Target,
    at_random,
    closed_loop,
    evenly,
    open_loop,
)
from sentinel.errors import SentinelError

Answer = Callable[[socket.socket, int, bytes], bool]
"""Answers the n-th request of the server; whether the connection stays open."""


class Server:
    """One thread a connection; `seen` holds the body of every request, in the order of arrival."""

    def __init__(self, answer: Answer) -> None:
        self.seen: list[bytes] = []
        self.accepted = 0
        self._answer = answer
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.port = self._listener.getsockname()[1]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(made)
            self._threads.append(threading.Thread(target=self._serve, args=(made,)))
            self._threads[-1].start()

    def _serve(self, made: socket.socket) -> None:
        with made, made.makefile("rb") as stream:
            try:
                while head := stream.readline():
                    while (line := stream.readline()) != b"\r\n":
                        head += line
                    body = stream.read(int(re.search(rb"Content-Length: (\d+)", head)[1]))
                    with self._lock:
                        self.seen.append(body)
                        n = len(self.seen) - 1
                    if not self._answer(made, n, body):
                        return
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in self._threads)


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


def ok(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-LENGTH:{len(body)} \r\n{more}\r\n".encode() + body


def echo(made: socket.socket, n: int, body: bytes) -> bool:
    made.sendall(ok(b"<" + body + b">"))
    return True


def posts(n: int, size: int = 0) -> Requests:
    bodies = [b"%d" % k + b"." * size for k in range(n)]
    return Requests.pack([b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(one) + one for one in bodies])


def loops(target: Target, requests: Requests, count: int, keep: int = 0) -> Iterator[Load]:
    yield closed_loop(target, requests, count, keep=keep)
    yield open_loop(target, requests, evenly(2_000, count), keep=keep)


def test_requests_go_out_in_order_and_start_again():
    with serving(echo) as server:
        for load in loops(Target("127.0.0.1", server.port, connections=1), posts(7), 20, keep=20):
            assert server.seen == [b"%d" % (k % 7) for k in range(20)]
            assert load.bodies == {k: b"<%d>" % (k % 7) for k in range(20)}
            server.seen.clear()


def test_many_connections_answer_everything_once():
    with serving(echo) as server:
        for load in loops(Target("127.0.0.1", server.port, connections=16), posts(500), 500, keep=50):
            assert sorted(server.seen, key=int) == [b"%d" % k for k in range(500)]
            assert (load.statuses == 200).all()
            assert (load.latencies_ns > 0).all()
            assert load.latencies_ns.max() / 1e9 < load.seconds
            assert load.bodies == {k: b"<%d>" % k for k in range(0, 500, 10)}
            figures = load.figures()
            assert (figures["requests"], figures["refused"], figures["errors"]) == (500, 0, 0)
            assert (
                figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"] == round(load.latencies_ns.max() / 1e6, 3)
            )
            server.seen.clear()
        assert server.accepted == 32


def test_an_answer_may_arrive_in_any_pieces():
    chance = random.Random(3)

    def pieces(made: socket.socket, n: int, body: bytes) -> bool:
        whole = ok(body * 5, more="X-Content-Length: 999\r\nConnection: keep-alive\r\n")
        cuts = [0, *sorted(chance.sample(range(1, len(whole)), 4)), len(whole)]
        for begin, end in pairwise(cuts):
            made.sendall(whole[begin:end])
            time.sleep(0.0003)
        return True

    with serving(pieces) as server:
        load = closed_loop(Target("127.0.0.1", server.port, connections=4), posts(200), 200, keep=200)
    assert load.bodies == {k: b"%d" % k * 5 for k in range(200)}


def test_long_requests_and_long_answers():
    with serving(echo) as server:
        load = closed_loop(Target("127.0.0.1", server.port, connections=2), posts(8, size=900_000), 8, keep=8)
        assert [len(body) for body in load.bodies.values()] == [900_003] * 8
        too_long = closed_loop(Target("127.0.0.1", server.port, connections=2), posts(4, size=ANSWER_BYTES), 4)
        assert too_long.errors == 4


def test_a_request_that_does_not_fit_into_the_socket_is_sent_in_parts():
    with serving(echo) as server:
        requests = posts(2, size=12_000_000)
        assert closed_loop(Target("127.0.0.1", server.port, connections=2), requests, 2).errors == 2
        assert server.seen == [b"%c" % body[0] + b"." * 12_000_000 for body in server.seen]


def test_refusals_are_counted_apart():
    def busy(made: socket.socket, n: int, body: bytes) -> bool:
        made.sendall(ok(b"", "503 Service Unavailable") if n % 4 == 0 else b"HTTP/1.1 204 No Content\r\n\r\n")
        return True

    with serving(busy) as server:
        load = closed_loop(Target("127.0.0.1", server.port, connections=1), posts(3), 40)
    figures = load.figures()
    assert (figures["requests"], figures["refused"], figures["errors"]) == (40, 10, 0)
    assert load.per_second == pytest.approx(30 / load.seconds)
    assert np.flatnonzero(load.statuses == 503).tolist() == list(range(0, 40, 4))


WRONG = {
    "closes without an answer": b"",
    "closes in the middle": ok(b"abcdef")[:-3],
    "closes in the head": b"HTTP/1.1 20",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
    "no number at all": b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
    "more than the length": ok(b"abc") + b"d",
    "only a newline": b"\n",
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * ANSWER_BYTES,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_an_error_and_the_load_goes_on(wrong):
    def sometimes(made: socket.socket, n: int, body: bytes) -> bool:
        if n % 5 != 2:
            return echo(made, n, body)
        made.sendall(wrong)
        return False

    with serving(sometimes) as server:
        for load in loops(Target("127.0.0.1", server.port, connections=1), posts(1), 20, keep=20):
            assert np.flatnonzero(load.statuses == 0).tolist() == [2, 7, 12, 17]
            assert load.errors == load.figures()["errors"] == 4
            assert sorted(load.bodies) == np.flatnonzero(load.statuses).tolist()


@pytest.mark.parametrize("more", ["CONNECTION: Close\r\n", "connection:close\r\n"])
def test_a_server_that_says_it_closes_is_no_error(more):
    def last(made: socket.socket, n: int, body: bytes) -> bool:
        made.sendall(ok(body, more=more))
        return False

    with serving(last) as server:
        load = closed_loop(Target("127.0.0.1", server.port, connections=2), posts(9), 30)
        in_time = closed_loop(Target("127.0.0.1", server.port, connections=64), posts(9), 10**6, seconds=0.3)
    assert (load.statuses == 200).all()
    assert server.accepted >= 30
    assert in_time.seconds < 5


def test_a_connection_that_is_closed_while_free_is_replaced():
    def once(made: socket.socket, n: int, body: bytes) -> bool:
        """The end comes in one segment with the answer: what is sent before it is read is an error."""
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        echo(made, n, body)
        made.shutdown(socket.SHUT_WR)
        return False

    with serving(once) as server:  # slowly: whoever is late on a busy machine sends the next one at once
        load = open_loop(Target("127.0.0.1", server.port, connections=2), posts(9), evenly(20, 12))
    assert load.errors == 0
    assert server.accepted >= 12


def test_latency_counts_from_the_due_time_while_the_server_is_frozen():
    """Ten in the freeze wait on connections, the others in line: all of them have to show it."""
    frozen_until = [0.0]

    def freezes(made: socket.socket, n: int, body: bytes) -> bool:
        if n == 300:
            frozen_until[0] = time.monotonic() + 0.2
        time.sleep(max(0.0, frozen_until[0] - time.monotonic()))
        return echo(made, n, body)

    with serving(freezes) as server:
        load = open_loop(Target("127.0.0.1", server.port, connections=10), posts(1), evenly(1_000, 1_000))
    waited_ms = load.latencies_ns / 1e6
    assert 190 < load.figures()["p99_ms"] < 1_000
    assert np.count_nonzero(waited_ms > 100) > 80  # and not just the ten that were sent
    assert np.median(waited_ms) < 100


def test_requests_leave_when_they_are_due():
    with serving(echo) as server:
        due_ns = at_random(400, 200, seed=5)
        begun = time.perf_counter()
        load = open_loop(Target("127.0.0.1", server.port, connections=8), posts(5), due_ns)
        took_s = time.perf_counter() - begun
    assert due_ns[-1] / 1e9 < load.seconds < took_s
    assert load.seconds < due_ns[-1] / 1e9 + 0.5
    assert 0 <= load.late_sends <= 1
    assert 0 < load.busy < 1


def test_due_times():
    assert evenly(1_000, 3).tolist() == [0, 1_000_000, 2_000_000]
    random_ns = at_random(1_000, 20_000, seed=1)
    assert (random_ns == at_random(1_000, 20_000, seed=1)).all()
    assert (np.diff(random_ns) >= 0).all()
    assert np.diff(random_ns).mean() == pytest.approx(1e6, rel=0.05)
    assert np.diff(random_ns).std() == pytest.approx(1e6, rel=0.05)


@pytest.mark.parametrize("partly", [b"", ok(b"abc")[:-1]])
def test_a_server_that_hangs_is_named(partly):
    def hangs(made: socket.socket, n: int, body: bytes) -> bool:
        if n < 3:
            return echo(made, n, body)
        made.sendall(partly)
        return True

    with (
        serving(hangs) as server,
        pytest.raises(SentinelError, match=r"stalled: not a byte in 0.3 s while 2 req.*; 3 "),
    ):
        closed_loop(Target("127.0.0.1", server.port, connections=2, stall_s=0.3), posts(1), 10)


def test_a_pause_between_due_times_is_no_stall():
    with serving(echo) as server:
        due_ns = np.array([0, 900_000_000])
        assert open_loop(Target("127.0.0.1", server.port, stall_s=0.2), posts(1), due_ns).errors == 0


def test_a_closed_loop_ends_when_its_time_is_up_and_tells_how_far_it_is():
    told: list[tuple[int, int]] = []
    with serving(echo) as server:
        target = Target("127.0.0.1", server.port, connections=2)
        load = closed_loop(target, posts(1), 30_000, seconds=0.3, keep=30_000, told=lambda *one: told.append(one))
    assert 0.3 <= load.seconds < 2
    assert len(load.statuses) == len(load.latencies_ns) == len(load.bodies) == len(server.seen) < 30_000
    assert told[0][1] == 30_000
    assert told == sorted(told)


def test_what_the_callback_raises_ends_the_load():
    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with serving(echo) as server, pytest.raises(KeyboardInterrupt):
        closed_loop(Target("127.0.0.1", server.port), posts(1), 10**6, told=interrupt)


def test_no_server_and_no_load_are_refused():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SentinelError, match=f"No connection to 127.0.0.1:{port}"):
        closed_loop(Target("127.0.0.1", port), posts(1), 1)
    for requests, count in ((posts(1), 0), (Requests.pack([]), 1)):
        with pytest.raises(SentinelError, match="at least one"):
            closed_loop(Target("127.0.0.1", port), requests, count)
    with pytest.raises(SentinelError, match="in order"):
        open_loop(Target("127.0.0.1", port), posts(1), np.array([5, 3]))


def test_nothing_accepted_has_no_latency():
    load = Load(np.array([5, 6]), np.array([503, 0], np.int16), 1.0, 0.5, 0.0, {})
    figures = load.figures()
    assert np.isnan(figures["p50_ms"])
    assert (figures["refused"], figures["errors"], figures["per_second"]) == (1, 1, 0)
