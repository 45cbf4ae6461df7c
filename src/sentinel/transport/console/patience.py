"""Patience: how long a connection may take to send a request, and to take an answer.

An HTTP server that waits for ever has its places taken by whoever opens connections and says nothing.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

ARRIVING_S = 10.0
"""A request has to be there, with its body, within twice this time."""

TAKING_S = 30.0
"""What was sent has to be taken so far within this time that there is room for more."""


class PatientProtocol(H11Protocol):
    """The protocol of uvicorn that bounds the head of a request, and an end for connections that only wait."""

    _looking: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _seen: Any = ()  # the request that was awaited when one looked last: the one after this

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at it."""
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        for timer in (self._looking, self._taking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The other end does not take what is sent."""
        super().pause_writing()
        self._taking = asyncio.get_running_loop().call_later(TAKING_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(ARRIVING_S, self._look)

    def _look(self) -> None:
        """End the connection if the same request is awaited as when one looked last."""
        is_awaited = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        if is_awaited and self._seen is self.cycle:
            self.transport.abort()
            return
        self._seen = self.cycle if is_awaited else ()
        self._look_later()
