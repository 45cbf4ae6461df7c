"""A feature tried on a handful of transactions: what the examples in `definitions.py` run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sentinel.events.columns import TRANSACTION, columns_of_transactions, context_kinds
from sentinel.events.schema import Schema
from sentinel.events.times import SECOND_US, instant_us, micros_of
from sentinel.features.definitions import Feature
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

MONDAY_US = instant_us("2024-01-01")


def example(feature: Feature, minutes: Sequence[float], **fields: Sequence[Any]) -> list[float]:
    """The feature at each of n transactions, `minutes` after the midnight with which a Monday began, to 3 decimals.

    `fields` has n values of each other field; unless given, the amounts are 1, the card is `a`, and nothing is fraud.
    The fields with texts are keys, those with datetimes further times (UTC), `latitude` and `longitude` are the place,
    all other numbers have two decimals. Where `event` has a text, that is an event of the context of this name; the
    others are transactions.
    """
    n = len(minutes)
    columns: dict[str, Sequence[Any]] = {"amount": (1.0,) * n, "card": ("a",) * n, "is_fraud": (0,) * n} | fields
    frauds, place = columns.pop("is_fraud"), ("latitude", "longitude")
    context = columns.pop("event", ("",) * n)
    texts = tuple(name for name, values in columns.items() if isinstance(values[0], str))
    instants = tuple(name for name, values in columns.items() if isinstance(values[0], datetime))
    schema = Schema(
        keys=texts,
        exact={name: 2 for name in columns if name not in (*texts, *instants, "amount", *place)},
        times=instants,
        place=place if "latitude" in columns else None,
        events={name: tuple(one for one in columns if one not in instants) for name in context if name},
    )
    columns |= {name: [micros_of(one, UTC) for one in columns[name]] for name in instants}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    times = [MONDAY_US + round(60 * SECOND_US * minute) for minute in minutes]
    make: Any = schema.wire_type
    number_of = context_kinds(schema)
    kinds = [number_of[name] if name else TRANSACTION for name in context]
    events = [
        make(transaction_id=str(i), event_time=time, **row)
        for i, (time, row) in enumerate(zip(times, rows, strict=True))
    ]
    words = {name: tuple(word for word, _ in Counter(columns[name]).most_common()) for name in texts}
    taken = columns_of_transactions(schema)(events, max(times))
    taken = replace(taken, kinds=np.array(kinds, np.uint8), labels=np.array(frauds, np.int8))
    found = MemoryStore(FeaturePlan(schema, (feature,), words)).advance(taken).rows[:, 0]
    return [round(value, 3) for value in found.tolist()]
