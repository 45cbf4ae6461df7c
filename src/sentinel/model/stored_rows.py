"""Features that were stored with a decision, as another model would have them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import Conflict
from sentinel.features.plan import FeaturePlan


def carried_over(
    row: NDArray[np.float64], made_by: FeaturePlan, wanted: FeaturePlan, fields: Mapping[str, Any]
) -> NDArray[np.float64]:
    """The features (m,) of the plan `wanted`, from those (n,) that `made_by` computed of a transaction of these fields.

    That can be done where each feature is one of `made_by`, under whatever place: what was counted then is what it is.
    Categories get the code of their text in the plan that is wanted. Raises Conflict where a feature was not computed
    then.
    """
    places = {feature: place for place, feature in enumerate(made_by.features)}
    lacking = [feature.name for feature in wanted.features if feature not in places]
    if lacking:
        raise Conflict(f"the transaction was decided without {', '.join(lacking[:10])}, which the champion asks for")
    if _surroundings(made_by) != _surroundings(wanted):
        raise Conflict(
            "the transaction was decided by another schema, or other rules of forgetting, than the champion's"
        )
    return np.array([
        _code(fields.get(of), wanted.vocabulary[of])
        if (of := feature.of or "") in wanted.vocabulary
        and feature.kind == "category"
        and made_by.vocabulary.get(of) != wanted.vocabulary[of]
        else row[places[feature]]
        for feature in wanted.features
    ])  # fmt: skip


def _surroundings(plan: FeaturePlan) -> FeaturePlan:
    """All of a plan that its features rest on, besides themselves and what categories there are."""
    return msgspec.structs.replace(plan, features=(), vocabulary={})


def _code(text: Any, known: tuple[str, ...]) -> float:
    """As the kernel has it: NaN for what is missing, one code above them all for what was not learned."""
    if text is None:
        return np.nan
    return float(known.index(text)) if text in known else float(len(known))
