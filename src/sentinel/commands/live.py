"""A held-back part of a history as live traffic: requests to send, the context, and outcomes that follow late."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.detector import Detector
from sentinel.events.columns import OPERATOR
from sentinel.events.context import event_schema
from sentinel.events.files import History
from sentinel.events.schema import Schema
from sentinel.events.times import duration_us, iso
from sentinel.events.wire import EVENT_ID, KIND
from sentinel.features.definitions import Feature

DEFAULT_OUTCOME_DELAY = "7d"
_WEEK_US = 7 * 86_400_000_000


class LiveEvent(NamedTuple):
    """A context event: its id, when it happens in microseconds since 1970, and its JSON as a client would send it."""

    event_id: str
    time_us: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Traffic:
    """Transactions in the order in which they are sent, and when their outcomes become known.

    - `ids`: transaction ids, n of them.  `bodies`: their JSON, as a client would send it.
    - `time_us` int64 (n,): event times.  `labels` int8 (n,): 1 fraud, 0 not, -1 unknown.
    - `outcome_us` int64 (n,): when the outcome is told; a time after all else where there is none.
    - `sources`: where the outcomes come from; the operator, where the history does not say.
    - `events`: the context events, by time.
    """

    ids: list[str]
    bodies: list[bytes]
    time_us: NDArray[np.int64]
    labels: NDArray[np.int8]
    outcome_us: NDArray[np.int64]
    sources: list[str]
    events: Sequence[LiveEvent] = ()


def traffic(detector: Detector, history: History) -> Traffic:
    """The rows of a history as traffic, in their order."""
    schema, frame, context = detector.schema, history.frame, history.context
    times = frame[schema.time].to_numpy()
    labels = np.full(len(frame), -1, np.int8)
    if schema.label in frame.columns:
        labels = frame[schema.label].fill_null(-1).to_numpy().astype(np.int8)
    return Traffic(
        ids=frame[schema.id].to_list(),
        bodies=list(bodies(schema, frame)),
        time_us=times,
        labels=labels,
        outcome_us=np.where(labels < 0, np.iinfo(np.int64).max, _outcome_times(detector, frame, times)),
        sources=_sources(schema, frame),
        events=[] if context is None else list(live_events(schema, context)),
    )


def parts_of(schema: Schema, history: History, transactions: int) -> tuple[History, History]:
    """A history up to its transaction of this number, and the rest; the context is divided where the time is."""
    older, newer = history.frame[:transactions], history.frame[transactions:]
    if history.context is None:
        return dataclasses.replace(history, frame=older), History(newer, {}, tables=history.tables)
    is_older = history.context[schema.time] <= older[schema.time].max()
    return (
        dataclasses.replace(history, frame=older, context=history.context.filter(is_older)),
        History(newer, {}, context=history.context.filter(~is_older), tables=history.tables),
    )


def moved_to_now(schema: Schema, history: History) -> History:
    """A history as if its newest transaction were of this week: its times moved by whole weeks, so weekdays stay.

    What the server receives now is far from an old history: it would have forgotten every key of it.
    """
    frame, context = history.frame, history.context
    weeks_us = (time.time_ns() // 1000 - int(frame[schema.time].to_numpy().max())) // _WEEK_US * _WEEK_US
    times = [name for name in (schema.time, *schema.times, schema.outcome_time) if name in frame.columns]
    of_context = [] if context is None else [name for name in (schema.time, *schema.times) if name in context.columns]
    return dataclasses.replace(
        history,
        frame=frame.with_columns(pl.col(times) + weeks_us),
        context=None if context is None else context.with_columns(pl.col(of_context) + weeks_us),
        tables={name: file.moved(weeks_us) for name, file in history.tables.items()},
    )


def bodies(schema: Schema, frame: pl.DataFrame) -> Iterator[bytes]:
    """Each row as the JSON of a transaction; missing optional fields are left out."""
    for row in frame.select(schema.fields).iter_rows(named=True):
        given = {name: value for name, value in row.items() if value is not None}
        given |= {name: iso(given[name]) for name in (schema.time, *schema.times) if name in given}
        yield msgspec.json.encode(given)


def live_events(schema: Schema, context: pl.DataFrame) -> Iterator[LiveEvent]:
    """Each context event as it is sent; missing optional fields are left out."""
    fields = {kind: event_schema(schema, kind).fields for kind in schema.events}
    for row in context.iter_rows(named=True):
        given = {name: row[name] for name in (KIND, *fields[row[KIND]]) if row[name] is not None}
        given[schema.time] = iso(row[schema.time])
        yield LiveEvent(row[EVENT_ID], row[schema.time], msgspec.json.encode(given))


def outcome_body(live: Traffic, i: int) -> bytes:
    """The JSON of the outcome of transaction i."""
    told = {
        "transaction_id": live.ids[i], "is_fraud": bool(live.labels[i]), "time": iso(int(live.outcome_us[i])),
        "source": live.sources[i],
    }  # fmt: skip
    return msgspec.json.encode(told)


def _sources(schema: Schema, frame: pl.DataFrame) -> list[str]:
    if schema.outcome_source is None or schema.outcome_source not in frame.columns:
        return [OPERATOR] * len(frame)
    return frame[schema.outcome_source].fill_null(OPERATOR).to_list()


def shortest_delay(features: tuple[Feature, ...]) -> str:
    """The delay after which a history without outcome times takes its labels as known."""
    delays = [part.delay for feature in features for part in (feature, *feature.parts) if part.delay]
    return min(delays, key=duration_us, default=DEFAULT_OUTCOME_DELAY)


def _outcome_times(detector: Detector, frame: pl.DataFrame, times: NDArray[np.int64]) -> NDArray[np.int64]:
    name = detector.schema.outcome_time
    if name is not None and name in frame.columns:
        return frame[name].fill_null(np.iinfo(np.int64).max).to_numpy()
    return times + duration_us(shortest_delay(detector.features))
