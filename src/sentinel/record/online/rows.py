"""Records of the log as rows of the online view, and which keys they touch."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import NO_TEXT, columns_of_events
from sentinel.events.context import Context
from sentinel.events.times import duration_us
from sentinel.features.key_views import View, views_of
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.record.entries import NO_DECISION, context_in, decided_in, outcome_rows, revoked_rows, with_exact
from sentinel.record.log import Kind, LogReader, Record
from sentinel.record.online.layout import FeatureRow, encode_values
from sentinel.record.set_aside import restored, restored_context


def key_views_of(plan: FeaturePlan) -> list[View]:
    """The views of keys; what a single transaction was decided with stays in the log."""
    return [view for view in views_of(plan) if view.ages]


def kept_us(plan: FeaturePlan) -> int:
    """How long after its last event a key is remembered."""
    return (plan.compiled.horizon_us or duration_us(plan.forget_after)) + duration_us(plan.schema.max_late)


class FeatureRows:
    """Finds the newest features of each key in records, of decisions whose features a plan has made.

    `has_made` says of a model's version whether it has the same plan.
    """

    def __init__(self, plan: FeaturePlan, has_made: Callable[[str], bool]) -> None:
        self.views = key_views_of(plan)
        self._has_made = has_made
        self._kept_us = kept_us(plan)
        self._width = len(plan.features)
        self._places = [list(view.columns.values()) for view in self.views]
        names = dict.fromkeys(name for view in self.views for name in view.keys)
        fields: list[Any] = [(plan.schema.time, int), *((name, str | None, None) for name in names)]
        keyed = msgspec.defstruct("Keyed", fields, gc=False)
        self._decode = msgspec.json.Decoder(keyed).decode
        self._time = plan.schema.time

    def newest(self, records: Iterable[Record]) -> list[list[FeatureRow]]:
        """By view, a row for each key: that of its newest transaction, of equally new ones the last."""
        found: list[dict[tuple[str, ...], tuple[int, int, NDArray[np.float64]]]] = [{} for _ in self.views]
        for record in records:
            if record.kind == Kind.DECIDED:
                self._add(record, found)
        return [self._rows(one, places) if one else [] for one, places in zip(found, self._places, strict=True)]

    def _add(self, record: Record, found: list[dict[tuple[str, ...], tuple[int, int, NDArray[np.float64]]]]) -> None:
        decided = with_exact(decided_in(record))
        expires_ms = (record.received_us + self._kept_us) // 1_000 + 1
        for which, decider in enumerate(decided.deciders):
            if decider.features != self._width or not self._has_made(decider.model_version):
                continue
            rows = np.frombuffer(decided.features[which], "<f8").reshape(-1, self._width)
            contents = (one for one, by in zip(decided.contents, decided.by, strict=True) if by == which)
            for content, row in zip(contents, rows, strict=True):
                try:
                    keyed = self._decode(content)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue  # it does not fit the schema: no feature has counted it
                time_us = getattr(keyed, self._time)
                for view, of_key in zip(self.views, found, strict=True):
                    values = tuple(getattr(keyed, name) for name in view.keys)
                    known = of_key.get(values)
                    if None not in values and (known is None or time_us >= known[0]):
                        of_key[values] = time_us, expires_ms, row

    @staticmethod
    def _rows(
        of_key: dict[tuple[str, ...], tuple[int, int, NDArray[np.float64]]], places: Sequence[int]
    ) -> list[FeatureRow]:
        encoded = encode_values(np.array([row for _, _, row in of_key.values()])[:, places])
        return [
            FeatureRow(values, time_us, expires_ms, features)
            for (values, (time_us, expires_ms, _)), features in zip(of_key.items(), encoded, strict=True)
        ]


class TouchedKeys:
    """Finds the keys, by their hashes, whose profiles the entries of records have changed."""

    def __init__(self, plan: FeaturePlan, log: LogReader) -> None:
        self._schema = plan.schema
        self._log = log
        self._store = MemoryStore(plan)  # it stays empty
        self._columns_of = columns_of_events(plan.schema)
        self._context = Context(plan.schema)

    def of(self, records: Iterable[Record]) -> dict[str, NDArray[np.uint64]]:
        """By group, the keys (n,) without repetition."""
        texts = [found for record in records if (found := self._texts(record)) is not None and len(found)]
        if not texts:
            return {}
        whole = np.concatenate(texts)
        groups = zip(self._store.groups, self._store.compiled.groups, strict=True)
        unique = {name: np.unique(whole[:, group.key]) for name, group in groups}
        return {name: keys[keys != NO_TEXT] for name, keys in unique.items()}

    def _texts(self, record: Record) -> NDArray[np.uint64] | None:
        if record.kind == Kind.DECIDED:
            events = restored(self._schema, record)[0].transactions
        elif record.kind == Kind.CONTEXT:
            events = list(restored_context(self._context, record, context_in(record))[0])
        elif record.kind in (Kind.OUTCOMES, Kind.REVOKED):
            return self._texts_about(record)
        else:
            return None
        return self._store.columns_of(self._columns_of(events, record.received_us))[1] if events else None

    def _texts_about(self, record: Record) -> NDArray[np.uint64] | None:
        """The keys of the transactions that outcomes are about: an outcome itself has none."""
        rows = outcome_rows(record) if record.kind == Kind.OUTCOMES else revoked_rows(record)
        about = {row.about for row in rows if row.about != NO_DECISION and row.about >= self._log.first}
        found = []
        while about:
            decided = self._log.at(min(about))
            inside = {one for one in about if one < decided.position + decided.rows}
            texts, places = self._texts(decided), restored(self._schema, decided)[0].places
            wanted = [n for n, place in enumerate(places) if decided.position + place in inside]
            if texts is not None:
                found.append(texts[wanted])
            about -= inside
        return np.concatenate(found) if found else None
