"""A detector: one kind of transaction, its features, its policy and how it is trained, in one Python file."""

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import SOURCE_FORM, is_source
from sentinel.events.schema import Schema
from sentinel.features.definitions import Feature
from sentinel.features.faults import WrongFeature
from sentinel.features.plan import FORGET_AFTER, FeaturePlan, compile_plan
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fallback import Fallback
from sentinel.policy.thresholds import Policy


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the model is fitted. The names from `max_depth` on are XGBoost's own.

    History is split by time: the last `test_share` is only ever reported on, the `validation_share` before it
    stops the fit early and sets the thresholds, the rest is learned from. `gap` leaves out as much time before
    the validation and before the test part, for histories whose labels come late. Categories seen fewer than
    `rare_below` times in training share the code of the unknown.
    """

    validation_share: float = 0.15
    test_share: float = 0.15
    gap: str | None = None
    rare_below: int = 20
    trees: int = 600
    patience: int = 50
    seed: int = 42
    max_depth: int = 6
    learning_rate: float = 0.05
    subsample: float = 0.9
    colsample_bytree: float = 0.8
    min_child_weight: float = 1.0
    reg_lambda: float = 1.0
    gamma: float = 0.0
    scale_pos_weight: float = 1.0
    eval_metric: str = "aucpr"
    tree_method: str = "hist"
    max_bin: int = 256

    def __post_init__(self) -> None:
        if not (self.validation_share > 0 and self.test_share > 0 and self.validation_share + self.test_share < 0.9):
            raise InvalidDefinition("training: validation_share and test_share must be positive and below 0.9 together")


class Detector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a team declares about one kind of transaction.

    `fallback` are the rules that decide where the model cannot, and `on_fault` says where one action takes their place.
    `forget_after` is how long a key is remembered after its last transaction for features that have no window, such as
    `seconds_since_last`; for those that have one it is remembered as long as that reaches back. `trusts` are the
    sources whose outcomes count in fraud counts and rates (`("bank", "analyst")`), None for all; the model that is
    trained with it keeps to it. `reasons` are words for features, by name, that people read beside a decision
    (`{"card_count_1h": "many payments of this card within an hour"}`).
    """

    schema: Schema
    features: tuple[Feature, ...]
    policy: Policy = Policy()
    fallback: Fallback = Fallback()
    on_fault: FailPolicy = FailPolicy()
    training: Training = Training()
    forget_after: str = FORGET_AFTER
    trusts: tuple[str, ...] | None = None
    reasons: dict[str, str] = {}
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
        self.fallback.compile(plan.names)
        if self.policy.block_at_fpr is None and self.fallback.can_block:
            raise InvalidDefinition(
                f"fallback: blocks from {self.fallback.block_at}, but the policy never blocks; set block_at=None"
            )
        if self.policy.block_at_fpr is None and self.on_fault.can_block:
            raise InvalidDefinition("on_fault: blocks, but the policy never does; choose review instead")

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
