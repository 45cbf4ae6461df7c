"""Several partitions: their transactions are in no order among each other, so features must not look across them."""

from sentinel.errors import InvalidDefinition
from sentinel.features.plan import FeaturePlan


def check_one_key(plan: FeaturePlan, partitions: int) -> None:
    """Raise InvalidDefinition where a feature follows another key than the first, and there are several partitions."""
    keys = plan.schema.keys
    if partitions < 2 or not keys:
        return
    others = [one for one in keys_followed(plan) if keys[0] not in one.split("+")]
    if others:
        raise InvalidDefinition(
            f"the topic of transactions has {partitions} partitions, by {keys[0]}, and features follow "
            f"{', '.join(others)}, too: what belongs together would be read from several partitions, which are in no "
            f"order of time after a pause; give the topic one partition, or serve a model of {keys[0]} alone"
        )


def keys_followed(plan: FeaturePlan) -> list[str]:
    """The keys that features remember something of, each once; of several fields together as `card_id+merchant_id`."""
    found = (name.rpartition(":")[2] for name in plan.compiled.names)
    return list(dict.fromkeys(found))
