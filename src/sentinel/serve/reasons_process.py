"""The explainer's process: keeps it running, records what it finds, and knows how far behind it is."""

import logging
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel.child_process import Child, Supervisor
from sentinel.errors import SentinelError
from sentinel.record.explaining import LENGTH, NO, YES, Said
from sentinel.record.log import LogReader
from sentinel.serve.worker import Worker

_PATIENCE_S = 30.0
_decode = msgspec.msgpack.Decoder(Said).decode
_log = logging.getLogger(__name__)


class ReasonsStatus(NamedTuple):
    """Entries that were not looked at yet, and decisions that were left without reasons since the explainer began."""

    lag: int
    left_out: int


class ReasonsProcess(Supervisor):
    """Keeps the explainer of a home folder running. No decision waits for it.

    What it says is heard in a thread of its own, and recorded between two batches, so many bytes at most; it goes on
    when it has heard that this was done.
    """

    def __init__(self, home: Path, log: LogReader, worker: Worker, trusted_keys: Path | None = None) -> None:
        super().__init__("explainer", first_wait_s=1.0, longest_wait_s=30.0)
        self._home, self._log, self._worker = home, log, worker
        self._trusted = ["--trusted-keys", str(trusted_keys)] if trusted_keys else []
        self._last: Said | None = None

    def start(self) -> None:
        """Have the log explained; returns at once, and may be called again."""
        if self._wanted is None:
            self.follow(str(self._home))

    @property
    def status(self) -> ReasonsStatus | None:
        """How the explainer was doing a moment ago; None before it has said anything."""
        last = self._last
        return None if last is None else ReasonsStatus(max(self._log.durable - last.position, 0), last.left_out)

    def _begin(self, wanted: str, now_s: float) -> Child:  # noqa: ARG002
        child = Child("sentinel.record.explaining", ["--home", wanted, *self._trusted], talks=True)
        threading.Thread(target=self._converse, args=(child,), name="explainer's listener", daemon=True).start()
        return child

    def _converse(self, child: Child) -> None:
        try:
            while len(length := child.hear(LENGTH)) == LENGTH:
                said = _decode(child.hear(int.from_bytes(length, "little")))
                child.send(YES if self._record(said) else NO)
                self._last = said
        except (OSError, msgspec.MsgspecError) as error:  # it ended in the middle: the supervisor starts another one
            _log.debug("the explainer is gone: %s", error)
        finally:
            child.hang_up()

    def _record(self, said: Said) -> bool:
        """Whether it is in the log now; it is tried again otherwise."""
        if said.reasons is None:
            return True
        try:
            return self._worker.explain(said.reasons).result(_PATIENCE_S)
        except (SentinelError, TimeoutError, CancelledError) as error:
            _log.debug("reasons were not recorded: %s", error)
            return False
