"""Opens the online view of a home folder; its library is loaded by who has one alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.errors import InvalidDefinition
from sentinel.record.online.layout import project_of

if TYPE_CHECKING:
    from sentinel.record.online.store import OnlineStore

REDIS = "SENTINEL_REDIS_URL"
"""The variable with the address, which has a password."""
PROGRAM = "online-view"
"""The name under which the process that writes it tells its problem."""


def open_online(home: Path, detector: str, url: str, timeout_s: float = 2.0) -> "OnlineStore":
    """The keys of a home's detector; a call waits so long for an answer. Nothing is asked yet.

    Raises InvalidDefinition for an address that is none.
    """
    try:
        from sentinel.record.online.store import OnlineStore
    except ModuleNotFoundError as error:
        raise InvalidDefinition(
            f"SENTINEL_REDIS_URL is set, and {error.name} is not installed: pip install 'sentinel-fraud[redis]'"
        ) from error
    return OnlineStore(url, project_of(home, detector), timeout_s)
