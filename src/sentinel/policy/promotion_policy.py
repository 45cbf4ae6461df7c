"""The promotion policy: what a model has to be before it may decide, as `promotion_policy.yaml` says it.

Every field is a demand, and a model that misses one is refused; a field that is left out demands nothing. Names are
those of the file. Shares are from 0 to 1, durations as `30d`.
"""

import difflib
import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from sentinel.errors import InvalidDefinition
from sentinel.policy.costs import Costs
from sentinel.policy.thresholds import Share

FILE = "promotion_policy.yaml"
"""Name of the policy in a home folder; where it is, no model is promoted without having passed it."""

MOST_BYTES = 1 << 20
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


class _Strict(yaml.SafeLoader):
    """A safe loader that takes no name twice: the last one would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See SafeLoader. Raises ConstructorError."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_policy(path: Path) -> PromotionPolicy:
    """The policy of a file. Raises FileNotFoundError, and InvalidDefinition for what cannot be meant."""
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise InvalidDefinition(f"{path} is larger than 1 MB; it is no promotion policy")
    try:
        found = yaml.load(raw, Loader=_Strict)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidDefinition(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    return policy_of(found, str(path))


def policy_of(found: Any, named: str = FILE) -> PromotionPolicy:
    """The policy that a mapping says. Raises InvalidDefinition, which names the nearest field for an unknown one."""
    if not isinstance(found, dict):
        raise InvalidDefinition(f"{named} has no fields; write one a line, as in min_pr_auc_val: 0.72")
    _check_known(found, PromotionPolicy, named)
    try:
        policy = msgspec.convert(found, PromotionPolicy)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f"{named}: {error}") from error
    if not policy.demands:
        raise InvalidDefinition(f"{named} demands nothing, so every model would pass; write min_pr_auc_val: 0.72")
    return policy


def _check_known(found: Any, kind: Any, where: str) -> None:
    """Raise InvalidDefinition for a field that `kind` does not have, also inside of its fields."""
    if isinstance(found, list):
        for number, one in enumerate(found):
            _check_known(one, kind, f"{where}[{number}]")
        return
    if not isinstance(found, dict):
        return
    known = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in found.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise InvalidDefinition(f"{where} has no field {str(name)[:80]!r}; the nearest is {near}")
        inner = _INNER.get(name)
        if inner is not None:
            _check_known(value, inner, f"{where}: {name}")


_INNER: dict[str, type[msgspec.Struct]] = {
    "min_recall_at_fpr": RecallAtFpr,
    "max_cost": MostCost,
    "segments": SegmentFloor,
    "min_shadow_agreement": ShadowAgreement,
}
