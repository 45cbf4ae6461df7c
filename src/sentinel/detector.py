"""A detector: one kind of transaction, its features, its policy and how it is trained, in one Python file."""

import re
from typing import Literal

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import SOURCE_FORM, is_source
from sentinel.events.schema import Schema
from sentinel.features.definitions import Feature
from sentinel.features.faults import WrongFeature
from sentinel.features.plan import FORGET_AFTER, FeaturePlan, compile_plan
from sentinel.learner import Imbalance, Learner, XGBoost
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fallback import Fallback
from sentinel.policy.holdout import Holdout
from sentinel.policy.policies import AnyPolicy, Policy
from sentinel.policy.thresholds import Action

_CURRENCY = re.compile(r"[A-Z]{3}")


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the model is fitted: what is learned from, and the learner with its own settings.

    History is split by time: the last `test_share` is only ever reported on, the `validation_share` before it
    stops the fit early and sets the thresholds, the rest is learned from. `gap` leaves out as much time before
    the validation and before the test part, for histories whose labels come late. With `split="random"` the parts
    are drawn whatever the time, by `seed`: what a model learns from is then partly newer than what it is measured on,
    and figures are better than live ones. It is there to compare with figures that were made so. Categories seen fewer
    than `rare_below` times in training share the code of the unknown.

    `imbalance` is what is done about frauds being few, on the training part alone: `class_weight` gives each fraud the
    weight of as many legitimate transactions as there are for it, `smote` adds synthetic frauds until there are as many
    as legitimate transactions, `undersample` leaves out legitimate ones until there are as few. All of them raise every
    score: what is a probability with `none` is only an order then.
    """

    split: Literal["time", "random"] = "time"
    validation_share: float = 0.15
    test_share: float = 0.15
    gap: str | None = None
    rare_below: int = 20
    seed: int = 42
    imbalance: Imbalance = "none"
    learner: Learner = XGBoost()

    def __post_init__(self) -> None:
        if not (self.validation_share > 0 and self.test_share > 0 and self.validation_share + self.test_share < 0.9):
            raise InvalidDefinition("training: validation_share and test_share must be positive and below 0.9 together")
        if self.imbalance != "none" and isinstance(self.learner, XGBoost) and self.learner.scale_pos_weight != 1:
            raise InvalidDefinition(
                f"training: scale_pos_weight and imbalance={self.imbalance!r} both weigh frauds; choose one"
            )


class Detector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a team declares about one kind of transaction.

    `fallback` are the rules that decide where the model cannot, and `on_fault` says where one action takes their place.
    With a `holdout` a small share of what would be blocked is approved, to learn what it is.
    `forget_after` is how long a key is remembered after its last transaction for features that have no window, such as
    `seconds_since_last`; for those that have one it is remembered as long as that reaches back. `trusts` are the
    sources whose outcomes count in fraud counts and rates (`("bank", "analyst")`), None for all; the model that is
    trained with it keeps to it. `reasons` are words for features, by name, that people read beside a decision
    (`{"card_count_1h": "many payments of this card within an hour"}`). `currency` is that of the amounts (ISO 4217,
    `EUR`), which is shown beside them; where amounts are of several, a category named `currency` says which.
    """

    schema: Schema
    features: tuple[Feature, ...]
    policy: AnyPolicy = Policy()
    fallback: Fallback = Fallback()
    on_fault: FailPolicy = FailPolicy()
    holdout: Holdout | None = None
    training: Training = Training()
    forget_after: str = FORGET_AFTER
    trusts: tuple[str, ...] | None = None
    reasons: dict[str, str] = {}
    currency: str | None = None
    name: str = "detector"

    def __post_init__(self) -> None:
        if not isinstance(self.features, tuple) or not all(isinstance(one, Feature) for one in self.features):
            raise InvalidDefinition('features: write a tuple of features, as in (field("amount"),) with its comma')
        if isinstance(self.trusts, str):
            raise InvalidDefinition(f'trusts: is a text; write a tuple, ("{self.trusts}",) with its comma')
        for source in self.trusts or ():
            if not is_source(source):
                raise InvalidDefinition(f"trusts: {source!r} is no source of outcomes; use {SOURCE_FORM}")
        plan = self.plan({})
        try:
            compile_plan(plan)
        except WrongFeature as error:
            raise InvalidDefinition(f"{error.feature.line}: {error}") from error
        unknown = self.reasons.keys() - set(plan.names)
        if unknown:
            raise InvalidDefinition(
                f"reasons: {', '.join(sorted(unknown))} is no feature; there are {', '.join(plan.names)}"
            )
        if self.currency is not None and not _CURRENCY.fullmatch(self.currency):
            raise InvalidDefinition(f"currency: {self.currency!r} is none; write three letters as ISO 4217 does: EUR")
        self.fallback.check(plan.names)
        self._check_stand_ins()
        for action in self.holdout.actions if self.holdout else ():
            if action not in self.policy.actions:
                raise InvalidDefinition(f"holdout: the policy never does what it is of: {action}; leave that out")
        if self.holdout and {self.schema.id, self.schema.time} & {*self.schema.optional}:
            raise InvalidDefinition("holdout: needs transactions that have ids of their own; make the id required")

    def _check_stand_ins(self) -> None:
        """Rules and fixed answers do nothing that the policy never does."""
        if Action.BLOCK not in self.policy.actions:
            if self.fallback.can_block:
                raise InvalidDefinition(
                    f"fallback: blocks from {self.fallback.block_at}, but the policy never blocks; set block_at=None"
                )
            if self.on_fault.can_block:
                raise InvalidDefinition("on_fault: blocks, but the policy never does; choose review instead")
        if Action.CHALLENGE not in self.policy.actions:
            if self.fallback.challenge_at is not None:
                raise InvalidDefinition(
                    f"fallback: challenges from {self.fallback.challenge_at}, but the policy never challenges; "
                    "leave challenge_at out, or give the policy a challenge"
                )
            if self.on_fault.can_challenge:
                raise InvalidDefinition("on_fault: challenges, but the policy never does; choose review instead")

    def plan(self, vocabulary: dict[str, tuple[str, ...]]) -> FeaturePlan:
        """The feature plan, once the categories are known."""
        trusts = msgspec.UNSET if self.trusts is None else self.trusts
        return FeaturePlan(self.schema, self.features, vocabulary, self.forget_after, trusts)

    @property
    def counted_events(self) -> tuple[str, ...]:
        """The kinds of context events that its features count or time, in alphabetical order."""
        return tuple(sorted({one.event for feature in self.features for one in feature.all_parts if one.event}))

    @property
    def categorical(self) -> tuple[str, ...]:
        """Fields whose values are learned as codes."""
        return tuple(feature.of or "" for feature in self.features if feature.kind == "category")
