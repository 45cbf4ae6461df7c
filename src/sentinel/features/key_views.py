"""Which features of a plan are known of which key: the views of Feast, and of the online view."""

from collections.abc import Sequence
from typing import NamedTuple

from sentinel.features.definitions import Feature
from sentinel.features.plan import FeaturePlan

TIME = "event_timestamp"


class View(NamedTuple):
    """A feature view: its name, the fields that join to it, and its columns with the places of their features.

    What is known of a key `ages`; what a transaction was decided with does not.
    """

    name: str
    keys: tuple[str, ...]
    columns: dict[str, int]
    ages: bool


def views_of(plan: FeaturePlan) -> list[View]:
    """A view for every key that features follow, alone, and one of all features by the transaction's id.

    What a key's view has is what its newest transaction had, that one included. A feature that follows several keys, or
    none, is in the view of transactions only.
    """
    of_key: dict[tuple[str, ...], list[int]] = {}
    for place, feature in enumerate(plan.features):
        followed = {part.key for part in feature.all_parts if part.key}
        if len(followed) == 1:
            of_key.setdefault(followed.pop(), []).append(place)
    id_ = plan.schema.id
    views = [_view(plan, key, places, ages=True) for key, places in of_key.items()]
    return [*views, _view(plan, (id_,), range(len(plan.features)), ages=False)]


def _view(plan: FeaturePlan, keys: tuple[str, ...], places: Sequence[int], *, ages: bool) -> View:
    columns = {_column(plan.features[one], {TIME, *keys}): one for one in places}
    return View(f"{'_and_'.join(keys)}_features", keys, columns, ages)


def _column(feature: Feature, taken: set[str]) -> str:
    """Its name, with `_feature` behind it where a field that joins has the same one."""
    return f"{feature.name}_feature" if feature.name in taken else feature.name
