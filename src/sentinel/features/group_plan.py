"""The plan of one group: the rows of a key and of its events are laid out, then every output says where it is read."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.events.columns import MISSING, TRANSACTION, context_kinds
from sentinel.events.schema import Schema
from sentinel.events.times import duration_us
from sentinel.features import layout as at
from sentinel.features.definitions import Feature
from sentinel.features.derived_plan import DerivedColumns
from sentinel.features.faults import blaming
from sentinel.features.layout import WINDOW_KINDS, GroupPlan

_SINCE_KINDS = {
    "seconds_since_last": at.OUT_SINCE,
    "last": at.OUT_LAST,
    "distance_since_last": at.OUT_DISTANCE,
    "speed_since_last": at.OUT_SPEED,
}
_SESSION_KINDS = {
    "session_count": at.OUT_SESSION_COUNT,
    "session_total": at.OUT_SESSION_TOTAL,
    "session_seconds": at.OUT_SESSION_SECONDS,
}
_BESIDE = (at.VALUES, at.TEXTS, at.SQUARES)  # what an output needs beside its own aggregate
_OF_TRANSACTIONS = (*_SESSION_KINDS, "distance_since_last", "speed_since_last", "fraud_count", "fraud_rate")
_Window: TypeAlias = tuple[int, int, int]  # how long it is and how long delayed, in microseconds; its condition's bit
_Aggregate: TypeAlias = tuple[int, int]  # what is kept, and of which cell of an event


def group_plan(derived: DerivedColumns, members: list[tuple[Feature, int]], forget_after_us: int) -> GroupPlan:
    """The plan of features that follow one key and count one kind of events, each with its output column.

    What has no window is remembered for `forget_after_us`. Raises InvalidDefinition for what cannot be computed.
    """
    return _Group(derived, [feature for feature, _ in members], forget_after_us).plan(members)


def exact_column(schema: Schema, feature: Feature, what: str = "exact number") -> int:
    """The place of the feature's field among the exact numbers. Raises InvalidDefinition when it is none."""
    hint = "; a number that windows add up needs its decimals: exact={...} in the schema"
    if feature.of in schema.looked_up:
        hint = "; a column that windows add up is of the type amount"
    return _place(feature, tuple(schema.exact_numbers), what, hint if feature.of in schema.plain_numbers else "")


def text_column(schema: Schema, feature: Feature) -> int:
    """The place of the feature's field among the texts. Raises InvalidDefinition when it is none."""
    return _place(feature, schema.texts, "text")


def _place(feature: Feature, known: tuple[str, ...], what: str, hint: str = "") -> int:
    if feature.of not in known:
        raise InvalidDefinition(f"{feature.name}: {feature.of!r} is no {what} of the schema ({', '.join(known)}){hint}")
    return known.index(feature.of)


def scale_of(schema: Schema, feature: Feature) -> int:
    """How many of its smallest units a field's unit has; 1 for what is no exact number."""
    return int(10 ** schema.exact_numbers.get(feature.of or "", 0))


class _Group:
    """The growing plan of one key: its row has `fresh` cells, an event `event_cells`."""

    def __init__(self, derived: DerivedColumns, features: list[Feature], forget_after_us: int) -> None:
        self.derived = derived
        self.schema = derived.schema
        self.forget_after_us = forget_after_us
        self.key, self.event = derived.key(features[0].key), features[0].event
        self.feeds = TRANSACTION if self.event is None else context_kinds(self.schema)[self.event]
        self.labelled = any(_column_kind(feature) == "label" for feature in features)
        self.fresh = list(at.FRESH_KEY)
        self.event_cells = at.LABELLED_EVENT_CELLS if self.labelled else at.EVENT_CELLS
        self.stored: dict[tuple[int, int], int] = {}
        self.windows: dict[_Window, set[_Aggregate]] = {}
        self.cells: dict[tuple[_Window, _Aggregate | None], int] = {}
        self.salts: dict[tuple[_Window, _Aggregate], int] = {}
        self.lasts: dict[tuple[int, int], int] = {}
        self.place = at.NONE
        self.sessions: dict[int, dict[int, int]] = {}
        self.session_cells: dict[int, int] = {}
        for feature in features:
            with blaming(feature):
                self.reserve(feature)

    def take_cells(self, *begin: int) -> int:
        """Cells of the key's row that begin with these values; the first of them."""
        self.fresh += begin
        return len(self.fresh) - len(begin)

    def take_event_cells(self, n: int) -> int:
        self.event_cells += n
        return self.event_cells - n

    def store(self, is_text: int, column: int) -> int:
        """The cell in which events keep this column."""
        if (is_text, column) not in self.stored:
            self.stored[is_text, column] = self.take_event_cells(1)
        return self.stored[is_text, column]

    def plan(self, members: list[tuple[Feature, int]]) -> GroupPlan:
        sessions, totals = self.lay_out_sessions()
        kept_until = len(self.fresh)
        windows, aggregates = self.lay_out_windows()
        chunk_cells = 1 << (at.CHUNK_HEAD + at.LEAST_IN_CHUNK * self.event_cells - 1).bit_length()
        in_chunk = (chunk_cells - at.CHUNK_HEAD) // self.event_cells
        reach = max((over + delay for over, delay, _ in self.windows), default=0)
        remembers = any(feature.kind not in WINDOW_KINDS for feature, _ in members)
        latitude, longitude = [list(self.schema.decimals).index(name) for name in self.schema.place or ()] or [0, 0]
        return GroupPlan(
            key=self.key,
            feeds=self.feeds,
            event_cells=self.event_cells,
            chunk_cells=chunk_cells,
            last_in_chunk=at.CHUNK_HEAD + (in_chunk - 1) * self.event_cells,
            home=-(-len(self.fresh) // chunk_cells) * chunk_cells,
            kept_until=kept_until,
            reach=reach,
            longest=max(((over + delay, cell) for over, delay, cell, *_ in windows), default=(0, at.NONE))[1],
            horizon=max(reach, self.forget_after_us * remembers) + duration_us(self.schema.max_late),
            labelled=self.labelled,
            place=self.place,
            latitude=latitude,
            longitude=longitude,
            bits_cell=self.stored.get((0, self.derived.bits), 0),
            fresh=np.array(self.fresh, dtype=np.int64),
            stored=_table([(*source, cell) for source, cell in self.stored.items()], 3),
            windows=_table(windows, 6),
            aggregates=_table(aggregates, 5),
            lasts=_table([(column, cell, condition) for (column, condition), cell in self.lasts.items()], 3),
            sessions=_table(sessions, 4),
            session_totals=_table(totals, 2),
            outputs=_table([self.output(*member) for member in members], at.OUTPUT_COLUMNS),
        )

    def reserve(self, feature: Feature) -> None:
        """Note what the feature needs kept."""
        kind = feature.kind
        if feature.event is not None and kind in _OF_TRANSACTIONS:
            raise InvalidDefinition(f"{feature.name}: {kind} is of transactions, not of an event such as {self.event}")
        if kind in WINDOW_KINDS:
            self.reserve_window(feature)
        elif kind == "last" or (kind == "seconds_since_last" and self.is_marked(feature)):
            last = self.last_of(feature)
            if last not in self.lasts:
                self.lasts[last] = self.take_cells(MISSING)
        elif feature.where is not None and kind in _OF_TRANSACTIONS:
            raise InvalidDefinition(f"{feature.name}: {kind} takes no condition; count and the like do")
        elif kind in ("distance_since_last", "speed_since_last"):
            if self.schema.place is None:
                raise InvalidDefinition(f"{feature.name}: the schema has no place; add place=(latitude, longitude)")
            if self.place == at.NONE:
                self.place = self.take_cells(at.NONE, at.NONE)
        elif kind in _SESSION_KINDS:
            gap = duration_us(feature.gap or "")
            if gap > self.forget_after_us:
                raise InvalidDefinition(f"{feature.name}: the gap is longer than forget_after, when keys are forgotten")
            totals = self.sessions.setdefault(gap, {})
            if kind == "session_total":
                totals.setdefault(exact_column(self.schema, feature), at.NONE)
        elif kind != "seconds_since_last":
            raise InvalidDefinition(f"{feature.name}: there is no feature of kind {kind!r}")

    def is_marked(self, feature: Feature) -> bool:
        """Whether the time of the last event has a cell of its own: it is not that of the key's clock."""
        return self.event is not None or feature.where is not None

    def last_of(self, feature: Feature) -> tuple[int, int]:
        """What a key remembers for this feature: the exact column, or the time, and of which condition."""
        column = exact_column(self.schema, feature) if feature.kind == "last" else at.NONE
        return column, self.condition_of(feature)

    def condition_of(self, feature: Feature) -> int:
        """The bit of the feature's condition, or NONE."""
        return at.NONE if feature.where is None else self.derived.condition(feature.where)

    def window_of(self, feature: Feature) -> _Window:
        delay = duration_us(feature.delay) if feature.delay else 0
        return duration_us(feature.over or ""), delay, self.condition_of(feature)

    def reserve_window(self, feature: Feature) -> None:
        window, delay = self.window_of(feature), WINDOW_KINDS[feature.kind].delay
        if delay == "must" and not feature.delay:
            raise InvalidDefinition(f"{feature.name}: an outcome is known later; give it a delay such as '7d'")
        if delay == "cannot" and feature.delay:
            raise InvalidDefinition(f"{feature.name}: {feature.kind} cannot be delayed")
        kept = self.aggregates_of(feature)
        self.windows.setdefault(window, set()).update(kept)
        if feature.where is not None:
            self.store(0, self.derived.bits)
        counting = [one for one in kept if one[0] >= at.COUNTED]
        if feature.delay and counting:
            # a value whose name changes is known by that of the events that wait to enter, too: see `renaming`
            self.windows.setdefault((window[0] + window[1], 0, window[2]), set()).update(counting)

    def aggregates_of(self, feature: Feature) -> list[_Aggregate]:
        """What a window must keep for this feature."""
        of = _column_kind(feature)
        if of == "":
            return []
        if of == "label":
            cell = at.LABEL
        elif of == "text":
            cell = self.store(1, text_column(self.schema, feature))
        else:
            cell = self.store(0, exact_column(self.schema, feature))
        may_be_missing = of == "exact" and (feature.of in self.schema.may_lack or self.event is not None)
        keeps = WINDOW_KINDS[feature.kind].keeps
        return [
            (kind, cell) for kind in (at.VALUES, *keeps) if kind != at.VALUES or (may_be_missing and at.SUM in keeps)
        ]

    def lay_out_windows(self) -> tuple[list[Any], list[Any]]:
        windows: list[tuple[int, ...]] = []
        aggregates: list[tuple[int, ...]] = []
        for window, kept in self.windows.items():
            first = len(aggregates)
            fresh = at.FRESH_DELAYED_WINDOW if window[1] else at.FRESH_WINDOW
            self.cells[window, None] = self.take_cells(*fresh)
            for kind, field in sorted(kept):
                cell = self.cells[window, (kind, field)] = self.take_cells(*at.FRESH_AGGREGATES[kind])
                links = self.take_event_cells(2 if kind in at.LINKED else 0)
                self.salts[window, (kind, field)] = len(aggregates)
                aggregates.append((kind, field, cell, links, len(aggregates)))
            over, delay, condition = window
            windows.append((over, delay, self.cells[window, None], first, len(aggregates), condition))
        return windows, aggregates

    def lay_out_sessions(self) -> tuple[list[Any], list[Any]]:
        sessions: list[tuple[int, ...]] = []
        totals: list[tuple[int, int]] = []
        for gap, columns in self.sessions.items():
            first = len(totals)
            self.session_cells[gap] = self.take_cells(*at.FRESH_SESSION)
            for column in columns:
                columns[column] = self.take_cells(at.NONE)
                totals.append((column, columns[column]))
            sessions.append((gap, self.session_cells[gap], first, len(totals)))
        return sessions, totals

    def output(self, feature: Feature, column: int) -> tuple[int, ...]:
        """The row of `outputs` for this feature."""
        kind = feature.kind
        scale = scale_of(self.schema, feature)
        if kind in WINDOW_KINDS:
            window, kept = self.window_of(feature), self.aggregates_of(feature)
            cells = {what: self.cells[window, (what, field)] for what, field in kept}
            field = kept[0][1] if kept else 0
            when = at.AFTER if feature.include_current and kind != "is_first" else at.BEFORE
            how, begin = WINDOW_KINDS[kind].output, self.cells[window, None]
            main = next((cell for what, cell in cells.items() if what not in _BESIDE), 0)
            squares, values = cells.get(at.SQUARES, 0), cells.get(at.VALUES, cells.get(at.TEXTS, at.NONE))
            salt = self.salts.get((window, (at.DISTINCT, field)), 0)
            text = text_column(self.schema, feature) if WINDOW_KINDS[kind].of == "text" else 0
            return (how, begin, main, squares, values, field, scale, column, when, salt, text)
        if kind in _SESSION_KINDS:
            gap = duration_us(feature.gap or "")
            cell = self.session_cells[gap]
            if kind == "session_total":
                cell = self.sessions[gap][exact_column(self.schema, feature)]
            return (_SESSION_KINDS[kind], 0, cell, 0, 0, 0, scale, column, at.AFTER, 0, 0)
        how, cell = _SINCE_KINDS[kind], max(self.place, 0)
        if kind == "last":
            cell = self.lasts[self.last_of(feature)]
        elif kind == "seconds_since_last" and self.is_marked(feature):
            how, cell = at.OUT_SINCE_MARKED, self.lasts[self.last_of(feature)]
        return (how, 0, cell, 0, 0, 0, scale, column, at.BEFORE, 0, 0)


def _column_kind(feature: Feature) -> str:
    """What kind of column a window feature is of; nothing for other features."""
    return WINDOW_KINDS[feature.kind].of if feature.kind in WINDOW_KINDS else ""


def _table(rows: list[Any], columns: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(len(rows), columns)
