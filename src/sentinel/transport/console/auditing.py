"""Auditing: what people did or looked at becomes entries of the log, which the server writes."""

import logging
import threading

import msgspec

from sentinel.errors import SentinelError
from sentinel.transport.console.server import Server
from sentinel.transport.people.people import People

EVERY_S = 1.0
_log = logging.getLogger(__name__)


def write_down(people: People, server: Server) -> int:
    """Have the server write what waits, some of it; how many. What cannot be written waits on.

    A crash between the two steps writes an entry twice, and never not at all. Raises SentinelError.
    """
    waiting = people.not_audited()
    if not waiting:
        return 0
    server.tell("/admin/audit", {"changes": [msgspec.structs.asdict(change) for _, change in waiting]})
    people.drop_audited([number for number, _ in waiting])
    return len(waiting)


class Auditing:
    """Does so each second, in a thread of its own, for as long as the console runs."""

    def __init__(self, people: People, server: Server) -> None:
        self._people, self._server = people, server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditing", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after a last try."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            is_last = self._stopped.wait(EVERY_S)
            try:
                while write_down(self._people, self._server):
                    pass
            except SentinelError as error:
                _log.warning("what people did waits for the audit: %s", error)
            if is_last:
                return
