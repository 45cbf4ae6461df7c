"""Listening: how many connections there may be, and what is said when file descriptors are used up."""

import logging
import os
import resource
import socket

import uvicorn

from sentinel.config import Settings
from sentinel.transport.http.wire.room import SPARE_CONNECTIONS

_KEPT_DESCRIPTORS = 192
"""For each detector, beside the connections: files of log, snapshots and models, and pipes of its processes."""

_log = logging.getLogger(__name__)


def most_connections(settings: Settings, detectors: int = 1) -> int:
    """How many connections there may be: what the settings say, where the system's limit of open files allows it."""
    kept = _KEPT_DESCRIPTORS * detectors + SPARE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + kept
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings.max_connections
    most = max(soft - kept, soft // 4)
    _log.warning(
        "at most %d connections at once, instead of %d: the system allows %d open files; raise `ulimit -n`",
        most, settings.max_connections, soft,
    )  # fmt: skip
    return most


class Listening(uvicorn.Server):
    """uvicorn's server, which says once that no file descriptors are left for new connections, and once that some are.

    The loop's listeners need no help: who came in between waits in the system's queue, or is cut off.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        """`listener` is what the listeners are copies of."""
        super().__init__(config)
        self._listener = listener
        self._has_descriptors = True

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; whether the server shall end."""
        if counter % 5 == 0:
            self._look_for_descriptors()
        return await super().on_tick(counter)

    def _look_for_descriptors(self) -> None:
        try:
            os.close(os.dup(self._listener.fileno()))
        except OSError as error:
            if self._has_descriptors:
                self._has_descriptors = False
                _log.error("no new connection can be taken: %s; they are until files are closed", error.strerror)
            return
        if not self._has_descriptors:
            self._has_descriptors = True
            _log.warning("file descriptors are there again: new connections are taken")
