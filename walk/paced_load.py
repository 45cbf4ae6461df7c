"""Transactions at a pace, through restarts: each is sent with the same id until it is answered."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

BATCH = 100
_PAUSE_S, _ANSWER_S = 0.05, 20.0


def payment(name: str, n: int, begun_s: int) -> dict[str, Any]:
    """The transaction `<name><n>` of the detector `payments`: always the same one for the same arguments."""
    return {
        "transaction_id": f"{name}{n}", "event_time": begun_s, "amount": float(1 + n % 400),
        "card_id": f"card-{n % 500}",
        "merchant_id": f"shop-{n % 60}", "merchant_category": "grocery", "channel": "online", "country": "DE",
    }  # fmt: skip


class PacedLoad:
    """So many transactions a second in batches, by one thread, from the first on; what each was answered.

    Where no answer comes, or a server has none to give, the same batch is sent again: `retries` times so far.
    `longest_gap_s` is the longest time from one answer to the next.
    """

    def __init__(self, port: Callable[[], int], per_second: int, name: str = "d") -> None:
        self.answers: dict[str, tuple[str, float]] = {}
        self.retries = 0
        self.longest_gap_s = 0.0
        self.begun_s = int(time.time())
        self.took_s = 0.0
        self._port, self._pause_s, self._name = port, BATCH / per_second, name
        self._ends = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def end(self) -> None:
        """Wait for the last answer. Raises what the sending has met."""
        self._ends.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            begun = last = time.monotonic()
            number = 0
            while not self._ends.is_set():
                due = begun + number * self._pause_s
                time.sleep(max(due - time.monotonic(), 0))
                batch = [payment(self._name, n, self.begun_s) for n in range(number * BATCH, (number + 1) * BATCH)]
                self._answered(batch)
                now = time.monotonic()
                self.longest_gap_s, last = max(self.longest_gap_s, now - last), now
                number += 1
            self.took_s = time.monotonic() - begun
        except Exception as fault:  # noqa: BLE001  raised by `end`
            self._fault = fault

    def _answered(self, batch: list[dict[str, Any]]) -> None:
        body = json.dumps(batch)
        while True:
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", self._port(), timeout=_ANSWER_S)) as connection:
                    connection.request("POST", "/v1/score", body, {"content-type": "application/json"})
                    answer = connection.getresponse()
                    raw = answer.read()
            except (OSError, http.client.HTTPException):
                self.retries += 1
                time.sleep(_PAUSE_S)
                continue
            found = json.loads(raw) if answer.status == 200 else []
            if answer.status in (429, 503) or any(one.get("status") in (429, 503) for one in found):
                self.retries += 1
                time.sleep(_PAUSE_S)
                continue
            if len(found) != len(batch) or any("decision" not in one for one in found):
                raise RuntimeError(f"{answer.status}: {raw[:500]!r}")
            for one in found:
                self.answers[one["transaction_id"]] = (one["decision"], one["fraud_probability"])
            return
