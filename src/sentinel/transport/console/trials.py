"""Trials: backtests that people have asked for. The server runs them, one at a time; what came of them is kept here."""

import secrets
import threading
from collections import OrderedDict
from typing import Any

from sentinel.errors import NotFound, SentinelError
from sentinel.transport.console.server import Server

MOST = 20
"""How many are kept; the oldest goes."""

PATIENCE_S = 660.0


class Trial:
    """One backtest of a draft: `found` is what came of it, `problem` why nothing did, neither while it runs."""

    def __init__(self, draft: int, asked: dict[str, str]) -> None:
        self.id = secrets.token_hex(8)
        self.draft, self.asked = draft, asked
        self.found: dict[str, Any] | None = None
        self.problem: str | None = None

    @property
    def runs(self) -> bool:
        """Whether it does still."""
        return self.found is None and self.problem is None


class Trials:
    """Has drafts tried, each in a thread that waits for the server; from any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Trial] = OrderedDict()

    def begin(self, draft: int, book: Any, asked: dict[str, str]) -> Trial:
        """Try a book on a period, `from` and `until` then."""
        trial = Trial(draft, asked)
        with self._lock:
            self._kept[trial.id] = trial
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
        threading.Thread(target=self._run, args=(trial, {"book": book, **asked}), name="trial", daemon=True).start()
        return trial

    def named(self, trial_id: str) -> Trial:
        """One of them. Raises NotFound."""
        with self._lock:
            found = self._kept.get(trial_id)
        if found is None:
            raise NotFound("This backtest is no longer kept: the console was started again, or others came since")
        return found

    def newest_of(self, draft: int) -> Trial | None:
        """The newest of a draft."""
        with self._lock:
            return next((one for one in reversed(self._kept.values()) if one.draft == draft), None)

    def progress(self) -> dict[str, Any] | None:
        """How far the server is with the one that it runs; None where it runs none, or does not say."""
        try:
            found: dict[str, Any] | None = self._server.get("/v1/rules/backtest").json["running"]
        except SentinelError:
            return None
        return found

    def _run(self, trial: Trial, body: dict[str, Any]) -> None:
        try:
            trial.found = self._server.tell("/v1/rules/backtest", body, patience_s=PATIENCE_S)
        except SentinelError as error:
            trial.problem = str(error)
        except Exception as error:  # noqa: BLE001 - else it would seem to run for ever
            trial.problem = f"Something went wrong inside: {error}"
