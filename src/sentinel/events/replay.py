"""Replay: a history in a frame as the event log that the server would have seen."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.events.cells import mapped
from sentinel.events.columns import (
    LABEL_UNKNOWN,
    NO_TEXT,
    TRANSACTION,
    EventColumns,
    concatenate,
    context_kinds,
    fixed_point,
    hash_text,
    outcome_rows,
)
from sentinel.events.schema import Schema
from sentinel.events.stamps import POSITION, RECEIVED, TOLD, told_in
from sentinel.events.wire import KIND


def columns_of_frame(
    schema: Schema,
    frame: pl.DataFrame,
    trusts: Collection[str] | None = None,
    context: pl.DataFrame | None = None,
) -> EventColumns:
    """A history in schema columns (see `files.read_history`) as events, in the order of the rows.

    With an `outcome_time` the outcomes become events of their own, placed before the first transaction that is not
    earlier than they are. Without one each transaction carries its label, which delayed features see once their delay
    has passed. Events of `context` (see `files.History`) are placed as outcomes are, before those of the same moment;
    kinds that the schema does not declare are left out. With an `outcome_source` only outcomes of the sources in
    `trusts` count (None: all).
    An event arrived at its own time, or with the one before it if that is later: a history has no other clock. What
    was exported from a log has one: it follows on the rest as it came in there, with all that features were told.
    """
    if POSITION not in frame.columns:
        return _by_time(schema, frame, trusts, context)
    before, logged = _parted(frame)
    context_before, context_logged = _parted(context) if context is not None else (None, None)
    parts = [_by_time(schema, before, trusts, context_before)] if len(before) else []
    return _never_back(concatenate([*parts, _as_received(schema, logged, context_logged)]))


def _parted(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that come from no log, and those that do."""
    if POSITION not in frame.columns:
        return frame, frame.clear()
    is_logged = pl.col(POSITION).is_not_null() & pl.col(RECEIVED).is_not_null()
    return frame.filter(~is_logged), frame.filter(is_logged)


def _as_received(schema: Schema, frame: pl.DataFrame, context: pl.DataFrame | None) -> EventColumns:
    """What a log has, in its order, each event received when it was received there."""
    n = len(frame)
    unknown = np.full(n, LABEL_UNKNOWN, np.int8)
    ids = text_hashes(frame[schema.id])
    told = told_in(frame[TOLD])
    outcomes = outcome_rows(schema, ids[told.rows], told.received_us, told.received_us, told.labels)
    parts = [_columns(schema, frame, np.full(n, TRANSACTION, np.uint8), ids, unknown), outcomes]
    positions = [frame[POSITION].to_numpy(), told.positions]
    received = [frame[RECEIVED].to_numpy(), told.received_us]
    if context is not None and len(context):
        context = context.filter(pl.col(KIND).is_in(list(context_kinds(schema))))
        parts.append(context_columns(schema, context))
        positions.append(context[POSITION].to_numpy())
        received.append(context[RECEIVED].to_numpy())
    events = replace(concatenate(parts), received_us=np.concatenate(received))
    return events.rows(np.argsort(np.concatenate(positions), kind="stable"))


def _by_time(
    schema: Schema, frame: pl.DataFrame, trusts: Collection[str] | None, context: pl.DataFrame | None
) -> EventColumns:
    """What has no other order than that of time."""
    n = len(frame)
    ids, kinds = text_hashes(frame[schema.id]), np.full(n, TRANSACTION, np.uint8)
    transactions = _columns(schema, frame, kinds, ids, _labels(schema, frame, trusts))
    told = [] if context is None or context.is_empty() else [context_columns(schema, context)]
    if schema.outcome_time is not None and schema.outcome_time in frame.columns:
        told.append(_outcomes(schema, transactions, frame))
        transactions = replace(transactions, labels=np.full(n, LABEL_UNKNOWN, np.int8))
    return _never_back(_with_told(transactions, concatenate(told)) if told else transactions)


def _never_back(events: EventColumns) -> EventColumns:
    """The same, each received with the one before it if that is later."""
    return replace(events, received_us=np.maximum.accumulate(events.received_us))


def context_columns(schema: Schema, context: pl.DataFrame) -> EventColumns:
    """The context events of a history whose kinds the schema declares, in the order of the rows."""
    kinds = context_kinds(schema)
    context = context.filter(pl.col(KIND).is_in(list(kinds)))
    numbers = np.array([kinds[one] for one in context[KIND]], np.uint8)
    n = len(context)
    return _columns(schema, context, numbers, np.full(n, NO_TEXT, np.uint64), np.full(n, LABEL_UNKNOWN, np.int8))


def columns_of_piece(
    schema: Schema, frame: pl.DataFrame, ids: NDArray[np.uint64], texts: Mapping[str, NDArray[np.uint64]],
    trusts: Collection[str] | None,
) -> tuple[EventColumns, EventColumns]:  # fmt: skip
    """A piece of a history that is in the order of time, and the outcomes that its rows tell, if they have a time.

    `ids` (n,) and `texts`, by field (n,), are hashes. Who goes through pieces places the outcomes, by `with_outcomes`.
    """
    n = len(frame)
    kinds, stacked = np.full(n, TRANSACTION, np.uint8), _stack([texts[name] for name in schema.texts], n, np.uint64)
    rows = _with_texts(schema, frame, kinds, ids, _labels(schema, frame, trusts), stacked)
    if schema.outcome_time is None or schema.outcome_time not in frame.columns:
        return rows, rows.rows(slice(0))
    return replace(rows, labels=np.full(n, LABEL_UNKNOWN, np.int8)), _outcomes(schema, rows, frame)


def with_outcomes(piece: EventColumns, told: EventColumns) -> tuple[EventColumns, EventColumns]:
    """A piece of transactions in order with the outcomes that belong before one of them, and those that do not yet.

    Of two pieces, one after the other, that gives what it gives of both at once: an outcome that comes no later than
    its own transaction is about nothing that is known.
    """
    told = told.rows(np.argsort(told.time_us, kind="stable"))
    due = int(np.searchsorted(told.time_us, piece.time_us[-1], side="right")) if len(piece) else 0
    if due == 0:
        return piece, told
    return _never_back(_with_told(piece, told.rows(slice(due)))), told.rows(slice(due, None))


def _columns(
    schema: Schema, frame: pl.DataFrame, kinds: NDArray[np.uint8], ids: NDArray[np.uint64], labels: NDArray[np.int8]
) -> EventColumns:
    """Rows of a frame as events that arrived at their own time."""
    texts = _stack([text_hashes(frame[name]) for name in schema.texts], len(frame), np.uint64)
    return _with_texts(schema, frame, kinds, ids, labels, texts)


def _with_texts(
    schema: Schema, frame: pl.DataFrame, kinds: NDArray[np.uint8], ids: NDArray[np.uint64], labels: NDArray[np.int8],
    texts: NDArray[np.uint64],
) -> EventColumns:  # fmt: skip
    time_us = frame[schema.time].to_numpy().astype(np.int64)
    scales = np.array([10.0**digits for digits in schema.whole_numbers.values()])
    exact = frame.select(pl.col(list(schema.whole_numbers)).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    return EventColumns(
        kinds=kinds,
        ids=ids,
        time_us=time_us,
        received_us=time_us,
        exact=fixed_point(exact, scales),
        plain=_matrix(frame, schema.plain_numbers, np.float64),
        texts=texts,
        labels=labels,
    )


def _labels(schema: Schema, frame: pl.DataFrame, trusts: Collection[str] | None) -> NDArray[np.int8]:
    if schema.label not in frame.columns:
        return np.full(len(frame), LABEL_UNKNOWN, np.int8)
    labels = frame[schema.label].cast(pl.Int8).fill_null(LABEL_UNKNOWN).to_numpy()
    if trusts is None or schema.outcome_source is None or schema.outcome_source not in frame.columns:
        return labels
    is_trusted = frame[schema.outcome_source].is_in(list(trusts)).fill_null(value=False).to_numpy()
    return np.where(is_trusted, labels, LABEL_UNKNOWN).astype(np.int8)


def _outcomes(schema: Schema, transactions: EventColumns, frame: pl.DataFrame) -> EventColumns:
    """The outcomes of a history with their times, each as an event."""
    arrival = frame[schema.outcome_time or ""]
    known = (arrival.is_not_null() & (pl.Series(transactions.labels) != LABEL_UNKNOWN)).to_numpy()
    when = arrival.fill_null(0).to_numpy().astype(np.int64)[known]
    return outcome_rows(schema, transactions.ids[known], when, when, transactions.labels[known])


def _with_told(transactions: EventColumns, told: EventColumns) -> EventColumns:
    """The transactions with what was told between them; what comes after the last of them is left out."""
    told = told.rows(np.argsort(told.time_us, kind="stable"))
    newest = np.maximum.accumulate(transactions.time_us)
    place = np.searchsorted(newest, told.time_us, side="left")
    within = place < len(transactions)
    told, place = told.rows(within), place[within]
    order = np.argsort(np.concatenate([np.arange(len(transactions)) + 0.5, place]), kind="stable")
    return concatenate([transactions, told]).rows(order)


def text_hashes(column: pl.Series) -> NDArray[np.uint64]:
    """The hash of every text of a column; each distinct text is hashed once."""
    return mapped(column, hash_text, pl.UInt64).fill_null(NO_TEXT).to_numpy()


def _matrix(frame: pl.DataFrame, names: Sequence[str], kind: Any) -> NDArray[Any]:
    columns = [frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names]
    return _stack(columns, len(frame), kind)


def _stack(columns: Sequence[NDArray[Any]], n: int, kind: Any) -> NDArray[Any]:
    if not columns:
        return np.zeros((n, 0), kind)
    return np.ascontiguousarray(np.stack(columns, axis=1).astype(kind))
