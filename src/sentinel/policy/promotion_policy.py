"""The promotion policy: what a model has to be before it may decide, as `promotion_policy.yaml` says it.

Every field is a demand, and a model that misses one is refused; a field that is left out demands nothing. Names are
those of the file. Shares are from 0 to 1, durations as `30d`.
"""

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.policy.costs import Costs
from sentinel.policy.thresholds import Share
from sentinel.policy.written_files import check_known, read_yaml

FILE = "promotion_policy.yaml"
"""Name of the policy in a home folder; where it is, no model is promoted without having passed it."""

Duration = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]*[smhdw]$")]
_AtLeast0 = Annotated[float, msgspec.Meta(ge=0.0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class RecallAtFpr(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The share of frauds found while at most `fpr` of the legitimate transactions are alarms."""

    fpr: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
    recall: Share


class MostCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a transaction may cost on average at the model's own thresholds.

    `missed_fraud` is what an approved fraud costs: its `amount`, or a number. `false_alarm` is what it costs to turn a
    legitimate payer away, `review` what an analyst costs for each transaction that is reviewed.
    """

    per_transaction: _AtLeast0
    missed_fraud: Literal["amount"] | _AtLeast0 = "amount"
    false_alarm: _AtLeast0 = 0.0
    review: _AtLeast0 = 0.0

    @property
    def costs(self) -> Costs:
        """The same as a detector declares it."""
        share, fixed = (1.0, 0.0) if self.missed_fraud == "amount" else (0.0, float(self.missed_fraud))
        return Costs(missed_fraud_share=share, missed_fraud=fixed, false_alarm=self.false_alarm, review=self.review)


class SegmentFloor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What has to hold in every segment `by` (a category, or amount) that has `min_frauds` frauds or more."""

    by: str
    min_frauds: Annotated[int, msgspec.Meta(ge=1)] = 20
    min_pr_auc_val: Share | None = None
    min_recall_at_fpr: RecallAtFpr | None = None

    def __post_init__(self) -> None:
        if self.min_pr_auc_val is None and self.min_recall_at_fpr is None:
            raise ValueError(f"segments by {self.by} demand nothing; give min_pr_auc_val or min_recall_at_fpr")


class ShadowAgreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """As a shadow it has to have decided as what was answered, in this share of so many transactions or more."""

    agreement: Share
    min_compared: Annotated[int, msgspec.Meta(ge=1)] = 1000


class PromotionPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a model has to be. `min_pr_auc_val` is average precision, `min_roc_auc_val` the area under the ROC curve.

    - `not_worse_than_champion`: the interval of the paired difference of average precision is not all below 0.
    - `max_loss_to_champion`: and its lower end is not further below 0 than this.
    - `max_latency_us`: a row through the exported model, in batches of 64.
    - `max_age`: of the newest row that was learned from.
    - `label_delay`: how long labels take; what is younger at the end of the file counts as unknown.
    - `require_certificate`: the exported model was compared with the trained one on every split.
    - `min_shadow_agreement`: asked for by promotion alone.
    """

    min_pr_auc_val: Share | None = None
    min_roc_auc_val: Share | None = None
    min_frauds: _Count | None = None
    min_recall_at_fpr: RecallAtFpr | None = None
    max_cost: MostCost | None = None
    max_calibration_error: Share | None = None
    max_latency_us: _AtLeast0 | None = None
    max_age: Duration | None = None
    require_certificate: bool = False
    not_worse_than_champion: bool = False
    max_loss_to_champion: Share | None = None
    segments: tuple[SegmentFloor, ...] = ()
    min_shadow_agreement: ShadowAgreement | None = None
    label_delay: Duration | None = None

    @property
    def sha256(self) -> str:
        """Fingerprint of what is demanded, whatever the file looks like."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @property
    def demands(self) -> tuple[str, ...]:
        """The fields that demand something, in their order."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "label_delay"}
        return tuple(name for name, one in fields.items() if one is not None and one is not False and one != ())


def read_policy(path: Path) -> PromotionPolicy:
    """The policy of a file. Raises FileNotFoundError, and InvalidDefinition for what cannot be meant."""
    return policy_of(read_yaml(path), str(path))


def policy_of(found: Any, named: str = FILE) -> PromotionPolicy:
    """The policy that a mapping says. Raises InvalidDefinition, which names the nearest field for an unknown one."""
    if not isinstance(found, dict):
        raise InvalidDefinition(f"{named} has no fields; write one a line, as in min_pr_auc_val: 0.72")
    check_known(found, PromotionPolicy, named, _INNER)
    _check_finite(found, named)
    try:
        policy = msgspec.convert(found, PromotionPolicy)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f"{named}: {error}") from error
    if not policy.demands:
        raise InvalidDefinition(f"{named} demands nothing, so every model would pass; write min_pr_auc_val: 0.72")
    return policy


def _check_finite(found: Any, where: str) -> None:
    """Raise InvalidDefinition for a number that is none: any model is below infinity."""
    if isinstance(found, float) and not math.isfinite(found):
        raise InvalidDefinition(f"{where} is {found}, which demands nothing; write a number, or leave it out")
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for name, one in inner:
        _check_finite(one, f"{where}: {name}")


_INNER: dict[str, type[msgspec.Struct]] = {
    "min_recall_at_fpr": RecallAtFpr,
    "max_cost": MostCost,
    "segments": SegmentFloor,
    "min_shadow_agreement": ShadowAgreement,
}
