"""The plan: feature definitions turned into the flat arrays that the kernel walks.

Every feature that follows a key belongs to that key's group. A group knows nothing of other groups: it has
its own state and is advanced on its own. The rest (plain fields, time of day, ratios) is filled in row by row.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.events.log import hash_text
from sentinel.events.schema import Schema
from sentinel.events.times import duration_us
from sentinel.features.definitions import Feature

# A key's row: these, then what was last seen, the sessions and the windows.
KEY_HASH, CLOCK, SEEN, HEAD, TAIL, KEY_CELLS = range(6)
# An event's row: when it counts, when it happened, the next event of the key; with labels its key, id and truth.
COUNTED_AT, HAPPENED_AT, NEXT, EVENT_CELLS = range(4)
SLOT, EVENT_ID, LABEL, LABELLED_EVENT_CELLS = range(3, 7)
# A window's cells in a key's row: the next event to enter and to leave, and how many are inside.
ENTER, LEAVE, INSIDE, WINDOW_CELLS = range(4)
# What a window keeps of a field.
SUM, SQUARES, MINIMUM, MAXIMUM, DISTINCT, FRAUDS = range(6)
_CELLS_OF = {SUM: 2, SQUARES: 2, MINIMUM: 2, MAXIMUM: 2, DISTINCT: 1, FRAUDS: 1}
# How an output is read from a key's row.
(
    OUT_COUNT,
    OUT_TOTAL,
    OUT_MEAN,
    OUT_STD,
    OUT_EXTREME,
    OUT_DISTINCT,
    OUT_FRAUDS,
    OUT_FRAUD_RATE,
    OUT_SINCE,
    OUT_LAST,
    OUT_DISTANCE,
    OUT_SPEED,
    OUT_SESSION_COUNT,
    OUT_SESSION_TOTAL,
    OUT_SESSION_SECONDS,
) = range(15)
# How an output is filled in from the row itself.
ROW_EXACT, ROW_PLAIN, ROW_CATEGORY, ROW_HOUR, ROW_WEEKDAY, ROW_WEEKEND, ROW_NIGHT, ROW_RATIO = range(8)

BEFORE, AFTER = 0, 1
"""Whether an output is read before or after the current transaction has entered the windows."""

_WINDOW_KINDS = {
    "count": (OUT_COUNT, None),
    "total": (OUT_TOTAL, SUM),
    "mean": (OUT_MEAN, SUM),
    "std": (OUT_STD, SQUARES),
    "minimum": (OUT_EXTREME, MINIMUM),
    "maximum": (OUT_EXTREME, MAXIMUM),
    "distinct": (OUT_DISTINCT, DISTINCT),
    "fraud_count": (OUT_FRAUDS, FRAUDS),
    "fraud_rate": (OUT_FRAUD_RATE, FRAUDS),
}
_ROW_KINDS = {
    "hour_of_day": ROW_HOUR,
    "day_of_week": ROW_WEEKDAY,
    "is_weekend": ROW_WEEKEND,
    "is_night": ROW_NIGHT,
}
_SESSION_KINDS = {
    "session_count": OUT_SESSION_COUNT,
    "session_total": OUT_SESSION_TOTAL,
    "session_seconds": OUT_SESSION_SECONDS,
}


class FeaturePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything needed to compute features: saved with the model, so that serving never runs user code.

    `vocabulary` lists, for every categorical feature, the values that have a code of their own.
    """

    schema: Schema
    features: tuple[Feature, ...]
    vocabulary: dict[str, tuple[str, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the model's input, in order."""
        return tuple(feature.name for feature in self.features)


class GroupPlan(NamedTuple):
    """The features of one key. All arrays are int64.

    - `shape` (8,): text column of the key; cells of a key's row; cells of an event's row; the longest time
      an event matters; whether events carry labels; cell of the last place (-1: none), its two exact columns.
    - `stored` (s, 3): exact (0) or text (1) column, its index, the event cell that keeps it.
    - `windows` (w, 5): length and delay in microseconds, the key cell where the window begins, first and end
      index of its aggregates.
    - `aggregates` (a, 5): kind, event cell of the field, key cell, event cell of its links, salt.
    - `lasts` (l, 2): exact column, key cell.  `sessions` (s, 4): gap, key cell, first and end total.
    - `session_totals` (t, 2): exact column, key cell.
    - `outputs` (o, 6): how, key cell, key cell or event cell beside it, scale, output column, before or after.
    """

    shape: NDArray[np.int64]
    stored: NDArray[np.int64]
    windows: NDArray[np.int64]
    aggregates: NDArray[np.int64]
    lasts: NDArray[np.int64]
    sessions: NDArray[np.int64]
    session_totals: NDArray[np.int64]
    outputs: NDArray[np.int64]


class RowPlan(NamedTuple):
    """Outputs read from the row itself: `steps` int64 (r, 5): how, two operands, scale, output column.

    A category's operands are its text column and the start of its part of `known` (hash, sorted) and `codes`.
    """

    steps: NDArray[np.int64]
    known: NDArray[np.uint64]
    codes: NDArray[np.float64]
    ends: NDArray[np.int64]


class CompiledPlan(NamedTuple):
    """What the kernel runs: a plan per key, one for the rest, and how wide the work area is."""

    groups: tuple[GroupPlan, ...]
    rows: RowPlan
    width: int
    outputs: int


def compile_plan(plan: FeaturePlan) -> CompiledPlan:
    """Turn definitions into arrays. Raises InvalidDefinition for what cannot be computed."""
    return _Compiler(plan).compile()


class _Group:
    """The growing plan of one key."""

    def __init__(self, text: int, labelled: bool) -> None:
        self.text = text
        self.labelled = labelled
        self.key_cells = KEY_CELLS
        self.event_cells = LABELLED_EVENT_CELLS if labelled else EVENT_CELLS
        self.stored: dict[tuple[int, int], int] = {}
        self.windows: dict[tuple[int, int], set[tuple[int, int]]] = {}
        self.lasts: dict[int, int] = {}
        self.place = -1
        self.sessions: dict[int, dict[int, int]] = {}
        self.session_cells: dict[int, int] = {}
        self.outputs: list[tuple[Feature, int]] = []

    def take_cells(self, n: int) -> int:
        self.key_cells += n
        return self.key_cells - n

    def store(self, is_text: int, column: int) -> int:
        if (is_text, column) not in self.stored:
            self.stored[is_text, column] = self.event_cells
            self.event_cells += 1
        return self.stored[is_text, column]


class _Compiler:
    def __init__(self, plan: FeaturePlan) -> None:
        self.plan = plan
        self.schema = plan.schema
        self.exact = list(self.schema.decimals)
        self.plain = list(self.schema.numbers)
        self.texts = list(self.schema.texts)
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
        groups = tuple(self.group(by, members) for by, members in self.by_key.items())
        return CompiledPlan(groups, self.row_plan(), self.width, len(names))

    def place(self, feature: Feature, column: int) -> None:
        """Have `feature` written to this column of the work area."""
        if feature.kind == "ratio":
            top, bottom = (self.column_of(part) for part in feature.parts)
            self.steps.append((ROW_RATIO, top, bottom, 1, column))
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
            return (ROW_CATEGORY, self.index(feature, self.texts, "text"), self.vocabulary(name), 1, column)
        if feature.kind == "field":
            if name in self.plain:
                return (ROW_PLAIN, self.plain.index(name), 0, 1, column)
            index = self.index(feature, self.exact, "number")
            return (ROW_EXACT, index, 0, self.scale(index), column)
        if feature.kind not in _ROW_KINDS:
            raise InvalidDefinition(f"{feature.name}: there is no feature of kind {feature.kind!r}")
        return (_ROW_KINDS[feature.kind], feature.last_hour or 0, 0, 1, column)

    def index(self, feature: Feature, known: list[str], what: str) -> int:
        if feature.of not in known:
            hint = ""
            if feature.of in self.plain and known is self.exact:
                hint = "; a number that windows add up needs its decimals: exact={...} in the schema"
            raise InvalidDefinition(
                f"{feature.name}: {feature.of!r} is no {what} of the schema ({', '.join(known)}){hint}"
            )
        return known.index(feature.of)

    def scale(self, exact: int) -> int:
        return int(10 ** self.schema.decimals[self.exact[exact]])

    def vocabulary(self, name: str) -> int:
        words = self.plan.vocabulary.get(name, ())
        coded = sorted((hash_text(word), float(code)) for code, word in enumerate(words))
        self.known += [one[0] for one in coded]
        self.codes += [one[1] for one in coded]
        self.ends.append(len(self.known))
        return len(self.ends) - 1

    def row_plan(self) -> RowPlan:
        return RowPlan(
            steps=_table(self.steps, 5),
            known=np.array(self.known, dtype=np.uint64),
            codes=np.array(self.codes, dtype=np.float64),
            ends=np.array([0, *self.ends], dtype=np.int64),
        )

    def group(self, by: str, members: list[tuple[Feature, int]]) -> GroupPlan:
        """Lay out the rows of one key and its events, then say how each output is read from them."""
        labelled = any(feature.kind in ("fraud_count", "fraud_rate") for feature, _ in members)
        group = _Group(self.texts.index(by), labelled)
        for feature, _ in members:
            self.reserve(group, feature)
        windows, aggregates, cells = self.lay_out_windows(group)
        sessions, totals = self.lay_out_sessions(group)
        reach = max((over + delay for over, delay in group.windows), default=0)
        place = [self.exact.index(name) for name in self.schema.place or ()] or [0, 0]
        shape = [group.text, group.key_cells, group.event_cells, reach, int(labelled), group.place, *place]
        return GroupPlan(
            shape=np.array(shape, dtype=np.int64),
            stored=_table([(*source, cell) for source, cell in group.stored.items()], 3),
            windows=_table(windows, 5),
            aggregates=_table(aggregates, 5),
            lasts=_table(list(group.lasts.items()), 2),
            sessions=_table(sessions, 4),
            session_totals=_table(totals, 2),
            outputs=_table([self.output(group, cells, *member) for member in members], 6),
        )

    def reserve(self, group: _Group, feature: Feature) -> None:
        """Note what the feature needs kept."""
        kind = feature.kind
        if kind in _WINDOW_KINDS:
            self.reserve_window(group, feature)
        elif kind == "last":
            column = self.index(feature, self.exact, "exact number")
            if column not in group.lasts:
                group.lasts[column] = group.take_cells(1)
        elif kind in ("distance_since_last", "speed_since_last"):
            if self.schema.place is None:
                raise InvalidDefinition(f"{feature.name}: the schema has no place; add place=(latitude, longitude)")
            if group.place < 0:
                group.place = group.take_cells(2)
        elif kind in _SESSION_KINDS:
            totals = group.sessions.setdefault(duration_us(feature.gap or ""), {})
            if kind == "session_total":
                totals.setdefault(self.index(feature, self.exact, "exact number"), -1)
        elif kind != "seconds_since_last":
            raise InvalidDefinition(f"{feature.name}: there is no feature of kind {kind!r}")

    def reserve_window(self, group: _Group, feature: Feature) -> None:
        key = _window_key(feature)
        if feature.kind in ("fraud_count", "fraud_rate") and not key[1]:
            raise InvalidDefinition(f"{feature.name}: an outcome is known later; give it a delay such as '7d'")
        if feature.kind in ("minimum", "maximum", "distinct") and key[1]:
            raise InvalidDefinition(f"{feature.name}: {feature.kind} cannot be delayed")
        group.windows.setdefault(key, set()).update(self.aggregates_of(group, feature))

    def aggregates_of(self, group: _Group, feature: Feature) -> list[tuple[int, int]]:
        """The (kind, event cell) that a window must keep for this feature."""
        kind = _WINDOW_KINDS[feature.kind][1]
        if kind is None:
            return []
        if kind == FRAUDS:
            return [(FRAUDS, LABEL)]
        if kind == DISTINCT:
            return [(DISTINCT, group.store(1, self.index(feature, self.texts, "text")))]
        cell = group.store(0, self.index(feature, self.exact, "exact number"))
        return [(SUM, cell), (SQUARES, cell)] if kind == SQUARES else [(kind, cell)]

    def lay_out_windows(self, group: _Group) -> tuple[list[Any], list[Any], dict[Any, int]]:
        windows: list[tuple[int, ...]] = []
        aggregates: list[tuple[int, ...]] = []
        cells: dict[Any, int] = {}
        for key, kept in group.windows.items():
            first = len(aggregates)
            begin = cells[key] = group.take_cells(WINDOW_CELLS)
            for kind, event_cell in sorted(kept):
                cell = cells[key, kind, event_cell] = group.take_cells(_CELLS_OF[kind])
                links = group.event_cells
                if kind in (MINIMUM, MAXIMUM):
                    group.event_cells += 2
                aggregates.append((kind, event_cell, cell, links, len(aggregates)))
            windows.append((*key, begin, first, len(aggregates)))
        return windows, aggregates, cells

    def lay_out_sessions(self, group: _Group) -> tuple[list[Any], list[Any]]:
        sessions: list[tuple[int, ...]] = []
        totals: list[tuple[int, int]] = []
        for gap, columns in group.sessions.items():
            first = len(totals)
            begin = group.take_cells(2)
            for column in columns:
                columns[column] = group.take_cells(1)
                totals.append((column, columns[column]))
            sessions.append((gap, begin, first, len(totals)))
            group.session_cells[gap] = begin
        return sessions, totals

    def output(
        self, group: _Group, cells: dict[Any, int], feature: Feature, column: int
    ) -> tuple[int, int, int, int, int, int]:
        kind = feature.kind
        if kind in _WINDOW_KINDS:
            return self.window_output(group, cells, feature, column)
        if kind == "last":
            index = self.exact.index(feature.of or "")
            return (OUT_LAST, group.lasts[index], 0, self.scale(index), column, BEFORE)
        if kind in _SESSION_KINDS:
            gap = duration_us(feature.gap or "")
            if kind != "session_total":
                return (_SESSION_KINDS[kind], group.session_cells[gap], 0, 1, column, AFTER)
            index = self.exact.index(feature.of or "")
            return (OUT_SESSION_TOTAL, group.sessions[gap][index], 0, self.scale(index), column, AFTER)
        how = {"distance_since_last": OUT_DISTANCE, "speed_since_last": OUT_SPEED}.get(kind, OUT_SINCE)
        return (how, max(group.place, 0), 0, 10**6, column, BEFORE)

    def window_output(
        self, group: _Group, cells: dict[Any, int], feature: Feature, column: int
    ) -> tuple[int, int, int, int, int, int]:
        key = _window_key(feature)
        when = AFTER if feature.include_current else BEFORE
        needed = self.aggregates_of(group, feature)
        how = _WINDOW_KINDS[feature.kind][0]
        if not needed:
            return (how, cells[key] + INSIDE, 0, 1, column, when)
        scale = self.scale(self.exact.index(feature.of or "")) if feature.of in self.exact else 1
        found = [cells[key, *one] for one in needed]
        if how == OUT_EXTREME:
            return (how, found[0], needed[0][1], scale, column, when)
        if how == OUT_FRAUD_RATE:
            return (how, found[0], cells[key] + INSIDE, scale, column, when)
        return (how, found[0], found[-1], scale, column, when)


def _window_key(feature: Feature) -> tuple[int, int]:
    return duration_us(feature.over or ""), duration_us(feature.delay) if feature.delay else 0


def _table(rows: list[Any], columns: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(len(rows), columns)
