"""The fail policy: what a caller gets when something that Sentinel depends on is at fault.

What a team may choose is a field of `FailPolicy` in its detector; all else is fixed, because a guarantee rests on it:
see `fault_matrix`.
"""

from typing import Literal, TypeAlias, get_args

import msgspec

from sentinel.errors import InvalidDefinition

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
