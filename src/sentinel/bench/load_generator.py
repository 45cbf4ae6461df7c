r"""HTTP load from one compiled loop, quick enough that the server is what is measured. Linux only.

The loop calls `send`, `recv` and `epoll_wait` itself and comes back to Python five times a second, for Ctrl-C, for the
progress callback and to replace lost connections. It spins while answers are near, so give it a core of its own.

    requests = Requests.pack([b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    fastest = closed_loop(Target("127.0.0.1", 8000), requests, count=100_000)
    steady = open_loop(Target("127.0.0.1", 8000), requests, evenly(rate=5_000, count=50_000))

An answer must name its `Content-Length` (204 and 304 need none); chunked answers are errors. A connection that the
server closes is replaced: that is an error only if a request was waiting on it.
"""

import select
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sentinel.bench.load_loop import (
    ALL_DONE,
    ALL_ROWS,
    ANSWER_BYTES,
    EVENT,
    EVENTS,
    LINK,
    LINKS_LOST,
    NEEDS_ROOM,
    OPEN_FILES,
    SPARE,
    STATE,
    Run,
    advance,
    clock_ns,
)
from sentinel.errors import SentinelError

Told = Callable[[int, int], None]
"""Told how many of how many requests have their answer."""

_USUAL_BYTES = 8192
"""Of a body that is kept. Room for more is made during the run, which sends nothing for some 20 ms then."""


class Target(NamedTuple):
    """The server, how many connections to hold open, and how many silent seconds mean that it hangs."""

    host: str
    port: int
    connections: int = 64
    stall_s: float = 10.0


class Requests(NamedTuple):
    """Whole HTTP/1.1 requests, head and body: request i is `data[starts[i]:starts[i + 1]]`; uint8, int64 (n + 1,)."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]

    @classmethod
    def pack(cls, requests: Sequence[bytes]) -> Self:
        """Copy the requests into one array; they are sent in this order, again from the first when they run out."""
        starts = np.zeros(len(requests) + 1, np.int64)
        np.cumsum([len(one) for one in requests], out=starts[1:])
        return cls(np.frombuffer(bytearray().join(requests), np.uint8), starts)


class Load(NamedTuple):
    """What came back; arrays are (n,), one value for each request in the order of sending.

    `latencies_ns` counts from the send in the closed loop and from the due time in the open one. `statuses` is 0 where
    there was no whole answer. `busy` is the share of `seconds` in which the generator had work: near 1 it, not the
    server, may be the limit. `late_sends` is the share of requests sent over `LATE_NS` after they were due although a
    connection was free (0 in the closed loop). `bodies` maps the index of a request to its answer's body.
    """

    latencies_ns: NDArray[np.int64]
    statuses: NDArray[np.int16]
    seconds: float
    busy: float
    late_sends: float
    bodies: dict[int, bytes]

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Which requests were answered with a 2xx status (n,)."""
        return (self.statuses >= 200) & (self.statuses < 300)

    @property
    def errors(self) -> int:
        """How many requests have no whole answer: the connection was lost, or the answer was not understood."""
        return int(np.count_nonzero(self.statuses == 0))

    @property
    def per_second(self) -> float:
        """Accepted requests a second."""
        return float(np.count_nonzero(self.accepted)) / self.seconds

    def figures(self) -> dict[str, float]:
        """The load as a few numbers; rate and latencies (NaN if there are none) are those of accepted requests."""
        accepted = self.accepted
        taken = self.latencies_ns[accepted] if accepted.any() else np.array([np.nan])
        names = ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms")
        taken_ms = np.percentile(taken, [50, 90, 99, 99.9, 100]) / 1e6
        return {
            "requests": len(self.statuses),
            "per_second": round(self.per_second),
            **{name: round(float(one), 3) for name, one in zip(names, taken_ms, strict=True)},
            "refused": len(accepted) - int(np.count_nonzero(accepted)) - self.errors,
            "errors": self.errors,
            "busy": round(self.busy, 3),
            "late_sends": round(self.late_sends, 5),
        }


def evenly(rate: float, count: int) -> NDArray[np.int64]:
    """Due times of `count` requests at equal distances, `rate` a second: ns after the start, (count,)."""
    return (np.arange(count) * (1e9 / rate)).astype(np.int64)


def at_random(rate: float, count: int, seed: int) -> NDArray[np.int64]:
    """Due times of `count` requests that arrive independently (Poisson), `rate` a second: ns, (count,)."""
    return np.random.default_rng(seed).exponential(1e9 / rate, count).cumsum().astype(np.int64)


def closed_loop(
    target: Target, requests: Requests, count: int, *, seconds: float = np.inf, keep: int = 0, told: Told | None = None
) -> Load:
    """Every connection sends its next request as soon as its answer is whole.

    Ends after `count` requests, or about `seconds` if that is sooner. Bodies are kept of up to `keep` requests, spread
    evenly over `count`. Raises SentinelError if the server cannot be reached or stalls.
    """
    return _drive(_prepare(target, requests, np.empty(0, np.int64), count, keep), target, seconds, told)


def open_loop(
    target: Target, requests: Requests, due_ns: NDArray[np.int64], *, keep: int = 0, told: Told | None = None
) -> Load:
    """Request i is due `due_ns[i]` after the start, whatever the answers do (see `evenly`, `at_random`).

    While all connections are busy requests wait in line, and their wait counts. Bodies are kept of up to `keep`
    requests, spread evenly. Raises SentinelError if the server cannot be reached or stalls.
    """
    if len(due_ns) and (due_ns[0] < 0 or (np.diff(due_ns) < 0).any()):
        raise SentinelError("The due times of requests must be in order and not before the start.")
    return _drive(_prepare(target, requests, due_ns, len(due_ns), keep), target, np.inf, told)


def _prepare(target: Target, requests: Requests, due_ns: NDArray[np.int64], count: int, keep: int) -> Run:
    if sys.platform != "linux":
        raise SentinelError("The load generator needs Linux (epoll).")
    if count < 1 or target.connections < 1 or len(requests.starts) < 2:
        raise SentinelError("A load needs at least one request and one connection.")
    links, state = np.zeros(target.connections, LINK), np.zeros(1, STATE)
    links["asked"] = -1
    every = -(-count // keep) if keep else 0
    state["count"], state["every"], state["free"] = count, every, target.connections
    return Run(
        data=np.require(requests.data, np.uint8, ["C", "W"]),
        starts=np.require(requests.starts, np.int64, ["C", "W"]),
        due_ns=np.require(due_ns, np.int64, ["C", "W"]),
        latencies_ns=np.zeros(count, np.int64),
        statuses=np.zeros(count, np.int16),
        links=links,
        free=np.arange(target.connections),
        answers=np.full((target.connections, min(ANSWER_BYTES, ALL_ROWS // target.connections) + SPARE), 0, np.uint8),
        owners=np.zeros(OPEN_FILES, np.int32),
        events=np.zeros(EVENTS * EVENT, np.int32),
        kept=np.full(max(4 * ANSWER_BYTES, _USUAL_BYTES * keep) if keep else 0, 0, np.uint8),
        spans=np.zeros((-(-count // every) if keep else 0, 2), np.int64),
        clock=np.zeros(2, np.int64),
        state=state,
    )


def _drive(run: Run, target: Target, seconds: float, told: Told | None) -> Load:
    state, sockets = run.state[0], {}
    with select.epoll() as epoll:
        state["epoll"] = epoll.fileno()
        try:
            for which in range(target.connections):
                sockets[which] = _connect(run, which, target, epoll)
            while (why := advance(run)) != ALL_DONE:
                if why == LINKS_LOST:
                    for which in np.flatnonzero(run.links["lost"]).tolist():
                        sockets.pop(which).close()
                        sockets[which] = _connect(run, which, target, epoll)
                elif why == NEEDS_ROOM:
                    run = run._replace(kept=np.concatenate([run.kept, np.empty_like(run.kept)]))
                _look_in(run, target, seconds, told)  # whatever it was: a server may close each connection
        finally:
            for one in sockets.values():
                one.close()
    count, statuses = int(state["count"]), run.statuses[: state["count"]]
    took_s = int(state["ended_ns"] - state["begun_ns"]) / 1e9
    asked = range(0, count, int(state["every"])) if state["every"] else range(0)
    bodies = {k: run.kept[slice(*run.spans[row])].tobytes() for row, k in enumerate(asked) if statuses[k]}
    busy, late = 1 - int(state["quiet_ns"]) / 1e9 / took_s, int(state["late"]) / count
    return Load(run.latencies_ns[:count], statuses, took_s, busy, late, bodies)


def _connect(run: Run, which: int, target: Target, epoll: "select.epoll") -> socket.socket:
    """A new socket, which the loop uses from now on as connection `which`."""
    try:
        made = socket.create_connection((target.host, target.port), timeout=target.stall_s)
    except OSError as fault:
        raise SentinelError(
            f"No connection to {target.host}:{target.port} ({fault}). Is the server running?"
        ) from fault
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if made.fileno() >= OPEN_FILES:
        made.close()
        raise SentinelError(f"The load generator cannot use file descriptors from {OPEN_FILES} on; open fewer files.")
    epoll.register(made, select.EPOLLIN)
    run.owners[made.fileno()] = which
    run.links[which]["socket"] = made.fileno()
    run.state["lost"] -= run.links[which]["lost"]
    run.links[which]["lost"] = 0
    return made


def _look_in(run: Run, target: Target, seconds: float, told: Told | None) -> None:
    """What Python does between two slices: tell, end a run whose time is up, notice a stall."""
    state, now = run.state[0], clock_ns(run)
    if now - state["begun_ns"] >= seconds * 1e9:
        state["count"] = state["next"]
    if told is not None:
        told(int(state["done"]), int(state["count"]))
    waiting = int(state["next"] - state["done"])
    if waiting and now - state["progress_ns"] > target.stall_s * 1e9:
        raise SentinelError(
            f"{target.host}:{target.port} stalled: not a byte in {target.stall_s:g} s "
            f"while {waiting} requests wait for an answer; {state['done']} were answered before."
        )
