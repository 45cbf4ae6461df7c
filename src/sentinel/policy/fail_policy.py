"""The fail policy: what a caller gets when something that Sentinel depends on is at fault.

What a team may choose is a field of `FailPolicy` in its detector; all else is fixed, because a guarantee rests on it:
see `fault_matrix`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.policy.fallback import CompiledFallback, Fallback
from sentinel.policy.fault_matrix import CHOICE_OF

InItsPlace: TypeAlias = Literal["rules", "approve", "challenge", "review", "block"]


class FailPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a detector answers where the model cannot: the fallback `rules`, or one action for all transactions.

    - `too_slow`: the model did not answer in time.  `failed`: it raised, or gave no probabilities.
    - `left_alone`: it failed so often that it is not asked for a while.
    - `no_time`: the transaction has waited too long for others, or would have by its turn.

    Saved in the bundle. The scores of a fixed action are constants and no probabilities: 0, 0.25, 0.5 or 1.

    >>> FailPolicy(no_time="review").no_time
    'review'
    """

    too_slow: InItsPlace = "rules"
    failed: InItsPlace = "rules"
    left_alone: InItsPlace = "rules"
    no_time: InItsPlace = "rules"

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) not in get_args(InItsPlace):
                raise InvalidDefinition(
                    f"on_fault: {name} is {getattr(self, name)!r}; choose one of {', '.join(get_args(InItsPlace))}"
                )

    @property
    def can_block(self) -> bool:
        """Whether any fault blocks every transaction."""
        return "block" in msgspec.structs.astuple(self)

    @property
    def can_challenge(self) -> bool:
        """Whether any fault challenges every transaction."""
        return "challenge" in msgspec.structs.astuple(self)


_FIXED: Mapping[str, Fallback] = {
    "approve": Fallback(base=0.0, review_at=1.0, block_at=None),
    "challenge": Fallback(base=0.25, challenge_at=0.25, review_at=1.0, block_at=None),
    "review": Fallback(base=0.5, review_at=0.5, block_at=None),
    "block": Fallback(base=1.0, review_at=1.0, block_at=1.0),
}
"""One action for all: rules without a rule, whose base always leads to it."""


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
        self._rules = StandIn(fallback.compile(names), is_fixed=False)
        self._by_reason = {
            reason: StandIn(_FIXED[answer].compile(names), is_fixed=True)
            for reason, choice in CHOICE_OF.items()
            if (answer := getattr(policy, choice)) != "rules"
        }

    def stand_in(self, reason: str | None) -> StandIn:
        """What decides where the model does not for this reason."""
        return self._by_reason.get(reason or "", self._rules)
