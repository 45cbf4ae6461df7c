"""The second reading: what is counted of a history does not depend on the order of its rows, nor grow with it."""

import numpy as np
import polars as pl

from sentinel.events.schema import Schema
from sentinel.inspect.overview import HOUR_US, _Counts

HOURS = 500


def counted(hours, labels, batches):
    counts = _Counts(Schema())
    for some, of in zip(np.array_split(hours, batches), np.array_split(labels, batches), strict=True):
        counts.add(pl.DataFrame({"event_time": some * HOUR_US, "amount": np.ones(len(some))}), of)
    return counts


def test_hours_that_come_in_any_order_are_kept_once():
    chance = np.random.default_rng(7)
    hours, labels = chance.integers(400_000, 400_000 + HOURS, 60_000), chance.integers(0, 3, 60_000).astype(np.int8)
    unsorted = counted(hours, labels, 60)
    assert len(unsorted._hours) == 3 * HOURS
    order = np.argsort(hours, kind="stable")
    in_order = counted(hours[order], labels[order], 1)
    assert unsorted._hours.sort("hour", "label").equals(in_order._hours.sort("hour", "label"))
    assert unsorted._hours["n"].sum() == 60_000
