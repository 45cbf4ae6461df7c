"""Companions: what works beside HTTP, for as long as the server runs."""

from typing import Any, Protocol


class Companion(Protocol):
    """What works beside HTTP, for as long as the server runs."""

    def start(self) -> None:
        """Begin; called in the event loop."""

    def stop_reading(self) -> None:
        """Take in nothing more; called from another thread before the engines end."""

    def stop(self) -> None:
        """End; called from another thread after them."""


class Stream(Companion, Protocol):
    """A companion that reads messages for the engine to take."""

    @property
    def problem(self) -> str | None:
        """What has stood in the way of reading for so long that somebody has to look; None while nothing does."""

    @property
    def status(self) -> dict[str, Any]:
        """What `/health` says of it: `lag`, messages that wait, and `lag_s`, for how long, are None while not known."""
