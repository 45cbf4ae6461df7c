"""Stored features as another model has them: what the kernel computes with that model's plan, to the bit."""

import msgspec
import numpy as np
import pytest

from sentinel.errors import Conflict
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.features.definitions import count
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import read_manifest
from sentinel.model.stored_rows import carried_over


@pytest.fixture(scope="module")
def made_by(shop_home):
    return read_manifest(shop_home / "models" / "v1").plan


@pytest.fixture(scope="module")
def history(make_shop_frame, made_by):
    return history_of_frame(make_shop_frame(300, seed=9), made_by.schema).frame


def rows_of(plan: FeaturePlan, history):
    return MemoryStore(plan).advance(columns_of_frame(plan.schema, history)).rows


@pytest.mark.parametrize(
    "vocabulary", [("chip", "web"), ("web",), ("fax", "web", "chip"), ()], ids=["turned", "less", "more", "none"]
)
def test_what_another_plan_computes_is_what_is_carried_over(made_by, history, vocabulary):
    known = {name: vocabulary if name == "channel" else values for name, values in made_by.vocabulary.items()}
    wanted = msgspec.structs.replace(made_by, features=made_by.features[::-2], vocabulary=known)
    stored, expected = rows_of(made_by, history), rows_of(wanted, history)
    for row, computed, fields in zip(stored, expected, history.iter_rows(named=True), strict=True):
        assert np.array_equal(carried_over(row, made_by, wanted, fields), computed, equal_nan=True)


def test_a_feature_that_was_not_computed_is_named(made_by):
    wanted = msgspec.structs.replace(made_by, features=(*made_by.features, count(by="card", over="77d")))
    with pytest.raises(Conflict, match="decided without count_by_card_77d"):
        carried_over(np.zeros(len(made_by.features)), made_by, wanted, {})


def test_features_of_another_way_to_forget_are_others(made_by):
    with pytest.raises(Conflict, match="other rules of forgetting"):
        carried_over(np.zeros(len(made_by.features)), made_by, msgspec.structs.replace(made_by, forget_after="5d"), {})
