"""Room: pages that may take their time have a bounded part of the console's threads, so that nobody waits to log in."""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sentinel.errors import Overloaded
from sentinel.transport.console.problems import problem_page

AT_ONCE = {"/search": 8, "/around": 6, "/business": 4, "/rules": 6, "/drift": 4}
"""By how the address of a kind of page begins, how many are made at once. Of 40 threads 12 are left for all else."""

MOST_WAITING = 64
"""Requests of one kind that wait; the next one is told to try again."""


class Room:
    """An application whose slow pages wait for those of their kind, in the order of their coming, and for no thread."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turns = {kind: asyncio.Semaphore(most) for kind, most in AT_ONCE.items()}
        self._waiting = dict.fromkeys(AT_ONCE, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        kind = kind_of(scope["path"]) if scope["type"] == "http" else None
        if kind is None:
            await self._app(scope, receive, send)
            return
        if self._waiting[kind] >= MOST_WAITING:
            busy = Overloaded("Many ask for this at the moment, and nothing was done: try again shortly")
            await problem_page(Request(scope), busy)(scope, receive, send)
            return
        self._waiting[kind] += 1
        try:
            await self._turns[kind].acquire()
        finally:
            self._waiting[kind] -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._turns[kind].release()


def kind_of(path: str) -> str | None:
    """The kind of a page; None for what is quick.

    >>> kind_of("/search"), kind_of("/search.csv"), kind_of("/rules/edit"), kind_of("/login"), kind_of("/searching")
    ('/search', '/search', '/rules', None, None)
    """
    return next((one for one in AT_ONCE if path == one or path.startswith((f"{one}/", f"{one}."))), None)
