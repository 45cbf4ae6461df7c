"""The fallback: rules that decide when no model can. They are data and travel in the bundle, like thresholds."""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.policy.thresholds import Share, Thresholds

Op: TypeAlias = Literal[">", ">=", "<", "<="]
_COMPARE = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}
_DECIMALS = 9  # so that 0.05 + 0.18 + 0.12 is 0.35, and reaches a threshold of 0.35


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature compared with a constant. A missing feature satisfies no condition."""

    feature: str
    op: Op
    value: float

    def __post_init__(self) -> None:
        if self.op not in _COMPARE:
            raise InvalidDefinition(f"fallback: {self.op!r} compares nothing; use one of {', '.join(_COMPARE)}")
        if not math.isfinite(self.value):
            raise InvalidDefinition(f"fallback: {self.feature} is compared with {self.value}; give a number")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to add to the score when every condition holds, and why, in words for an analyst."""

    when: tuple[Condition, ...]
    add: float
    reason: str

    def __post_init__(self) -> None:
        if not self.when:
            raise InvalidDefinition(f"fallback: rule {self.reason!r} has no condition; raise the base instead")
        if not math.isfinite(self.add):
            raise InvalidDefinition(f"fallback: rule {self.reason!r} adds {self.add}; give a number")


class Fallback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A score without a model: `base`, plus what each rule that holds adds, held between 0 and 1.

    It is no probability, so it has thresholds of its own: reviewed from `review_at`, blocked from `block_at`,
    challenged from `challenge_at`; never blocked or challenged where that is None. The default has no rules: it
    approves everything. `base=1.0` blocks everything.
    """

    base: Share = 0.05
    rules: tuple[Rule, ...] = ()
    review_at: Share = 0.35
    block_at: Share | None = 0.75
    challenge_at: Share | None = None

    def __post_init__(self) -> None:
        shares = (self.base, self.review_at, 1.0 if self.block_at is None else self.block_at)
        if not all(0.0 <= share <= 1.0 for share in shares) or self.review_at > shares[2]:
            raise InvalidDefinition(
                f"fallback: base ({self.base}), review_at ({self.review_at}) and block_at ({self.block_at}) "
                "must be from 0 to 1, and review_at at most block_at"
            )
        if self.challenge_at is not None and not 0.0 <= self.challenge_at <= self.review_at:
            raise InvalidDefinition(
                f"fallback: challenge_at ({self.challenge_at}) must be from 0 to review_at ({self.review_at})"
            )

    @property
    def thresholds(self) -> Thresholds:
        """From which scores it challenges, reviews and blocks."""
        return Thresholds(review=self.review_at, block=self.block_at, challenge=self.challenge_at)

    @property
    def can_block(self) -> bool:
        """Whether its greatest possible score is blocked."""
        greatest = min(self.base + sum(max(rule.add, 0.0) for rule in self.rules), 1.0)
        return self.block_at is not None and round(greatest, _DECIMALS) >= self.block_at

    def compile(self, names: Sequence[str]) -> "CompiledFallback":
        """The rules over rows whose columns are `names`. Raises InvalidDefinition for a feature that is not there."""
        strangers = sorted({one.feature for rule in self.rules for one in rule.when} - set(names))
        if strangers:
            raise InvalidDefinition(
                f"fallback: no feature {', '.join(strangers)}; the features are {', '.join(names) or 'none'}"
            )
        return CompiledFallback(self, {name: i for i, name in enumerate(names)})


class CompiledFallback:
    """The rules with their features looked up; made by `Fallback.compile`.

    >>> late = Rule((Condition("hour", "<", 5), Condition("amount", ">", 500)), 0.4, "much at night")
    >>> compiled = Fallback(rules=(late,)).compile(("amount", "hour"))
    >>> compiled.score(np.array([[900.0, 3.0], [900.0, 12.0], [np.nan, 3.0]])).tolist()
    [0.45, 0.05, 0.05]
    """

    def __init__(self, fallback: Fallback, column_of: dict[str, int]) -> None:
        self.base = fallback.base
        self.thresholds = fallback.thresholds
        self._rules = [
            (rule.add, [(_COMPARE[one.op], column_of[one.feature], one.value) for one in rule.when])
            for rule in fallback.rules
        ]

    def score(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Scores float64 (n,) from 0 to 1 of rows (n, features), where NaN is missing."""
        wide, scores = np.asarray(rows, np.float64), np.full(len(rows), self.base, np.float64)
        for add, conditions in self._rules:
            holds = np.logical_and.reduce([compare(wide[:, column], value) for compare, column, value in conditions])
            scores[holds] += add
        clamped: NDArray[np.float64] = np.clip(np.round(scores, _DECIMALS), 0.0, 1.0) + 0.0  # no negative zero
        return clamped
