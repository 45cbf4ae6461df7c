"""What vectors were answered is counted and observed a little later: to do so batch by batch costs much more."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from sentinel.policy.experiment import Tally
from sentinel.policy.model_call import MODEL_FAULTS, ModelAnswer, ModelCaller
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.serve.ledger import Ledger
from sentinel.telemetry.counters import Counters, Slot, Totals

Observe: TypeAlias = Callable[[Any, Any], None]

_BLOCK = ACTIONS.index(Action.BLOCK)
_SLOT_ENDS = {
    "decisions": "DECISIONS",
    "challenged": "CHALLENGES",
    "reviewed": "REVIEWS",
    "blocked": "BLOCKS",
    "errors": "ERRORS",
    "late": "LATE",
}
_SLOTS = {
    variant: {field: Slot[f"EXPERIMENT_{variant.upper()}_{end}"] for field, end in _SLOT_ENDS.items()}
    for variant in ("a", "b")
}
_log = logging.getLogger(__name__)


class AnsweredVectors(NamedTuple):
    """A batch that is not counted yet: `is_fixed` as `on_fault` says, `rows` where the champion scored them."""

    latencies_us: list[int]
    levels: list[int]
    variant: str
    answer: ModelAnswer
    is_fixed: bool
    rows: Any = None


class VectorCounts:
    """Counts the answers to vectors, and has those of the champion observed. Use it from one thread."""

    def __init__(self, counters: Counters, models: ModelCaller, observe: Observe | None) -> None:
        self.experiment = {"a": Tally(), "b": Tally()}
        """The tallies of the experiment that runs."""

        self.hits: list[int] = []
        """The levels of the actions that came from the cache, and are not counted yet."""

        self.rows = 0
        """How many other answers are not counted yet."""

        self._answered: list[AnsweredVectors] = []
        self._experiment_id: str | None = None
        self._counters = counters
        self._models = models
        self._ledger = Ledger(counters)
        self._observer = observe

    def begin(self, experiment_id: str | None) -> None:
        """From now on this experiment runs, or none."""
        if experiment_id != self._experiment_id:
            self._experiment_id, self.experiment = experiment_id, {"a": Tally(), "b": Tally()}
            self._show_experiment()

    def note(self, batch: AnsweredVectors) -> None:
        """Have a batch counted."""
        self._answered.append(batch)
        self.rows += len(batch.levels)

    def settle(self, cached: int) -> None:
        """Count what was noted, and have it observed; `cached` scores are in the cache."""
        hits, self.hits = self.hits, []
        if hits:
            self._counters.add(Slot.CACHE_HITS, len(hits))
            by_level = [hits.count(level) for level in range(len(ACTIONS))]
            self._ledger.count_levels(by_level)
            self._ledger.count_variant(None, len(hits), by_level[_BLOCK])
        answered, self._answered, rows, self.rows = self._answered, [], self.rows, 0
        if answered:
            self._counters.add(Slot.CACHE_MISSES, rows)
            self._counters.set(Slot.CACHE_SIZE, cached)
            self._count(answered)
            self._observe([one for one in answered if one.rows is not None])

    def _count(self, answered: list[AnsweredVectors]) -> None:
        ledger, levels = self._ledger, [np.array(one.levels, np.uint8) for one in answered]
        ledger.count(levels, np.array([us for one in answered for us in one.latencies_us]))
        for one, of_one in zip(answered, levels, strict=True):
            self._counters.observe_batch(len(of_one))
            ledger.count_group(one.variant, of_one, one.answer.degraded, is_fixed=one.is_fixed)
        ledger.show_circuit(self._models)
        if self._experiment_id is not None:
            self._count_for_experiment(answered)

    def _count_for_experiment(self, answered: list[AnsweredVectors]) -> None:
        deadline_us = round(self._models.limits.deadline_s * 1e6)
        for one in answered:
            failed = one.answer.degraded in MODEL_FAULTS
            for latency_us, level in zip(one.latencies_us, one.levels, strict=True):
                self.experiment[one.variant].note_decision(ACTIONS[level], latency_us, deadline_us, failed)
        self._show_experiment()

    def _show_experiment(self) -> None:
        for variant, tally in self.experiment.items():
            for field, slot in _SLOTS[variant].items():
                self._counters.set(slot, getattr(tally, field))

    def _observe(self, answered: list[AnsweredVectors]) -> None:
        if not answered or self._observer is None:
            return
        try:
            self._observer(
                np.concatenate([one.rows for one in answered]), np.concatenate([one.answer.scores for one in answered])
            )
        except Exception:  # noqa: BLE001 - they are answered, and counted
            _log.exception("vectors could not be observed")


def tally_of_vectors(totals: Totals, variant: str) -> Tally:
    """What the processes together have counted of a variant."""
    return Tally(**{field: totals[slot] for field, slot in _SLOTS[variant].items()})
