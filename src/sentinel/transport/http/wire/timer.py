"""A timer that is started and stopped again and again."""

import asyncio
from collections.abc import Callable
from typing import Any


class Timer:
    """Calls something once, in the event loop, unless it is stopped or started anew before."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self._what = ""

    def start(self, after_s: float, call: Callable[..., Any], *given: Any) -> None:
        """Call it after so many seconds."""
        self.stop()
        self._handle = asyncio.get_running_loop().call_later(after_s, call, *given)

    def start_unless_running(self, what: str, after_s: float, call: Callable[[str, float], None]) -> None:
        """Call it with these two after so many seconds, unless it runs for the same already."""
        if self._what != what:
            self.start(after_s, call, what, after_s)
            self._what = what

    def stop(self) -> None:
        """Call nothing."""
        self._what = ""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
