"""What an attack is, and what it found."""

from collections.abc import Callable
from typing import NamedTuple


class Tried(NamedTuple):
    """How often something was tried, and what was not held, in words; `skipped` says why nothing could be tried.

    `figures` is what else was counted, in words.
    """

    tried: int
    broken: list[str]
    skipped: str | None = None
    figures: str = ""


class Attack(NamedTuple):
    """A name, what an attacker wants with it, and the attempt itself."""

    name: str
    wants: str
    attempt: Callable[..., Tried]
