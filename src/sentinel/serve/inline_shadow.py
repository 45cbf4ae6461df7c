"""The shadow's score beside an answer: on the features that decided, once the decision is made; left out when late.

A model that is a known number of steps is asked here and now. Any other is asked in a thread of its own, while the log
makes the answer durable, and nothing waits for it: an answer that may be sent is sent, with the score if that is there.
While the thread is still busy with a batch it is not asked about another one, so a shadow that hangs costs one thread
and no memory.
"""

import logging
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.serve.batch import Answer, Answers, Decision

_log = logging.getLogger(__name__)


class Shadow(Protocol):
    """What can be asked for probabilities (n,) of rows (n, features). See `Scorer` for `is_bounded`."""

    @property
    def is_bounded(self) -> bool:
        """Whether it computes and never waits."""

    def score(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The probabilities; may raise, hang, or give nonsense."""


class Beside:
    """What a shadow says of the new transactions of a batch, once it has said it."""

    __slots__ = ("_ids", "_rows", "_scorer", "scores")

    def __init__(self, scorer: Shadow, rows: NDArray[Any], ids: Sequence[str]) -> None:
        self._scorer, self._rows, self._ids = scorer, rows, ids
        self.scores: dict[str, float] | None = None
        """By id; None until it is there, and where the shadow failed."""

    def joined(self, answers: Answers) -> Answers:
        """The answers, with the shadow's score in each decision that was made now, if it is there by now."""
        scores = self.scores
        if scores is None:
            return answers
        return [_with_score(one, scores) for one in answers]

    def compute(self) -> None:
        """Ask the shadow. Whatever it says that is no probability is left out."""
        try:
            found = self._scorer.score(self._rows)
        except Exception:  # noqa: BLE001 - a shadow may fail as it likes: it decides nothing
            _log.exception("the shadow failed; answers go without its score")
            return
        if found.shape == (len(self._ids),):
            pairs = zip(self._ids, found.astype(np.float64).tolist(), strict=True)
            self.scores = {name: score for name, score in pairs if 0.0 <= score <= 1.0}


class InlineShadow:
    """Asks the shadow; use it from one thread."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Beside | None] = SimpleQueue()
        self._is_free = threading.Event()
        self._is_free.set()
        self._thread: threading.Thread | None = None

    def ask(self, scorer: Shadow, rows: NDArray[Any], ids: Sequence[str]) -> Beside | None:
        """Have rows (n, features) scored; None, and they are not, while the rows before are not done."""
        if scorer.is_bounded:
            beside = Beside(scorer, rows, ids)
            beside.compute()
            return beside
        if not self._is_free.is_set():
            return None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="inline shadow", daemon=True)
            self._thread.start()
        self._is_free.clear()
        beside = Beside(scorer, rows, ids)
        self._asked.put(beside)
        return beside

    def stop(self) -> None:
        """Let the thread end."""
        self._asked.put(None)

    def _run(self) -> None:
        while (beside := self._asked.get()) is not None:
            beside.compute()
            del beside  # or an idle thread would keep the model
            self._is_free.set()


def _with_score(one: Answer, scores: dict[str, float]) -> Answer:
    if type(one) is not Decision or one.replayed:
        return one
    return msgspec.structs.replace(one, shadow_fraud_probability=scores.get(one.transaction_id, msgspec.UNSET))
