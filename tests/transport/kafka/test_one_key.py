"""Several partitions: refused where a feature looks across them."""

import pytest

from sentinel import Detector, Schema, count, field, mean
from sentinel.errors import InvalidDefinition
from sentinel.features.plan import FeaturePlan
from sentinel.transport.kafka.one_key import check_one_key

SCHEMA = Schema(keys=("card", "shop"))


def plan(*features):
    found = Detector(schema=SCHEMA, features=features)
    return FeaturePlan(schema=found.schema, features=found.features)


def test_features_of_the_first_key_alone_or_together_with_another_may_have_many_partitions():
    check_one_key(plan(field("amount"), count(by="card", over="1h"), mean("amount", by=("card", "shop"), over="1d")), 8)


def test_another_key_needs_one_partition_and_is_named():
    other = plan(count(by="card", over="1h"), count(by="shop", over="1h"))
    check_one_key(other, 1)
    with pytest.raises(InvalidDefinition, match="has 2 partitions, by card, and features follow shop, too"):
        check_one_key(other, 2)
