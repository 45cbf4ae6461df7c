"""The plan: feature definitions turned into the flat arrays that the kernel walks.

Every feature that follows a key belongs to that key's group. A group knows nothing of other groups: it has
its own state and is advanced on its own. The rest (plain fields, time of day, ratios) is filled in row by row.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import hash_text
from sentinel.events.schema import Schema
from sentinel.events.times import duration_us
from sentinel.features import layout as at
from sentinel.features.definitions import Feature
from sentinel.features.group_plan import exact_column, group_plan, scale_of, text_column
from sentinel.features.layout import GroupPlan, RowPlan

_ROW_KINDS = {
    "hour_of_day": at.ROW_HOUR,
    "day_of_week": at.ROW_WEEKDAY,
    "is_weekend": at.ROW_WEEKEND,
    "is_night": at.ROW_NIGHT,
}


FORGET_AFTER = "90d"


class FeaturePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything needed to compute features: saved with the model, so that serving never runs user code.

    `vocabulary` lists, for every categorical feature, the values that have a code of their own. `forget_after` is how
    long a key is remembered for features that have no window. `trusts` are the sources whose outcomes count in fraud
    counts and rates; all of them where it is not set.
    """

    schema: Schema
    features: tuple[Feature, ...]
    vocabulary: dict[str, tuple[str, ...]] = {}
    forget_after: str = FORGET_AFTER
    trusts: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET  # so, plans without it keep their fingerprint

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the model's input, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def trusted_sources(self) -> tuple[str, ...] | None:
        """The sources whose outcomes count in fraud counts and rates; None for all."""
        return None if self.trusts is msgspec.UNSET else self.trusts

    def is_trusted(self, source: str | None) -> bool:
        """Whether outcomes of this source count in fraud counts and rates."""
        return self.trusts is msgspec.UNSET or source in self.trusts


class CompiledPlan(NamedTuple):
    """What the kernel runs: a plan per key, one for the rest, and how wide the work area is."""

    groups: tuple[GroupPlan, ...]
    rows: RowPlan
    width: int
    outputs: int

    @property
    def horizon_us(self) -> int:
        """The longest that any key is remembered after its last transaction."""
        return max((group.horizon for group in self.groups), default=0)


def compile_plan(plan: FeaturePlan) -> CompiledPlan:
    """Turn definitions into arrays. Raises InvalidDefinition for what cannot be computed."""
    return _Compiler(plan).compile()


class _Compiler:
    def __init__(self, plan: FeaturePlan) -> None:
        self.plan = plan
        self.schema = plan.schema
        self.columns: dict[Feature, int] = {}
        self.by_key: dict[str, list[tuple[Feature, int]]] = {}
        self.steps: list[tuple[int, int, int, int, int]] = []
        self.known: list[int] = []
        self.codes: list[float] = []
        self.ends: list[int] = []
        self.width = len(plan.features)

    def compile(self) -> CompiledPlan:
        names = self.plan.names
        if not names:
            raise InvalidDefinition("the detector declares no features; add at least one, such as field(...)")
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise InvalidDefinition(
                f"features {', '.join(doubled)} declared twice; remove one, or rename it with .named(...)"
            )
        for column, feature in enumerate(self.plan.features):
            self.place(feature, column)
        forget_after_us = duration_us(self.plan.forget_after)
        groups = tuple(group_plan(self.schema, by, members, forget_after_us) for by, members in self.by_key.items())
        return CompiledPlan(groups, self.row_plan(), self.width, len(names))

    def place(self, feature: Feature, column: int) -> None:
        """Have `feature` written to this column of the work area."""
        if feature.kind == "ratio":
            if len(feature.parts) != 2:
                raise InvalidDefinition(f"{feature.name}: a ratio is of two features, not of {len(feature.parts)}")
            top, bottom = (self.column_of(part) for part in feature.parts)
            self.steps.append((at.ROW_RATIO, top, bottom, 1, column))
        elif feature.by is not None:
            if feature.by not in self.schema.keys:
                raise InvalidDefinition(
                    f"{feature.name}: {feature.by!r} is no key of the schema; its keys are "
                    f"{', '.join(self.schema.keys) or 'none'}"
                )
            self.by_key.setdefault(feature.by, []).append((feature, column))
        else:
            self.steps.append(self.row_step(feature, column))

    def column_of(self, part: Feature) -> int:
        """The column of a ratio's part: a hidden one, shared between ratios."""
        if part not in self.columns:
            self.columns[part] = self.width
            self.width += 1
            self.place(part, self.columns[part])
        return self.columns[part]

    def row_step(self, feature: Feature, column: int) -> tuple[int, int, int, int, int]:
        name = feature.of or ""
        if feature.kind == "category":
            return (at.ROW_CATEGORY, text_column(self.schema, feature), self.vocabulary(name), 1, column)
        if feature.kind == "field":
            if name in self.schema.numbers:
                return (at.ROW_PLAIN, self.schema.numbers.index(name), 0, 1, column)
            index = exact_column(self.schema, feature, "number")
            return (at.ROW_EXACT, index, 0, scale_of(self.schema, feature), column)
        if feature.kind not in _ROW_KINDS:
            raise InvalidDefinition(f"{feature.name}: there is no feature of kind {feature.kind!r}")
        return (_ROW_KINDS[feature.kind], feature.last_hour or 0, 0, 1, column)

    def vocabulary(self, name: str) -> int:
        words = self.plan.vocabulary.get(name, ())
        coded = sorted((hash_text(word), float(code)) for code, word in enumerate(words))
        self.known += [one[0] for one in coded]
        self.codes += [one[1] for one in coded]
        self.ends.append(len(self.known))
        return len(self.ends) - 1

    def row_plan(self) -> RowPlan:
        return RowPlan(
            steps=np.array(self.steps, dtype=np.int64).reshape(len(self.steps), 5),
            known=np.array(self.known, dtype=np.uint64),
            codes=np.array(self.codes, dtype=np.float64),
            ends=np.array([0, *self.ends], dtype=np.int64),
        )
