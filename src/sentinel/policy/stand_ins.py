"""What decides in the model's place, over a batch: the rules of a detector, or one action for all."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import hash_text
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fallback import DECIMALS, Fallback, Rule
from sentinel.policy.fault_matrix import CHOICE_OF
from sentinel.policy.rules.machine import run
from sentinel.policy.rules.program import compile_conditions

_FIXED: Mapping[str, Fallback] = {
    "approve": Fallback(base=0.0, review_at=1.0, block_at=None),
    "challenge": Fallback(base=0.25, challenge_at=0.25, review_at=1.0, block_at=None),
    "review": Fallback(base=0.5, review_at=0.5, block_at=None),
    "block": Fallback(base=1.0, review_at=1.0, block_at=1.0),
}
"""One action for all: rules without a rule, whose base always leads to it."""


class CompiledFallback:
    """The rules with their features looked up.

    >>> from sentinel.policy.fallback import Rule
    >>> late = Rule("amount > 500 and hour < 5", 0.4, "much at night")
    >>> compiled = CompiledFallback(Fallback(rules=(late,)), ("amount", "hour"))
    >>> compiled.score(np.array([[900.0, 3.0], [900.0, 12.0], [np.nan, 3.0]])).tolist()
    [0.45, 0.05, 0.05]
    """

    def __init__(self, fallback: Fallback, names: Sequence[str]) -> None:
        """Raises InvalidDefinition for a rule over features that are not among `names`."""
        self.base = fallback.base
        self.thresholds = fallback.thresholds
        self._given = fallback.rules
        self._adds = [rule.add for rule in fallback.rules]
        self._program = compile_conditions([rule.read(names) for rule in fallback.rules], hash_text)
        self._columns = [names.index(name) for name in self._program.numbers]
        self.score(np.zeros((1, len(names))))  # compiled by now, and not when the first model fails

    def score(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Scores float64 (n,) from 0 to 1 of rows (n, features), where NaN is missing."""
        scores = np.full(len(rows), self.base, np.float64)
        if self._adds:
            for add, holds in zip(self._adds, self._hits(rows).T, strict=True):
                scores[holds] += add
        clamped: NDArray[np.float64] = np.clip(np.round(scores, DECIMALS), 0.0, 1.0) + 0.0  # no negative zero
        return clamped

    def held(self, row: NDArray[np.float64]) -> list[Rule]:
        """The rules that hold for one row (features,), in their order: with the base, what they add is its score."""
        return [rule for rule, holds in zip(self._given, self._hits(row[None])[0], strict=True) if holds]

    def _hits(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which rules hold, (n, rules)."""
        if not self._adds:
            return np.zeros((len(rows), 0), np.bool_)
        numbers = np.ascontiguousarray(rows[:, self._columns], np.float64)
        nothing = np.empty((len(rows), 0))
        return run(self._program, numbers, nothing.astype(np.uint64), nothing.astype(np.bool_))


class StandIn(NamedTuple):
    """What decides in the model's place; `is_fixed` where that is one action for all, and not the detector's rules."""

    rules: CompiledFallback
    is_fixed: bool


class CompiledFailPolicy:
    """A fail policy over rows whose columns are `names`, with the rules of its detector.

    >>> policy = CompiledFailPolicy(FailPolicy(no_time="block"), Fallback(), ("amount",))
    >>> policy.stand_in("overloaded").is_fixed, policy.stand_in("model failed").is_fixed
    (True, False)
    """

    def __init__(self, policy: FailPolicy, fallback: Fallback, names: Sequence[str]) -> None:
        self._rules = StandIn(CompiledFallback(fallback, names), is_fixed=False)
        self._by_reason = {
            reason: StandIn(CompiledFallback(_FIXED[answer], names), is_fixed=True)
            for reason, choice in CHOICE_OF.items()
            if (answer := getattr(policy, choice)) != "rules"
        }

    def stand_in(self, reason: str | None) -> StandIn:
        """What decides where the model does not for this reason."""
        return self._by_reason.get(reason or "", self._rules)
