"""The drift window: the newest decisions of the champion and its vectors, compared with the training history."""

import numpy as np

from sentinel.model.reference import Reference
from sentinel.record.entries import batches_of, with_exact
from sentinel.record.log import Follower, LogReader
from sentinel.review.drift import DriftMonitor, DriftReport, DriftSettings
from sentinel.review.drift_distribution import Distribution

_SKIP = 2  # windows of entries behind, of which only the last would be left in the end
_PAGE = 1_024


class DriftWindow:
    """Follows the log, if there is one, from as far back as the window is long."""

    def __init__(
        self, reference: Reference, model_version: str, settings: DriftSettings, log: LogReader | None
    ) -> None:
        self.model_version = model_version
        self._monitor = DriftMonitor(reference, settings)
        self._window = settings.window
        self._follower = None if log is None else Follower(log, log.durable - settings.window)

    def follow(self) -> bool:
        """Take the next page of the log, of the newest entries only when there are many; whether there was one."""
        if self._follower is None:
            return False
        if self._follower.lag > _SKIP * self._window:
            self._follower.position = self._follower.log.durable - self._window
        records = self._follower.next(_PAGE)
        for _, recorded in batches_of(records):
            decided = with_exact(recorded)
            scores = np.frombuffer(decided.scores, "<f8")
            by = np.frombuffer(decided.by, np.uint8)
            for number, decider in enumerate(decided.deciders):
                if decider.degraded is None and decider.model_version == self.model_version:
                    rows = np.frombuffer(decided.features[number], "<f8").reshape(-1, decider.features)
                    self.observe(rows, scores[by == number])
        return bool(records)

    def observe(self, rows: np.ndarray, scores: np.ndarray) -> None:
        """Take feature vectors (n, features) with the champion's scores (n,) of them."""
        if rows.shape[1] == len(self._monitor.reference.features):
            self._monitor.observe(rows, scores)

    def report(self, now_s: float) -> DriftReport:
        """Live against training, by feature and for the score; `now_s` is of the monotonic clock."""
        return self._monitor.report(now_s)

    def distribution(self, name: str) -> Distribution | None:
        """How a feature, or `score`, lay in training and lies now; None for another name."""
        return self._monitor.distribution(name)

    def reset(self) -> None:
        """Begin the window anew, with what is decided from now on."""
        if self._follower is not None:
            self._follower.position = self._follower.log.durable
        self._monitor.reset()
