"""The other lane: a whole request answered by the ASGI application, as uvicorn would, one at a time a connection."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol, cast
from urllib.parse import unquote

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from sentinel.transport.http.wire.heads import Head

_log = logging.getLogger("uvicorn.error")
_access_log = logging.getLogger("uvicorn.access")


class OtherLane(msgspec.Struct, frozen=True):
    """The application and what uvicorn keeps of a server; it begins exchanges."""

    config: Config
    state: ServerState
    app_state: dict[str, Any]

    def begin(self, head: Head, body: bytes, transport: asyncio.Transport, done: Callable[[bool], None]) -> "Exchange":
        """Have the application answer. `done` is called once, when it has, with whether another request may follow."""
        exchange = Exchange(transport, done)
        flow = FlowControl(cast(asyncio.Transport, exchange))
        cycle = RequestResponseCycle(
            scope=self._scope(head, transport),  # type: ignore[arg-type]
            transport=cast(asyncio.Transport, exchange),
            flow=flow,
            logger=_log,
            access_logger=_access_log,
            access_log=False,
            default_headers=self.state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=head.keeps,
            on_response=exchange.answered,
        )
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        exchange.cycle = cycle
        task = asyncio.get_running_loop().create_task(cycle.run_asgi(self.config.loaded_app))
        self.state.tasks.add(task)
        task.add_done_callback(self.state.tasks.discard)
        return exchange

    def _scope(self, head: Head, transport: asyncio.Transport) -> dict[str, Any]:
        path, _, query = head.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.3"},
            "http_version": head.version,
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "scheme": "https" if is_ssl(transport) else "http",
            "root_path": "",
            "method": head.method.decode(),
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "headers": list(head.fields),
            "state": self.app_state.copy(),
        }


class _Cycle(Protocol):
    """What is used of uvicorn's cycle besides running it."""

    keep_alive: bool
    disconnected: bool
    message_event: asyncio.Event
    flow: FlowControl


class Exchange:
    """One request and its answer. To uvicorn it is the transport, on which it can do no more than answer."""

    cycle: _Cycle

    def __init__(self, transport: asyncio.Transport, done: Callable[[bool], None]) -> None:
        self._transport = transport
        self._done = done
        self._is_over = False

    def write(self, data: bytes) -> None:
        """Called by uvicorn with a part of the answer."""
        if not self._is_over:
            self._transport.write(data)

    def answered(self) -> None:
        """Called by uvicorn when the answer is whole."""
        self._end(self.cycle.keep_alive)

    def close(self) -> None:
        """Called by uvicorn when the connection shall end, the answer being whole or beyond repair."""
        self._end(keeps=False)

    def is_closing(self) -> bool:
        """Called by uvicorn."""
        return self._is_over or self._transport.is_closing()

    def pause_reading(self) -> None:
        """Called by uvicorn; the body is here already."""

    def resume_reading(self) -> None:
        """Called by uvicorn; the body is here already."""

    def disconnect(self) -> None:
        """The client has gone: the application hears of it, and nothing more is written."""
        self._is_over = True
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.cycle.flow.resume_writing()

    def _end(self, keeps: bool) -> None:
        if not self._is_over:
            self._is_over = True
            self._done(keeps)
