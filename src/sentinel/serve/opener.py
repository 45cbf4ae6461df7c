"""The opener: a thread that opens the engine, keeps trying while that fails, and opens another one after a fault."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from sentinel.errors import BundleProblem, InvalidDefinition, NotReady, NotTheOwner, SentinelError, StorageProblem
from sentinel.record.log import Log
from sentinel.serve.engine import Engine
from sentinel.serve.ownership import Ownership

_RETRY_S = 1.0
_LOOK_S = 0.05  # at the log of another owner
_logger = logging.getLogger(__name__)

LOADING, STOPPING, STANDBY = "loading", "stopping", "standby"
_CODES = (
    (NotReady, LOADING),
    (NotTheOwner, STANDBY),
    (StorageProblem, "log"),
    (BundleProblem, "model"),
    (InvalidDefinition, "settings"),
)

Settled = Callable[[str], None]
"""Called with a sentence that says what has become of what could not be recorded."""


class Opener:
    """Opens engines with `open_engine`, one after the other, and hands each to `install`.

    After a fault it makes the log void what is not durable, then reports whether it was stored. Where the log may be
    another's (`ownership`), an engine that is open follows it, and is handed over once the log is owned.
    """

    def __init__(
        self, log: Log, open_engine: Callable[[], Engine], install: Callable[[Engine], None],
        ownership: Ownership | None = None,
    ) -> None:  # fmt: skip
        self.reason = "still loading"
        """Why there is no engine, or why there was none."""

        self.code = LOADING
        """The same in a word."""

        self.was_open = False
        self._log = log
        self._open_engine = open_engine
        self._install = install
        self._ownership = ownership
        self._stopping = threading.Event()
        self._wanted = threading.Event()
        self._wanted.set()
        self._faults: deque[tuple[Engine | None, Settled, bool]] = deque()
        self._is_void_due = False
        self._thread = threading.Thread(target=self._run, name="opener", daemon=True)

    def start(self) -> None:
        """Open the first engine; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Open no more; wait for what is being opened."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()
        self.reason, self.code = "shutting down", STOPPING
        self._give_up()

    @property
    def has_faults(self) -> bool:
        """Whether an engine is to be replaced, or the log recovered, that was not looked after yet."""
        return bool(self._faults)

    def replace(self, engine: Engine | None, error: Exception, settled: Settled) -> None:
        """Open another engine instead of one that can no longer be used, if there was one."""
        self.reason, self.code = _words_of(error), code_of(error)
        is_of_the_log = isinstance(error, StorageProblem) and not isinstance(error, NotTheOwner)
        self._faults.append((engine, settled, is_of_the_log))
        self._wanted.set()
        if self._stopping.is_set():
            self._give_up()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if not self._stopping.is_set() and not (self._recovered() and self._opened()):
                self._stopping.wait(_RETRY_S)
                self._wanted.set()

    def _recovered(self) -> bool:
        """Whether nothing that could not be recorded can come back."""
        unsettled = self._released()
        reason = self.reason
        if self._is_void_due:
            try:
                self._log.recover()
                self._is_void_due = False
            except Exception as error:
                self._say(error)
        for settled, is_of_the_log in unsettled:  # any other fault may have come after the append
            is_void = is_of_the_log and not self._is_void_due
            fate = "nothing of this was" if is_void else "it is not known whether this was"
            settled(f"{reason}; {fate} stored: send it again with the same id")
        return not self._is_void_due

    def _give_up(self) -> None:
        for settled, _ in self._released():
            settled("shutting down; it is not known whether this was stored")

    def _released(self) -> list[tuple[Settled, bool]]:
        """The callbacks of all pending faults, and whether the log raised them; releases the engines involved."""
        unsettled: list[tuple[Settled, bool]] = []
        with suppress(IndexError):  # there are no more
            while True:
                engine, settled, is_of_the_log = self._faults.popleft()
                unsettled.append((settled, is_of_the_log))
                self._release(engine)
        return unsettled

    def _release(self, engine: Engine | None) -> None:
        self._is_void_due = True
        try:
            if engine is not None:
                engine.close()
        except Exception:
            _logger.exception("an engine could not be released")

    def _opened(self) -> bool:
        engine = None
        try:
            engine = self._open_engine()
            if self._ownership is not None:
                self._stand_by(engine, self._ownership)
            self._install(engine)
        except Exception as error:
            self._say(error)
            if engine is not None:  # it could not write
                self._release(engine)
            return False
        self.was_open = True
        return True

    def _stand_by(self, engine: Engine, ownership: Ownership) -> None:
        """Have an engine follow the log until this process owns it."""
        while not self._owns(ownership):
            engine.follow()
            if self._stopping.wait(_LOOK_S):
                raise NotReady("shutting down")
        engine.follow()

    def _owns(self, ownership: Ownership) -> bool:
        """Whether this process owns the log by now; `reason` says why not. While that is not known, states are kept."""
        try:
            owns = ownership.take()
        except StorageProblem as away:
            self._say(away)
            return False
        if not owns and self._log.fault is not None:
            self._say(self._log.fault)
        return owns

    def _say(self, error: Exception) -> None:
        reason = _words_of(error)
        if self.reason != reason:
            _logger.warning("not ready: %s", error, exc_info=None if isinstance(error, SentinelError) else error)
        self.reason, self.code = reason, code_of(error)


def code_of(error: Exception) -> str:
    """What is wrong, in a word: that is everyone's to know, what the message says is not."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), "fault")


def _words_of(error: Exception) -> str:
    """The message an operator sees."""
    return str(error) if isinstance(error, SentinelError) else f"{type(error).__name__}; the messages have the details"
