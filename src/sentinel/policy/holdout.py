"""The approval holdout: a few of what would be turned away are approved, so that it is learned what they were."""

import hashlib
from typing import Annotated

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.policy.thresholds import Action

SHORTEST_SEED = 16
DAY_US = 86_400_000_000

_Amount = Annotated[float, msgspec.Meta(gt=0.0)]


class Holdout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of the transactions that a model would have taken these `actions` on, a share that is approved instead.

    - `share`: the probability of each that is eligible, above 0 and at most 0.5.
    - `most_amount`: none of a larger amount.  `budget_a_day`: nor any with which the amounts approved in a day (UTC)
      would be more than that in all. Both in the unit of the amount.
    - `actions`: `block`; `review` and `challenge` too, if you like.
    - `seed`: a secret text of 16 characters or more: who knows it, and chooses ids, chooses what is approved.
    """

    share: float
    most_amount: _Amount
    budget_a_day: _Amount
    seed: str
    actions: tuple[Action, ...] = (Action.BLOCK,)

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 0.5:
            raise InvalidDefinition(f"holdout: share is {self.share}; give one above 0 and at most 0.5")
        if not 0.0 < self.most_amount <= self.budget_a_day < float("inf"):
            raise InvalidDefinition(
                f"holdout: most_amount ({self.most_amount}) must be above 0 and at most budget_a_day "
                f"({self.budget_a_day})"
            )
        if not self.actions or Action.APPROVE in self.actions:
            raise InvalidDefinition("holdout: actions are those to approve a share of: block, review, challenge")
        if len(self.seed) < SHORTEST_SEED:
            raise InvalidDefinition(f"holdout: the seed has to have {SHORTEST_SEED} characters or more, and be secret")

    def chooses(self, transaction_id: str) -> bool:
        """Whether the draw of this transaction is for approval: the same whenever it is asked."""
        key = hashlib.sha256(self.seed.encode()).digest()
        drawn = hashlib.blake2b(transaction_id.encode(errors="surrogatepass"), digest_size=8, key=key).digest()
        return int.from_bytes(drawn, "little") < self.share * 2**64

    def is_eligible(self, amount: float, spent: float) -> bool:
        """Whether a transaction may be drawn, after so much was approved that day."""
        return 0.0 <= amount <= self.most_amount and spent + amount <= self.budget_a_day


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """What a holdout has approved on one day (UTC, in days since 1970), in the unit of the amount."""

    day: int
    amount: float

    def on(self, now_us: int) -> "Spent":
        """The same at this moment: nothing, on another day."""
        day = now_us // DAY_US
        return self if day == self.day else Spent(day, 0.0)

    def plus(self, amount: float) -> "Spent":
        """With one more."""
        return Spent(self.day, self.amount + amount)
