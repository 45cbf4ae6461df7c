"""The compiled half of the load generator: it sends and receives, and comes back to Python for everything else."""

import platform
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import carray, njit, types
from numpy.typing import NDArray

ANSWER_BYTES = 1 << 20
"""The longest answer, head included; a longer one is an error. With more than 256 connections it is less."""
LATE_NS = 200_000
"""A send is late when it happens this long after it was due although a connection was free."""

_SLICE_NS = 200_000_000
_SPIN_NS = 50_000  # how long the loop polls before it sleeps: waking us costs the server more than our spinning does
OPEN_FILES = 65_536
EVENTS = 256
EVENT, _WHOSE = (3, 1) if platform.machine() == "x86_64" else (4, 2)  # epoll_event in int32: its size, where data is
SPARE = 320  # beside a row's power of two, or the first bytes of all rows would share one cache set
ALL_ROWS = 1 << 28

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

_LINK_FIELDS = ("socket", "asked", "written", "filled", "since_ns", "unsent", "lost")
LINK = np.dtype([(name, "i8") for name in _LINK_FIELDS])
"""A connection: its socket, the request that waits for its answer (-1: none), bytes of it that are sent, bytes of the
answer that are here, since when (of a free one: when it became free), whether a part is unsent, whether it is lost."""

STATE = np.dtype(
    [(name, "i8") for name in ("epoll", "count", "every", "begun_ns", "ended_ns", "progress_ns", "quiet_ns")]
    + [(name, "i8") for name in ("next", "done", "late", "used", "unsent", "lost", "free", "first_free")]
)
ALL_DONE, SLICE_OVER, LINKS_LOST, NEEDS_ROOM = range(4)  # why the loop comes back to Python


class Run(NamedTuple):
    """All that the compiled loop reads and writes: n requests to send over c connections."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    due_ns: NDArray[np.int64]  # (n,); empty in the closed loop
    latencies_ns: NDArray[np.int64]  # (n,)
    statuses: NDArray[np.int16]  # (n,)
    links: NDArray[np.void]  # (c,) of LINK
    free: NDArray[np.int64]  # (c,) ring of the free connections, the longest free first
    answers: NDArray[np.uint8]  # (c, room for the longest answer, and SPARE)
    owners: NDArray[np.int32]  # the connection of each file descriptor
    events: NDArray[np.int32]
    kept: NDArray[np.uint8]
    spans: NDArray[np.int64]  # (kept requests, 2) where in `kept` a body begins and ends
    clock: NDArray[np.int64]
    state: NDArray[np.void]  # (1,) of STATE


def _compiled(function: F) -> F:
    compiled: F = njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


@_compiled
def clock_ns(run: Run) -> int:
    """Nanoseconds of the monotonic clock."""
    _clock_gettime(_MONOTONIC, run.clock.ctypes.data)
    return int(run.clock[0] * 1_000_000_000 + run.clock[1])


@_compiled
def _try_again() -> bool:
    """Whether the last call failed only for now."""
    return bool(carray(_errno(), 1)[0] in (_EAGAIN, _EINTR))


@_compiled
def advance(run: Run) -> int:
    """Send and receive until something needs Python; returns what."""
    state, now = run.state[0], clock_ns(run)
    if state["begun_ns"] == 0:
        state["begun_ns"] = now
    slice_end, last_event = now + _SLICE_NS, now
    while True:
        now = _send_due(run, now)
        for which in range(len(run.links) if state["unsent"] > 0 else 0):
            if run.links[which]["unsent"] > 0:
                _write(run, which, now)
        if state["done"] == state["count"]:
            return ALL_DONE
        if state["lost"] > 0:
            return LINKS_LOST
        if now >= slice_end:
            return SLICE_OVER
        wait_ms = 0
        if now - last_event > _SPIN_NS and state["unsent"] == 0:
            wake = slice_end
            if len(run.due_ns) > 0 and state["free"] > 0 and state["next"] < state["count"]:
                wake = min(wake, state["begun_ns"] + run.due_ns[state["next"]])
            wait_ms = max(0, (wake - now) // 1_000_000 - 1)
        found = _epoll_wait(state["epoll"], run.events.ctypes.data, EVENTS, wait_ms)
        asked_at, now = now, clock_ns(run)
        if found <= 0 or wait_ms > 0:
            state["quiet_ns"] += now - asked_at
        if found < 0:  # interrupted by a signal, which is Python's to handle
            return SLICE_OVER
        for k in range(found):
            if state["every"] > 0 and len(run.kept) - state["used"] < ANSWER_BYTES:
                return NEEDS_ROOM
            now = _receive(run, run.owners[run.events[k * EVENT + _WHOSE]])
            last_event = now = _send_due(run, now)


@_compiled
def _send_due(run: Run, now: int) -> int:
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
        now = clock_ns(run)
    return now


@_compiled
def _write(run: Run, which: int, now: int) -> None:
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
def _receive(run: Run, which: int) -> int:
    """Take what has arrived; an answer that is whole sets the connection free. Returns the time after."""
    link, answer, state = run.links[which], run.answers[which], run.state[0]
    filled, room = link["filled"], len(answer) - SPARE
    got = _recv(link["socket"], answer.ctypes.data + filled, room - filled, _NO_WAIT)
    waits = got < 0 and _try_again()
    now = clock_ns(run)
    if waits:
        return now
    if got <= 0 or link["asked"] < 0:
        _lose(run, which, now)
        return now
    state["progress_ns"] = now
    filled = link["filled"] = filled + got
    status, begin, end, closes = _read(answer, filled)
    if status < 0 or end > room or (0 < end < filled):
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
    return (0 if filled < len(answer) - SPARE else -1), 0, 0, False


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
def _keep(run: Run, row: int, body: NDArray[np.uint8]) -> None:
    """Copy the body of an answer; there is room, see `NEEDS_ROOM`."""
    begin = run.state[0]["used"]
    for k in range(len(body)):
        run.kept[begin + k] = body[k]
    run.spans[row, 0], run.spans[row, 1] = begin, begin + len(body)
    run.state[0]["used"] += len(body)


@_compiled
def _finish(run: Run, which: int, status: int, now: int) -> None:
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
def _lose(run: Run, which: int, now: int) -> None:
    """Give the connection up; the request that waits on it, if there is one, is an error."""
    link, state = run.links[which], run.state[0]
    if link["asked"] >= 0:
        _finish(run, which, 0, now)
    state["unsent"] -= link["unsent"]
    state["lost"] += 1 - link["lost"]
    link["unsent"], link["lost"] = 0, 1
