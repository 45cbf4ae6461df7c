"""The load while things befall an owner and its standby: through the topics, and over HTTP beside it."""

import threading
import time

import numpy as np

from tests.scenarios.kafka_streams import Consuming, keyed, payment, send

_PAUSE_S, _ANSWER_S, _PATIENCE_S = 0.05, 5, 240
_CARDS = 7


class Load:
    """Payments `p<n>` and messages that nothing can be made of through the topic, payments `h<n>` over HTTP, outcomes.

    Over HTTP each is asked of one server and of the other until one of them has decided it, always with the same id.
    Outcomes are of payments that were answered.
    """

    def __init__(self, topics: dict[str, str], pair: list[Consuming], rng: np.random.Generator, first: int = 0) -> None:
        self.topics, self._rng = topics, rng
        self.sent = self._first = first
        self.letters: list[bytes] = []
        self.answers: dict[str, dict] = {}
        self.outcomes: dict[str, bool] = {}
        self._asked = tuple(pair)
        self._ends, self._fault = threading.Event(), None
        self._thread = threading.Thread(target=self._ask_on)
        self._thread.start()

    @property
    def ids(self) -> set[str]:
        """Of all transactions that have to be decided."""
        return {f"p{n}" for n in range(self._first, self.sent)} | set(self.answers)

    def send(self, n: int) -> None:
        """So many payments, one message without sense among them, and outcomes of what was answered so far."""
        some = [payment(one) for one in range(self.sent, self.sent + n)]
        self.sent += n
        poison = b"poison %d" % len(self.letters)
        self.letters.append(poison)
        half = n // 2
        send(self.topics, "transactions", [*keyed(*some[:half]), ("c", poison), *keyed(*some[half:])])
        known = [one for one in list(self.answers) if one not in self.outcomes]
        told = {one: bool(self._rng.random() < 0.3) for one in known[: len(known) // 2]}
        self.outcomes |= told
        send(self.topics, "outcomes", [(None, {"transaction_id": one, "is_fraud": told[one]}) for one in told])

    def end(self) -> None:
        """Ask no more. Raises what the asking has met."""
        self._ends.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def _ask_on(self) -> None:
        try:
            while not self._ends.is_set():
                one = payment(n := len(self.answers), transaction_id=f"h{n}", card=f"h{n % _CARDS}")
                self.answers[one["transaction_id"]] = self._answer_to(one)
                time.sleep(_PAUSE_S)
        except BaseException as fault:  # noqa: BLE001 - `end` raises it
            self._fault = fault

    def _answer_to(self, one: dict) -> dict:
        give_up = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up:
            for server in self._asked:
                try:
                    status, said = server.ask("/v1/score", one, _ANSWER_S)
                except (OSError, ValueError):
                    continue
                if status == 200:
                    return said
                assert status == 503, said
            time.sleep(_PAUSE_S)
        raise AssertionError(f"nobody has answered {one['transaction_id']} for {_PATIENCE_S} s")
