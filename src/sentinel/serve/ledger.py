"""The ledger: counts decisions and stage times, and writes them to the metrics in groups."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentinel.policy.breaker import Circuit
from sentinel.policy.model_call import CIRCUIT_OPEN, FAILED, OVERLOADED, TOO_SLOW, ModelCaller
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.telemetry.counters import Counters, Slot, Stage

SETTLE_ROWS = 256
"""So many decisions are counted together: to count them batch by batch costs several times as much."""

_SHED = {
    CIRCUIT_OPEN: Slot.SHED_BREAKER_OPEN,
    TOO_SLOW: Slot.SHED_MODEL_SLOW,
    FAILED: Slot.SHED_MODEL_FAILED,
    OVERLOADED: Slot.SHED_OVERLOAD,
}
_STATE = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}
_FIXED_AT = tuple(Slot[f"ON_FAULT_{action.name}"] for action in ACTIONS)
_BY_LEVEL = tuple(Slot[action.name] for action in ACTIONS)
_BLOCK = ACTIONS.index(Action.BLOCK)


class Ledger:
    """Counts decisions and where their time went; a few hundred rows together. Use it from one thread."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self._rows = 0
        self._levels: list[NDArray[np.uint8]] = []
        self._latencies_us: list[NDArray[np.uint32]] = []
        self._received: list[tuple[int, Sequence[int]]] = []

    def decided(
        self, levels: Sequence[NDArray[np.uint8]], latencies_us: NDArray[np.uint32], begun_ns: int,
        received_ns: Sequence[int],
    ) -> None:  # fmt: skip
        """Note a batch: the levels of its actions, its latencies, when work on it began and when each row came in."""
        self._levels += levels
        self._latencies_us.append(latencies_us)
        self._received.append((begun_ns, received_ns))
        self.counters.observe_batch(len(latencies_us))
        self._rows += len(latencies_us)
        if self._rows >= SETTLE_ROWS:
            self.settle()

    def settle(self) -> None:
        """Count what was noted; call it before the counters are read."""
        if not self._rows:
            return
        self.count(self._levels, np.concatenate(self._latencies_us).astype(np.int64))
        waited_ns = [begun_ns - np.array(received, np.int64) for begun_ns, received in self._received]
        self.counters.observe_many(Stage.QUEUE, np.concatenate(waited_ns) // 1000)
        self._rows, self._levels, self._latencies_us, self._received = 0, [], [], []

    def count(self, levels: Sequence[NDArray[np.uint8]], latencies_us: NDArray[np.int64]) -> None:
        """Count decisions with these levels and latencies."""
        self.count_levels(np.bincount(np.concatenate(levels), minlength=len(ACTIONS)).tolist())
        self.counters.observe_many(Stage.TOTAL, latencies_us)

    def count_levels(self, by_level: Sequence[int]) -> None:
        """Count decisions by the level of their action."""
        self.counters.add(Slot.REQUESTS, sum(by_level))
        for slot, n in zip(_BY_LEVEL, by_level, strict=True):
            self.counters.add(slot, n)

    def count_variant(self, variant: str | None, decisions: int, blocks: int) -> None:
        """Count whose decisions these were; without an experiment all are the champion's."""
        of_b = variant == "b"
        self.counters.add(Slot.PREDICTIONS_B if of_b else Slot.PREDICTIONS_A, decisions)
        self.counters.add(Slot.BLOCKS_B if of_b else Slot.BLOCKS_A, blocks)

    def count_group(
        self, variant: str | None, levels: NDArray[np.uint8], degraded: str | None, *, is_fixed: bool
    ) -> None:
        """Count the decisions of one decider; where the model did not decide, why, and what did."""
        self.count_variant(variant, len(levels), int(np.count_nonzero(levels == _BLOCK)))
        if degraded in _SHED:
            self.counters.add(_SHED[degraded], len(levels))
            self.counters.add(_FIXED_AT[levels[0]] if is_fixed else Slot.ON_FAULT_RULES, len(levels))

    def show_circuit(self, models: ModelCaller) -> None:
        """Show the state of the circuit breakers."""
        self.counters.set(Slot.BREAKER_STATE, _STATE[models.circuit])
        self.counters.set(Slot.BREAKER_OPENINGS, models.openings)

    def took(self, stage: Stage, begun_ns: int, ended_ns: int) -> None:
        """Note how long a part of a batch took."""
        self.counters.observe(stage, (ended_ns - begun_ns) // 1000)
