"""How long a review may wait for somebody, and what it comes to when nobody took it by then."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.times import duration_us
from sentinel.policy.results import DEFAULTS, Result
from sentinel.policy.thresholds import Action


class Due(NamedTuple):
    """A review that nobody took within `within_us` comes to `result`."""

    within_us: int
    result: Result


class ReviewTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every policy says of its reviews: `review_within` such as `4h`, and `review_default`, `approve` or `block`.

    Without `review_within` a review waits for ever.
    """

    review_within: str | None = None
    review_default: Literal["approve", "block"] = "approve"

    def __post_init__(self) -> None:
        if self.review_within is not None and not duration_us(self.review_within) > 0:
            raise InvalidDefinition(f"policy: review_within is {self.review_within}; give a time such as 4h")


def due_by(policy: Mapping[str, Any]) -> Due | None:
    """What the policy of a bundle says, as its manifest has it; None where reviews wait for ever.

    >>> due_by({"by": "false_alarms", "review_within": "4h", "review_default": "block"})
    Due(within_us=14400000000, result=<Result.REVIEW_DECLINED: 'review_declined'>)
    """
    within = policy.get("review_within")
    if within is None:
        return None
    return Due(duration_us(within), DEFAULTS[Action(policy.get("review_default", "approve"))])
