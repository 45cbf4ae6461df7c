"""Load generators over keep-alive connections, quick enough not to be what is measured."""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import uvloop
from numpy.typing import NDArray


class Load(NamedTuple):
    """What came back: requests a second, latencies in ms (n,), answers other than 200, CPU share of the generator."""

    per_second: float
    latencies_ms: NDArray[np.float64]
    refused: int
    generator_cpu: float

    def figures(self) -> dict[str, float]:
        """The load as a few numbers."""
        p50, p99, p999 = np.percentile(self.latencies_ms, [50, 99, 99.9])
        return {
            "requests": len(self.latencies_ms),
            "per_second": round(self.per_second),
            "p50_ms": round(float(p50), 3),
            "p99_ms": round(float(p99), 3),
            "p99_9_ms": round(float(p999), 3),
            "refused": self.refused,
            "generator_cpu": round(self.generator_cpu, 2),
        }


class _Connection(asyncio.Protocol):
    """Sends one request at a time; tells when its answer is whole."""

    def __init__(self, told: Callable[["_Connection", bool], None]) -> None:
        self.told = told
        self.begun_ns = 0
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, begun_ns: int) -> None:
        assert self._transport is not None
        self.begun_ns = begun_ns
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        blank = data.find(b"\r\n\r\n")
        length = data.lower().find(b"content-length: ", 0, blank)
        if blank < 0 or len(data) < blank + 4 + int(data[length + 16 : data.find(b"\r\n", length)]):
            self._buffer = data
            return
        self._buffer = b""
        self.told(self, data[9:12] == b"200")


def closed_loop(port: int, requests: Sequence[bytes], connections: int) -> Load:
    """Every connection sends its next request as soon as it has an answer."""
    return uvloop.run(_closed(port, iter(requests), connections))


def open_loop(port: int, requests: Sequence[bytes], rate: float, connections: int) -> Load:
    """`rate` requests a second whatever the answers do; latency counts from when a request was due."""
    return uvloop.run(_open(port, requests, rate, connections))


async def _connect(port: int, connections: int, told: Callable[[_Connection, bool], None]) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(told), "127.0.0.1", port) for _ in range(connections)]
    return [protocol for _, protocol in made]


async def _closed(port: int, requests: Iterator[bytes], connections: int) -> Load:
    done = asyncio.get_running_loop().create_future()
    latencies: list[int] = []
    refused, open_connections = 0, connections
    clock = time.perf_counter_ns

    def told(connection: _Connection, accepted: bool) -> None:
        nonlocal refused, open_connections
        latencies.append(clock() - connection.begun_ns)
        refused += not accepted
        request = next(requests, None)
        if request is not None:
            connection.send(request, clock())
            return
        open_connections -= 1
        if open_connections == 0:
            done.set_result(None)

    made = await _connect(port, connections, told)
    gc.disable()
    begun, cpu = time.perf_counter(), time.process_time()
    for connection in made:
        connection.send(next(requests), clock())
    await done
    spent = time.perf_counter() - begun
    gc.enable()
    return Load(len(latencies) / spent, np.array(latencies) / 1e6, refused, (time.process_time() - cpu) / spent)


async def _open(port: int, requests: Sequence[bytes], rate: float, connections: int) -> Load:
    done = asyncio.get_running_loop().create_future()
    latencies: list[int] = []
    refused = 0
    idle: deque[_Connection] = deque()
    due: deque[tuple[bytes, int]] = deque()
    clock = time.perf_counter_ns

    def told(connection: _Connection, accepted: bool) -> None:
        nonlocal refused
        latencies.append(clock() - connection.begun_ns)
        refused += not accepted
        if due:
            connection.send(*due.popleft())
        else:
            idle.append(connection)
        if len(latencies) == len(requests):
            done.set_result(None)

    idle.extend(await _connect(port, connections, told))
    gc.disable()
    begun, cpu = time.perf_counter(), time.process_time()
    begun_ns, sent, step_ns = clock(), 0, 1e9 / rate
    while sent < len(requests):
        while sent < len(requests) and (when := begun_ns + int(sent * step_ns)) <= clock():
            if idle:
                idle.popleft().send(requests[sent], when)
            else:
                due.append((requests[sent], when))
            sent += 1
        await asyncio.sleep(0.0002)
    await done
    spent = time.perf_counter() - begun
    gc.enable()
    return Load(len(latencies) / spent, np.array(latencies) / 1e6, refused, (time.process_time() - cpu) / spent)
