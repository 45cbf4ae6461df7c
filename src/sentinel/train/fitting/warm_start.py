"""A warm start: further trees of the same kind on what the champion's trees leave unexplained."""

from dataclasses import dataclass

import numpy as np

from sentinel.detector import Detector
from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events.times import iso
from sentinel.features.plan import FeaturePlan
from sentinel.learner import LEARNERS
from sentinel.model.bundle import Bundle, plan_sha256
from sentinel.train.fitting.fit import GROWS
from sentinel.train.fitting.grown import EarlierTrees
from sentinel.train.rows.dataset import NEWEST, Dataset, joined
from sentinel.train.rows.folds import Fold

FULL_FIT = "leave --warm-start out for a full fit"


@dataclass(frozen=True, slots=True)
class Parent:
    """A model that trees are added to: its version, trees and plan, and the newest row that it has learned from."""

    version: str
    trees: EarlierTrees
    plan: FeaturePlan
    newest_us: int


def parent_of(bundle: Bundle, model: bytes, detector: Detector) -> Parent:
    """The parent that a champion is, with its `model` as ONNX.

    Raises InvalidDefinition where the detector's learner cannot add trees to it, or where it has other features, whose
    columns its trees would read wrongly.
    """
    manifest, learner = bundle.manifest, detector.training.learner
    kind = str(type(learner).__struct_config__.tag)
    own = (manifest.training.get("learner") or {}).get("name")
    if not isinstance(learner, GROWS):
        able = ", ".join(name for name, one in LEARNERS.items() if one in GROWS)
        raise InvalidDefinition(f"{kind} adds no trees to others, {able} do; {FULL_FIT}")
    if own != kind:
        raise InvalidDefinition(
            f"the champion {manifest.version} was made by {own}, and the detector learns with {kind}; {FULL_FIT}"
        )
    if plan_sha256(detector.plan(manifest.plan.vocabulary)) != plan_sha256(manifest.plan):
        raise InvalidDefinition(
            f"the champion {manifest.version} has other features than the detector, or reads other fields; {FULL_FIT}"
        )
    if detector.training.split != "time" or NEWEST not in manifest.training:
        raise InvalidDefinition(
            f"what the champion {manifest.version} has not learned from cannot be told by time; {FULL_FIT}"
        )
    try:
        trees = EarlierTrees(model)
    except InvalidDefinition as error:
        raise InvalidDefinition(f"the champion {manifest.version}: {error}; {FULL_FIT}") from None
    return Parent(manifest.version, trees, manifest.plan, int(manifest.training[NEWEST]))


def fold_after(parent: Parent, data: Dataset) -> Fold:
    """The training part, and of the validation part what is newer than all that the parent has learned from.

    Its scores of rows that it learned from are too good, so nothing is stopped, calibrated or decided by those. Raises
    DataProblem where what is newer has one kind of row alone.
    """
    part = joined(data.train, data.validation)
    first = max(len(data.train), int(np.searchsorted(part.time_us, parent.newest_us, side="right")))
    newer = np.arange(first, len(part))
    frauds = int(np.count_nonzero(part.labels[newer] == 1))
    if frauds in (0, len(newer)):
        raise DataProblem(
            f"of the {len(data.validation):,} rows before the test part {len(newer):,} are newer than what the "
            f"champion {parent.version} has learned from (up to {iso(parent.newest_us)}), and {frauds:,} of them are "
            f"frauds; both kinds are needed to say how many trees to add: bring newer labels, or {FULL_FIT}"
        )
    return Fold(np.arange(len(data.train)), newer)
