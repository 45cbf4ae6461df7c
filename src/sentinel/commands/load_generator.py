r"""HTTP load from one compiled loop, quick enough that the server is what is measured. Linux only.

The loop calls `send`, `recv` and `epoll_wait` itself and comes back to Python five times a second, for Ctrl-C, for the
progress callback and to replace lost connections. It spins while answers are near, so give it a core of its own.

    requests = Requests.pack([b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    fastest = closed_loop(Target("127.0.0.1", 8000), requests, count=100_000)
    steady = open_loop(Target("127.0.0.1", 8000), requests, evenly(rate=5_000, count=50_000))

An answer must name its `Content-Length` (204 and 304 need none); chunked answers are errors. A connection that the
server closes is replaced: that is an error only if a request was waiting on it.
"""

import platform
import select
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numba import carray, njit, types
from numpy.typing import NDArray

from sentinel.errors import SentinelError

ANSWER_BYTES = 1 << 20
"""The longest answer, head included; a longer one is an error."""
LATE_NS = 200_000
"""A send is late when it happens this long after it was due although a connection was free."""

_SLICE_NS = 200_000_000
_SPIN_NS = 50_000  # how long the loop polls before it sleeps: waking us costs the server more than our spinning does
_OPEN_FILES = 65_536
_EVENTS = 256
_EVENT, _WHOSE = (3, 1) if platform.machine() == "x86_64" else (4, 2)  # epoll_event in int32: its size, where data is
_ROW = ANSWER_BYTES + 320  # not a power of two: the first bytes of all rows would share one cache set

_MONOTONIC, _EINTR, _EAGAIN, _NO_WAIT, _NO_SIGNAL = 1, 4, 11, 0x40, 0x4000
_NEWLINE, _RETURN, _SPACE, _ZERO = 10, 13, 32, 48
_PROTOCOL, _LENGTH = np.frombuffer(b"http/1.", np.uint8), np.frombuffer(b"content-length:", np.uint8)
_CONNECTION, _CLOSE = np.frombuffer(b"connection:", np.uint8), np.frombuffer(b"close", np.uint8)

_I32, _ADDRESS, _SIZE = types.int32, types.uintp, types.intp
_clock_gettime = types.ExternalFunction("clock_gettime", _I32(_I32, _ADDRESS))
_send = types.ExternalFunction("send", _SIZE(_I32, _ADDRESS, _SIZE, _I32))
_recv = types.ExternalFunction("recv", _SIZE(_I32, _ADDRESS, _SIZE, _I32))
_epoll_wait = types.ExternalFunction("epoll_wait", _I32(_I32, _ADDRESS, _I32, _I32))
_errno = types.ExternalFunction("__errno_location", types.CPointer(_I32)())

F = TypeVar("F", bound=Callable[..., Any])
Told = Callable[[int, int], None]
"""Told how many of how many requests have their answer."""


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


# A connection: its socket; the request it asked (-1: none) and the bytes written of it; the bytes of the answer so far;
# where the latency begins (without a request: since when it is free); a part did not fit; it is to be replaced.
_LINK_FIELDS = ("socket", "asked", "written", "filled", "since_ns", "unsent", "lost")
_LINK = np.dtype([(name, "i8") for name in _LINK_FIELDS])
_STATE = np.dtype(
    [(name, "i8") for name in ("epoll", "count", "every", "begun_ns", "ended_ns", "progress_ns", "quiet_ns")]
    + [(name, "i8") for name in ("next", "done", "late", "used", "unsent", "lost", "free", "first_free")]
)
_ALL_DONE, _SLICE_OVER, _LINKS_LOST, _NEEDS_ROOM = range(4)  # why the loop comes back to Python


class _Run(NamedTuple):
    """All that the compiled loop reads and writes: n requests to send over c connections."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    due_ns: NDArray[np.int64]  # (n,); empty in the closed loop
    latencies_ns: NDArray[np.int64]  # (n,)
    statuses: NDArray[np.int16]  # (n,)
    links: NDArray[np.void]  # (c,) of _LINK
    free: NDArray[np.int64]  # (c,) ring of the free connections, the longest free first
    answers: NDArray[np.uint8]  # (c, _ROW)
    owners: NDArray[np.int32]  # the connection of each file descriptor
    events: NDArray[np.int32]
    kept: NDArray[np.uint8]
    spans: NDArray[np.int64]  # (kept requests, 2) where in `kept` a body begins and ends
    clock: NDArray[np.int64]
    state: NDArray[np.void]  # (1,) of _STATE


def _prepare(target: Target, requests: Requests, due_ns: NDArray[np.int64], count: int, keep: int) -> _Run:
    if sys.platform != "linux":
        raise SentinelError("The load generator needs Linux (epoll).")
    if count < 1 or target.connections < 1 or len(requests.starts) < 2:
        raise SentinelError("A load needs at least one request and one connection.")
    links, state = np.zeros(target.connections, _LINK), np.zeros(1, _STATE)
    links["asked"] = -1
    every = -(-count // keep) if keep else 0
    state["count"], state["every"], state["free"] = count, every, target.connections
    return _Run(
        data=np.require(requests.data, np.uint8, ["C", "W"]),
        starts=np.require(requests.starts, np.int64, ["C", "W"]),
        due_ns=np.require(due_ns, np.int64, ["C", "W"]),
        latencies_ns=np.zeros(count, np.int64),
        statuses=np.zeros(count, np.int16),
        links=links,
        free=np.arange(target.connections),
        answers=np.empty((target.connections, _ROW), np.uint8),
        owners=np.zeros(_OPEN_FILES, np.int32),
        events=np.zeros(_EVENTS * _EVENT, np.int32),
        kept=np.empty(4 * ANSWER_BYTES if keep else 0, np.uint8),
        spans=np.zeros((-(-count // every) if keep else 0, 2), np.int64),
        clock=np.zeros(2, np.int64),
        state=state,
    )


def _drive(run: _Run, target: Target, seconds: float, told: Told | None) -> Load:
    state, sockets = run.state[0], {}
    with select.epoll() as epoll:
        state["epoll"] = epoll.fileno()
        try:
            for which in range(target.connections):
                sockets[which] = _connect(run, which, target, epoll)
            while (why := _advance(run)) != _ALL_DONE:
                if why == _LINKS_LOST:
                    for which in np.flatnonzero(run.links["lost"]).tolist():
                        sockets.pop(which).close()
                        sockets[which] = _connect(run, which, target, epoll)
                elif why == _NEEDS_ROOM:
                    run = run._replace(kept=np.concatenate([run.kept, np.empty_like(run.kept)]))
                else:
                    _look_in(run, target, seconds, told)
        finally:
            for one in sockets.values():
                one.close()
    count, statuses = int(state["count"]), run.statuses[: state["count"]]
    took_s = int(state["ended_ns"] - state["begun_ns"]) / 1e9
    asked = range(0, count, int(state["every"])) if state["every"] else range(0)
    bodies = {k: run.kept[slice(*run.spans[row])].tobytes() for row, k in enumerate(asked) if statuses[k]}
    busy, late = 1 - int(state["quiet_ns"]) / 1e9 / took_s, int(state["late"]) / count
    return Load(run.latencies_ns[:count], statuses, took_s, busy, late, bodies)


def _connect(run: _Run, which: int, target: Target, epoll: "select.epoll") -> socket.socket:
    """A new socket, which the loop uses from now on as connection `which`."""
    try:
        made = socket.create_connection((target.host, target.port), timeout=target.stall_s)
    except OSError as fault:
        raise SentinelError(
            f"No connection to {target.host}:{target.port} ({fault}). Is the server running?"
        ) from fault
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if made.fileno() >= _OPEN_FILES:
        made.close()
        raise SentinelError(f"The load generator cannot use file descriptors from {_OPEN_FILES} on; open fewer files.")
    epoll.register(made, select.EPOLLIN)
    run.owners[made.fileno()] = which
    run.links[which]["socket"] = made.fileno()
    run.state["lost"] -= run.links[which]["lost"]
    run.links[which]["lost"] = 0
    return made


def _look_in(run: _Run, target: Target, seconds: float, told: Told | None) -> None:
    """What Python does between two slices: tell, end a run whose time is up, notice a stall."""
    state, now = run.state[0], _now(run)
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


def _compiled(function: F) -> F:
    compiled: F = njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


@_compiled
def _now(run: _Run) -> int:
    """Nanoseconds of the monotonic clock."""
    _clock_gettime(_MONOTONIC, run.clock.ctypes.data)
    return int(run.clock[0] * 1_000_000_000 + run.clock[1])


@_compiled
def _try_again() -> bool:
    """Whether the last call failed only for now."""
    return bool(carray(_errno(), 1)[0] in (_EAGAIN, _EINTR))


@_compiled
def _advance(run: _Run) -> int:
    """Send and receive until something needs Python; returns what."""
    state, now = run.state[0], _now(run)
    if state["begun_ns"] == 0:
        state["begun_ns"] = now
    slice_end, last_event = now + _SLICE_NS, now
    while True:
        now = _send_due(run, now)
        for which in range(len(run.links) if state["unsent"] > 0 else 0):
            if run.links[which]["unsent"] > 0:
                _write(run, which, now)
        if state["done"] == state["count"]:
            return _ALL_DONE
        if state["lost"] > 0:
            return _LINKS_LOST
        if now >= slice_end:
            return _SLICE_OVER
        wait_ms = 0
        if now - last_event > _SPIN_NS and state["unsent"] == 0:
            wake = slice_end
            if len(run.due_ns) > 0 and state["free"] > 0 and state["next"] < state["count"]:
                wake = min(wake, state["begun_ns"] + run.due_ns[state["next"]])
            wait_ms = max(0, (wake - now) // 1_000_000 - 1)
        found = _epoll_wait(state["epoll"], run.events.ctypes.data, _EVENTS, wait_ms)
        asked_at, now = now, _now(run)
        if found <= 0 or wait_ms > 0:
            state["quiet_ns"] += now - asked_at
        if found < 0:  # interrupted by a signal, which is Python's to handle
            return _SLICE_OVER
        for k in range(found):
            if state["every"] > 0 and len(run.kept) - state["used"] < ANSWER_BYTES:
                return _NEEDS_ROOM
            now = _receive(run, run.owners[run.events[k * _EVENT + _WHOSE]])
            last_event = now = _send_due(run, now)


@_compiled
def _send_due(run: _Run, now: int) -> int:
    """Send what is due, as far as connections are free; returns the time after."""
    state = run.state[0]
    while state["free"] > 0 and state["next"] < state["count"] and state["lost"] == 0:
        which = run.free[state["first_free"]]
        link, since = run.links[which], now
        if len(run.due_ns) > 0:
            since = state["begun_ns"] + run.due_ns[state["next"]]
            if since > now:
                return now
            state["late"] += now - max(since, link["since_ns"]) > LATE_NS
        if state["next"] == state["done"]:
            state["progress_ns"] = now  # nothing was under way: silence counts from here
        link["asked"], link["written"], link["since_ns"] = state["next"], 0, since
        state["next"] += 1
        state["free"] -= 1
        state["first_free"] = (state["first_free"] + 1) % len(run.free)
        _write(run, which, now)
        now = _now(run)
    return now


@_compiled
def _write(run: _Run, which: int, now: int) -> None:
    """Send the rest of a request, or as much of it as the socket takes."""
    link = run.links[which]
    request = link["asked"] % (len(run.starts) - 1)
    begin = run.starts[request] + link["written"]
    left = run.starts[request + 1] - begin
    sent = _send(link["socket"], run.data.ctypes.data + begin, left, _NO_WAIT | _NO_SIGNAL)
    if sent < 0 and not _try_again():
        _lose(run, which, now)
        return
    link["written"] += max(0, sent)
    run.state[0]["unsent"] += int(sent < left) - link["unsent"]
    link["unsent"] = int(sent < left)


@_compiled
def _receive(run: _Run, which: int) -> int:
    """Take what has arrived; an answer that is whole sets the connection free. Returns the time after."""
    link, answer, state = run.links[which], run.answers[which], run.state[0]
    filled = link["filled"]
    got = _recv(link["socket"], answer.ctypes.data + filled, ANSWER_BYTES - filled, _NO_WAIT)
    waits = got < 0 and _try_again()
    now = _now(run)
    if waits:
        return now
    if got <= 0 or link["asked"] < 0:
        _lose(run, which, now)
        return now
    state["progress_ns"] = now
    filled = link["filled"] = filled + got
    status, begin, end, closes = _read(answer, filled)
    if status < 0 or end > ANSWER_BYTES or (0 < end < filled):
        _lose(run, which, now)
    elif end > 0 and filled == end:
        if state["every"] > 0 and link["asked"] % state["every"] == 0:
            _keep(run, link["asked"] // state["every"], answer[begin:end])
        _finish(run, which, status, now)
        if closes or link["unsent"] > 0:
            _lose(run, which, now)
    return now


@_compiled
def _read(answer: NDArray[np.uint8], filled: int) -> tuple[int, int, int, bool]:
    """Status (-1: not understood), where the body begins and ends (0: not known yet), whether the server closes."""
    line, length, status, closes = 0, -1, -1, False
    for k in range(filled):
        if answer[k] != _NEWLINE:
            continue
        if line == 0:
            status = _digits(answer, 9, 12) if k >= 12 and _begins(answer, 0, _PROTOCOL) else -1
            if status < 200:
                return -1, 0, 0, True
            closes = answer[len(_PROTOCOL)] == _ZERO  # HTTP/1.0 closes unless asked not to
        elif k == line or (k == line + 1 and answer[line] == _RETURN):
            length = 0 if status in (204, 304) else length
            return (status if length >= 0 else -1), k + 1, k + 1 + length, closes
        elif _begins(answer, line, _LENGTH):
            length = _digits(answer, line + len(_LENGTH), k)
        elif _begins(answer, line, _CONNECTION):
            begin = line + len(_CONNECTION)
            closes = _begins(answer, begin + (answer[begin] == _SPACE), _CLOSE)
        line = k + 1
    return (0 if filled < ANSWER_BYTES else -1), 0, 0, False


@_compiled
def _begins(answer: NDArray[np.uint8], begin: int, word: NDArray[np.uint8]) -> bool:
    """Whether these bytes, in either case, are the word."""
    same = 0
    while same < len(word) and answer[begin + same] | 32 == word[same]:
        same += 1
    return same == len(word)


@_compiled
def _digits(answer: NDArray[np.uint8], begin: int, end: int) -> int:
    """The number in these bytes, blanks apart; -1 if there is none or it is above `ANSWER_BYTES`."""
    number, found = 0, False
    for k in range(begin, end):
        digit = int(answer[k]) - _ZERO
        if 0 <= digit <= 9 and number <= ANSWER_BYTES:
            number, found = number * 10 + digit, True
        elif answer[k] > _SPACE:
            return -1
    return number if found and number <= ANSWER_BYTES else -1


@_compiled
def _keep(run: _Run, row: int, body: NDArray[np.uint8]) -> None:
    """Copy the body of an answer; there is room, see `_NEEDS_ROOM`."""
    begin = run.state[0]["used"]
    for k in range(len(body)):
        run.kept[begin + k] = body[k]
    run.spans[row, 0], run.spans[row, 1] = begin, begin + len(body)
    run.state[0]["used"] += len(body)


@_compiled
def _finish(run: _Run, which: int, status: int, now: int) -> None:
    """Note the answer and set the connection free."""
    link, state = run.links[which], run.state[0]
    run.latencies_ns[link["asked"]] = now - link["since_ns"]
    run.statuses[link["asked"]] = status
    link["asked"], link["filled"], link["since_ns"] = -1, 0, now
    run.free[(state["first_free"] + state["free"]) % len(run.free)] = which
    state["free"] += 1
    state["done"] += 1
    state["ended_ns"] = now


@_compiled
def _lose(run: _Run, which: int, now: int) -> None:
    """Give the connection up; the request that waits on it, if there is one, is an error."""
    link, state = run.links[which], run.state[0]
    if link["asked"] >= 0:
        _finish(run, which, 0, now)
    state["unsent"] -= link["unsent"]
    state["lost"] += 1 - link["lost"]
    link["unsent"], link["lost"] = 0, 1
