"""How decisions are counted: the words of the policy, and the slots of the metrics."""

from collections.abc import Sequence

from sentinel.policy.breaker import Circuit
from sentinel.policy.judge import CIRCUIT_OPEN, FAILED, OVERLOADED, TOO_SLOW
from sentinel.policy.thresholds import Action
from sentinel.telemetry.counters import Counters, Slot

SHED = {
    CIRCUIT_OPEN: Slot.SHED_BREAKER_OPEN,
    TOO_SLOW: Slot.SHED_MODEL_SLOW,
    FAILED: Slot.SHED_MODEL_FAILED,
    OVERLOADED: Slot.SHED_OVERLOAD,
}
SETTLE_ROWS = 256
"""So many decisions are counted together: to count them batch by batch costs several times as much."""

STATE_NUMBER = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}


def count_decisions(counters: Counters, actions: Sequence[str], variants: Sequence[str | None]) -> None:
    """Count decisions, and whose they are; without an experiment all are the champion's."""
    blocks = actions.count(Action.BLOCK)
    counters.add(Slot.REQUESTS, len(actions))
    counters.add(Slot.APPROVE, actions.count(Action.APPROVE))
    counters.add(Slot.REVIEW, actions.count(Action.REVIEW))
    counters.add(Slot.BLOCK, blocks)
    of_b = variants.count("b")
    blocks_of_b = (
        0 if of_b == 0 else sum(v == "b" and a == Action.BLOCK for v, a in zip(variants, actions, strict=True))
    )
    counters.add(Slot.PREDICTIONS_A, len(actions) - of_b)
    counters.add(Slot.PREDICTIONS_B, of_b)
    counters.add(Slot.BLOCKS_A, blocks - blocks_of_b)
    counters.add(Slot.BLOCKS_B, blocks_of_b)
