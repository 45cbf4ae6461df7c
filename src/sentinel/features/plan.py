"""The plan: feature definitions turned into the flat arrays that the kernel walks.

Every feature that follows a key belongs to the group of that key and of the events that it counts: transactions, or a
kind of the context. A group knows nothing of other groups: it has its own state and is advanced on its own. The rest
(plain fields, time of day, ratios) is filled in row by row.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import hash_text
from sentinel.events.schema import Schema
from sentinel.events.times import duration_us
from sentinel.features import layout as at
from sentinel.features.conditions import Where
from sentinel.features.definitions import Feature
from sentinel.features.derived_plan import DerivedColumns, DerivedPlan
from sentinel.features.faults import blaming
from sentinel.features.group_plan import exact_column, group_plan, scale_of, text_column
from sentinel.features.layout import GroupPlan, RowPlan
from sentinel.features.zones import offsets_of

_TIME_KINDS = {
    "hour_of_day": at.ROW_HOUR,
    "day_of_week": at.ROW_WEEKDAY,
    "is_weekend": at.ROW_WEEKEND,
    "is_night": at.ROW_NIGHT,
    "time_of_day": at.ROW_TIME_OF_DAY,
}
_PAIRS = {"ratio": at.ROW_RATIO, "difference": at.ROW_DIFFERENCE}
_CYCLES = {"sine": at.ROW_SINE, "cosine": at.ROW_COSINE}
_MOST_NESTED = 50  # features in features
_MOST_GROUPS = 80  # a snapshot has three parts of each

FORGET_AFTER = "90d"


class FeaturePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
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

    @cached_property
    def compiled(self) -> "CompiledPlan":
        """What the kernel runs. Raises InvalidDefinition for what cannot be computed."""
        return compile_plan(self)


class CompiledPlan(NamedTuple):
    """What the kernel runs: a plan per group, the groups' names, the rest, and how wide the work area is.

    A group is named by its key, as `card_id` or `card_id+merchant_id`; one of the context by its event, too:
    `login:user_id`.
    """

    groups: tuple[GroupPlan, ...]
    names: tuple[str, ...]
    conditions: tuple[Where, ...]
    derived: DerivedPlan | None
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
        self.derived = DerivedColumns(plan.schema)
        self.members: dict[tuple[tuple[str, ...], str | None], list[tuple[Feature, int]]] = {}
        self.steps: list[tuple[int, int, int, int, int]] = []
        self.table_keys: list[int] = []
        self.table_values: list[float] = []
        self.table_ends = [0]
        self.periods: list[float] = []
        self.width = len(plan.features)

    def compile(self) -> CompiledPlan:
        forget_after_us = self.forget_after_us()
        names = self.plan.names
        if not names:
            raise InvalidDefinition("the detector declares no features; add at least one, such as field(...)")
        for column, feature in enumerate(self.plan.features):
            with blaming(feature):
                if feature.name in names[:column]:
                    raise InvalidDefinition(
                        f"feature {feature.name} is declared twice; remove one, or rename it with .named(...)"
                    )
                self.place(feature, column)
        groups = tuple(group_plan(self.derived, members, forget_after_us) for members in self.members.values())
        return CompiledPlan(
            groups=groups,
            names=tuple(f"{event}:{'+'.join(key)}" if event else "+".join(key) for key, event in self.members),
            conditions=tuple(self.derived.conditions),
            derived=self.derived.plan(),
            rows=self.row_plan(),
            width=self.width,
            outputs=len(names),
        )

    def forget_after_us(self) -> int:
        try:
            return duration_us(self.plan.forget_after)
        except InvalidDefinition as error:
            raise InvalidDefinition(f"forget_after: {error}") from None

    def place(self, feature: Feature, column: int, depth: int = 0) -> None:
        """Have `feature` written to this column of the work area."""
        if feature.kind in _PAIRS or feature.kind in _CYCLES:
            self.place_combined(feature, column, depth)
        elif feature.kind == "seconds_between":
            begin, end = (self.instant_column(feature, part.of or "") for part in feature.parts)
            self.steps.append((at.ROW_BETWEEN, begin, end, 1, column))
        elif feature.key:
            self.check_key(feature)
            self.members.setdefault((feature.key, feature.event), []).append((feature, column))
            if len(self.members) > _MOST_GROUPS:
                raise InvalidDefinition(
                    f"{feature.name}: the features follow more than {_MOST_GROUPS} different keys and events"
                )
        elif feature.event is not None or feature.where is not None:
            raise InvalidDefinition(
                f"{feature.name}: {feature.kind} is of this transaction alone; leave out event, where"
            )
        else:
            self.steps.append(self.row_step(feature, column))

    def place_combined(self, feature: Feature, column: int, depth: int) -> None:
        """Have a feature of other features written."""
        wanted = 2 if feature.kind in _PAIRS else 1
        if len(feature.parts) != wanted or depth > _MOST_NESTED:
            raise InvalidDefinition(
                f"{feature.name}: a {feature.kind} is of {wanted} features, not of {len(feature.parts)}, and nested "
                f"{_MOST_NESTED} times at most"
            )
        operands = [self.column_of(part, depth + 1) for part in feature.parts]
        if wanted == 2:
            self.steps.append((_PAIRS[feature.kind], operands[0], operands[1], 1, column))
        else:
            self.steps.append((_CYCLES[feature.kind], operands[0], len(self.periods), 1, column))
            self.periods.append(feature.period or 1.0)

    def check_key(self, feature: Feature) -> None:
        """Raise InvalidDefinition for a key, or an event, that cannot be followed."""
        key, schema = feature.key, self.schema
        known = schema.followed if len(key) == 1 else schema.texts
        for name in key:
            if name not in known or key.count(name) > 1:
                what = "named twice in its key" if name in known else "no key of the schema; its keys are "
                raise InvalidDefinition(
                    f"{feature.name}: {name!r} is {what}{'' if name in known else ', '.join(known) or 'none'}"
                )
        if feature.event is None:
            return
        if feature.event not in schema.events:
            raise InvalidDefinition(
                f"{feature.name}: {feature.event!r} is no event of the schema; its events are "
                f"{', '.join(schema.events) or 'none'}"
            )
        needed = {*key, *([] if feature.of is None else [feature.of])}
        if feature.where is not None:
            needed |= feature.where.fields
        lacking = sorted(needed.difference(schema.fields_of(feature.event)))
        if lacking:
            raise InvalidDefinition(f"{feature.name}: {feature.event} events have no {', '.join(lacking)}")

    def column_of(self, part: Feature, depth: int) -> int:
        """The column of a feature's part: a hidden one, shared between features."""
        if part not in self.columns:
            self.columns[part] = self.width
            self.width += 1
            with blaming(part):
                self.place(part, self.columns[part], depth)
        return self.columns[part]

    def instant_column(self, feature: Feature, name: str) -> int:
        """Where a time stands among the whole numbers of an event; NONE for that of the event itself."""
        if name == self.schema.time:
            return at.NONE
        if name not in self.schema.instants:
            known = ", ".join((self.schema.time, *self.schema.instants))
            raise InvalidDefinition(f"{feature.name}: {name!r} is no time of the schema ({known})")
        return list(self.schema.whole_numbers).index(name)

    def row_step(self, feature: Feature, column: int) -> tuple[int, int, int, int, int]:
        name = feature.of or ""
        if feature.kind == "category":
            return (at.ROW_CATEGORY, text_column(self.schema, feature), self.table_of_codes(name), 1, column)
        if feature.kind == "field":
            if name in self.schema.plain_numbers:
                return (at.ROW_PLAIN, self.schema.plain_numbers.index(name), 0, 1, column)
            index = self.number_column(feature)
            return (at.ROW_EXACT, index, 0, scale_of(self.schema, feature), column)
        if feature.kind == "is_round":
            index = exact_column(self.schema, feature, "exact number")
            return (at.ROW_ROUND, index, 0, self.multiple(feature), column)
        if feature.kind not in _TIME_KINDS:
            raise InvalidDefinition(f"{feature.name}: there is no feature of kind {feature.kind!r} without a key")
        zone = at.NONE if feature.timezone is None else self.add_table(offsets_of(feature.timezone))
        return (_TIME_KINDS[feature.kind], feature.last_hour or 0, zone, 1, column)

    def number_column(self, feature: Feature) -> int:
        """The place of the number of `field` among the exact ones. Raises InvalidDefinition when it is no number."""
        if feature.of in self.schema.exact_numbers:
            return exact_column(self.schema, feature)
        known = ", ".join((*self.schema.exact_numbers, *self.schema.plain_numbers))
        hint = f'; for a text write category("{feature.of}")' if feature.of in self.schema.texts else ""
        raise InvalidDefinition(f"{feature.name}: {feature.of!r} is no number of the schema ({known}){hint}")

    def multiple(self, feature: Feature) -> int:
        """Of how many smallest units a round number is a multiple."""
        units = Fraction(str(feature.to)) * scale_of(self.schema, feature)
        if units.denominator != 1 or not 1 <= units < at.NEVER:
            digits = self.schema.exact_numbers[feature.of or ""]
            raise InvalidDefinition(f"{feature.name}: {feature.of} has {digits} decimals, and `to` is {feature.to}")
        return int(units)

    def table_of_codes(self, name: str) -> int:
        """The table of the codes of a category."""
        words = self.plan.vocabulary.get(name, ())
        return self.add_table(sorted((hash_text(word), float(code)) for code, word in enumerate(words)))

    def add_table(self, pairs: Sequence[tuple[int, float]]) -> int:
        """The number of a table of these sorted keys and their values."""
        self.table_keys += [one[0] for one in pairs]
        self.table_values += [float(one[1]) for one in pairs]
        self.table_ends.append(len(self.table_keys))
        return len(self.table_ends) - 2

    def row_plan(self) -> RowPlan:
        return RowPlan(
            steps=np.array(self.steps, dtype=np.int64).reshape(len(self.steps), 5),
            table_keys=np.array(self.table_keys, dtype=np.uint64),
            table_values=np.array(self.table_values, dtype=np.float64),
            table_ends=np.array(self.table_ends, dtype=np.int64),
            periods=np.array(self.periods, dtype=np.float64),
        )
