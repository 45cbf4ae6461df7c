"""The fallback: rules that decide when no model can. They are data and travel in the bundle, like thresholds."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.policy.rules import tree
from sentinel.policy.rules.reading import Names, column_text, read_condition
from sentinel.policy.rules.words import RuleFault
from sentinel.policy.thresholds import Share, Thresholds

DECIMALS = 9  # so that 0.05 + 0.18 + 0.12 is 0.35, and reaches a threshold of 0.35


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature compared with a constant: how bundles of before had conditions."""

    feature: str
    op: Literal[">", ">=", "<", "<="]
    value: float

    @property
    def text(self) -> str:
        """It in the language of rules."""
        return f"{column_text(self.feature)} {self.op} {self.value!r}"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to add to the score when a condition over the features holds, and why, in words for an analyst.

    `when` is in the language of rules: `amount > 250 and count_by_card_id_10m > 3`.
    """

    when: str | tuple[Condition, ...]
    add: float
    reason: str

    def __post_init__(self) -> None:
        if not self.when:
            raise InvalidDefinition(f"fallback: rule {self.reason!r} has no condition; raise the base instead")
        if not isinstance(self.when, str):
            msgspec.structs.force_setattr(self, "when", " and ".join(one.text for one in self.when))
        if not math.isfinite(self.add):
            raise InvalidDefinition(f"fallback: rule {self.reason!r} adds {self.add}; give a number")

    def read(self, names: Sequence[str]) -> tree.Condition:
        """The condition over features of these names. Raises InvalidDefinition."""
        try:
            return read_condition(str(self.when), Names(names))
        except RuleFault as fault:
            raise InvalidDefinition(f"fallback: rule {self.reason!r}: {fault}") from None


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
        return self.block_at is not None and round(greatest, DECIMALS) >= self.block_at

    def check(self, names: Sequence[str]) -> None:
        """Raise InvalidDefinition for a rule that cannot be read over features of these names."""
        for rule in self.rules:
            rule.read(names)
