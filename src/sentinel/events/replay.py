"""Replay: a history in a frame as the event log that the server would have seen."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.events.columns import (
    LABEL_UNKNOWN,
    NO_TEXT,
    EventColumns,
    concatenate,
    fixed_point,
    hash_text,
    outcome_rows,
)
from sentinel.events.schema import Schema


def columns_of_frame(schema: Schema, frame: pl.DataFrame, trusts: Collection[str] | None = None) -> EventColumns:
    """A history in schema columns (see `files.read_history`) as events, in the order of the rows.

    With an `outcome_time` the outcomes become events of their own, placed before the first transaction that
    is not earlier than they are. Without one each transaction carries its label, which delayed features see
    once their delay has passed. With an `outcome_source` only outcomes of the sources in `trusts` count (None: all).
    An event arrived at its own time, or with the one before it if that is later: a history has no other clock.
    """
    n = len(frame)
    time_us = frame[schema.time].to_numpy().astype(np.int64)
    scales = np.array([10.0**digits for digits in schema.decimals.values()])
    exact = frame.select(pl.col(list(schema.decimals)).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    transactions = EventColumns(
        is_outcome=np.zeros(n, np.uint8),
        ids=text_hashes(frame[schema.id]),
        time_us=time_us,
        received_us=time_us,
        exact=fixed_point(exact, scales),
        plain=_matrix(frame, schema.numbers, np.float64),
        texts=_stack([text_hashes(frame[name]) for name in schema.texts], n, np.uint64),
        labels=_labels(schema, frame, trusts),
    )
    events = transactions
    if schema.outcome_time is not None and schema.outcome_time in frame.columns:
        events = _with_outcomes(schema, transactions, frame)
    return replace(events, received_us=np.maximum.accumulate(events.received_us))


def _labels(schema: Schema, frame: pl.DataFrame, trusts: Collection[str] | None) -> NDArray[np.int8]:
    if schema.label not in frame.columns:
        return np.full(len(frame), LABEL_UNKNOWN, np.int8)
    labels = frame[schema.label].cast(pl.Int8).fill_null(LABEL_UNKNOWN).to_numpy()
    if trusts is None or schema.outcome_source is None or schema.outcome_source not in frame.columns:
        return labels
    is_trusted = frame[schema.outcome_source].is_in(list(trusts)).fill_null(value=False).to_numpy()
    return np.where(is_trusted, labels, LABEL_UNKNOWN).astype(np.int8)


def _with_outcomes(schema: Schema, transactions: EventColumns, frame: pl.DataFrame) -> EventColumns:
    arrival = frame[schema.outcome_time or ""]
    known = (arrival.is_not_null() & (pl.Series(transactions.labels) != LABEL_UNKNOWN)).to_numpy()
    when = arrival.fill_null(0).to_numpy().astype(np.int64)[known]
    by_arrival = np.argsort(when, kind="stable")
    outcomes = outcome_rows(schema, transactions.ids[known], when, when, transactions.labels[known]).rows(by_arrival)
    newest = np.maximum.accumulate(transactions.time_us)
    place = np.searchsorted(newest, outcomes.time_us, side="left")
    within = place < len(transactions)
    outcomes, place = outcomes.rows(within), place[within]
    order = np.argsort(np.concatenate([np.arange(len(transactions)) + 0.5, place]), kind="stable")
    blind = replace(transactions, labels=np.full(len(transactions), LABEL_UNKNOWN, np.int8))
    return concatenate([blind, outcomes]).rows(order)


def text_hashes(column: pl.Series) -> NDArray[np.uint64]:
    """The hash of every text of a column; each distinct text is hashed once."""
    distinct = column.unique().drop_nulls()
    hashes = pl.Series([hash_text(text) for text in distinct.to_list()], dtype=pl.UInt64)
    return column.replace_strict(distinct, hashes, default=NO_TEXT, return_dtype=pl.UInt64).to_numpy()


def _matrix(frame: pl.DataFrame, names: Sequence[str], kind: Any) -> NDArray[Any]:
    columns = [frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names]
    return _stack(columns, len(frame), kind)


def _stack(columns: Sequence[NDArray[Any]], n: int, kind: Any) -> NDArray[Any]:
    if not columns:
        return np.zeros((n, 0), kind)
    return np.ascontiguousarray(np.stack(columns, axis=1).astype(kind))
