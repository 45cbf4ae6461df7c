"""Whether profiles suffice: which detectors can be decided by those who have a transaction and its keys' profiles."""

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.columns import TRANSACTION
from sentinel.events.reader import TransactionReader
from sentinel.features.plan import FeaturePlan


def check_profiles_suffice(plan: FeaturePlan, settings: Settings) -> None:
    """Raise InvalidDefinition for a plan whose features need more, or for secrets without a key."""
    schema = plan.schema
    lacking = [
        said
        for is_so, said in (
            (any(group.feeds != TRANSACTION for group in plan.compiled.groups), "features of context events"),
            (bool(schema.tables), "reference tables"),
            (bool(schema.personal), "personal fields: no keys of subjects are kept there"),
            (settings.given_key_before.read() is not None, "a hash key that follows another one; finish the change"),
        )
        if is_so
    ]
    if lacking:
        raise InvalidDefinition(f"a job of Flink, or a front, cannot do this detector: it has {'; '.join(lacking)}")
    TransactionReader(schema, settings.secrets())
