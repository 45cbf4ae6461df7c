"""Entries that are far away: requests that ask for them wait beside the event loop until they were brought."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import NotReady, Overloaded, SentinelError
from sentinel.record.journal import Journal
from sentinel.serve.queue import Request


class FarEntries:
    """Has a thread read what a log has not at hand. Use it in the event loop's thread."""

    def __init__(self, most_waiting: int) -> None:
        """Raises nothing; `most_waiting` transactions, outcomes and events may wait."""
        self._most, self._waiting = most_waiting, 0
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="far-entries")

    def stop(self) -> None:
        """Read what is asked for, and end; from another thread than the loop's."""
        self._reading.shutdown()

    def hold(
        self, journal: Journal, keys: Callable[[], NDArray[np.uint64]], request: Request, put: Callable[[Request], None]
    ) -> bool:
        """Whether a request has to wait for entries with these keys; then it is put once they are there.

        Raises Overloaded where too much waits already. When they cannot be read it is answered with why.
        """
        if journal.log.at_hand <= 0:
            return False
        positions = journal.far(keys())
        if not positions:
            return False
        rows = len(request.events)
        if self._waiting + rows > self._most:
            raise Overloaded(f"{self._waiting} wait for what is stored in Kafka; nothing was stored: retry in a moment")
        loop = asyncio.get_running_loop()

        def go_on(done: "Future[None]") -> None:
            self._waiting -= rows
            try:
                done.result()
                put(request)
            except SentinelError as error:
                request.reply([error] * rows)

        try:
            done = self._reading.submit(journal.bring, positions)
        except RuntimeError:  # the end came first
            raise NotReady("The server stops; nothing was stored") from None
        self._waiting += rows
        done.add_done_callback(lambda one: loop.call_soon_threadsafe(go_on, one))
        return True
