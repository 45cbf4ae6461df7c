"""What a kind of feature costs: the time an event takes with it, and with a plain feature in its place, in turn.

Plain are a key of one field, and a window without a condition. The slices of a stream go through all stores in turn, so
that a change of the machine's speed meets them all; figures are medians over the rounds.
"""

import os
import statistics
import time

import numpy as np

from report import publish
from sentinel.events.columns import FIRST_CONTEXT, EventColumns
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features.conditions import col
from sentinel.features.definitions import Feature
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

KEYS, SLICE, ROUNDS = 20_000, 1 << 15, 31
EVENT_US = 30_000_000
FIELDS = ("card", "shop", "pair", "status")
SCHEMA = Schema(keys=FIELDS[:3], categories=FIELDS[3:], events={"login": (*FIELDS, "amount")})
BASE = (f.count(by="card", over="7d"), f.mean("amount", by="card", over="7d"))
AND_DISTINCT = (*BASE, f.distinct("shop", by="card", over="30d"))
DECLINED, LARGE = col("status") == "declined", (col("amount") > 50) & ~col("status").is_missing()


def with_key(by: f.By) -> tuple[Feature, ...]:
    """A second key with two windows."""
    return (*BASE, f.count(by=by, over="7d"), f.mean("amount", by=by, over="1d"))


def with_windows(*where: object) -> tuple[Feature, ...]:
    """Two more windows of the first key; each with a condition, or None."""
    made = [f.mean("amount", by="card", over=over, where=one) for over, one in zip(("1d", "14d"), where, strict=True)]  # type: ignore[arg-type]
    return (*BASE, *made)


CASES: dict[str, tuple[tuple[Feature, ...], tuple[Feature, ...]]] = {
    "a key of two fields / a key": (with_key("pair"), with_key(("card", "shop"))),
    "two windows with conditions / two windows": (with_windows(None, None), with_windows(DECLINED, LARGE)),
    "is_first / distinct": (AND_DISTINCT, (*BASE, f.is_first("shop", by="card", over="30d"))),
    "share / distinct": (AND_DISTINCT, (*BASE, f.share("shop", by="card", over="30d"))),
    "entropy / distinct": (AND_DISTINCT, (*BASE, f.entropy("shop", by="card", over="30d"))),
    "top_share / distinct": (AND_DISTINCT, (*BASE, f.top_share("shop", by="card", over="30d"))),
    "a key that logins feed / a key": (
        with_key("pair"),
        (*BASE, f.count(event="login", by="pair", over="7d"), f.mean("amount", event="login", by="pair", over="1d")),
    ),
}


def stream() -> EventColumns:
    """Payments of KEYS cards at as many shops, a login among ten; `pair` is as varied as a card at a shop."""
    rng, n = np.random.default_rng(1), SLICE * ROUNDS
    texts = rng.integers(1, KEYS, (n, 4)).astype(np.uint64)
    texts[:, 1] = texts[:, 0] + texts[:, 1] % np.uint64(5)  # each card pays at a few shops
    texts[:, 2] = texts[:, 0] * np.uint64(KEYS * 2) + texts[:, 1]
    texts[:, 3] %= np.uint64(3)
    time_us = 10**15 + EVENT_US * np.arange(n)
    return EventColumns(
        kinds=np.where(rng.random(n) < 0.1, FIRST_CONTEXT, 0).astype(np.uint8),
        ids=rng.integers(1, 2**63, n).astype(np.uint64),
        time_us=time_us,
        received_us=time_us,
        exact=rng.integers(1, 10_000, (n, 1)),
        plain=np.zeros((n, 0)),
        texts=texts * np.uint64(0x9E3779B97F4A7C15),
        labels=np.full(n, -1, np.int8),
    )


def ns_of(store: MemoryStore, events: EventColumns) -> float:
    """Processor time of an event."""
    begun = time.process_time_ns()
    store.advance(events)
    return (time.process_time_ns() - begun) / len(events)


def main() -> None:
    """Print what an event takes with the base alone, with each kind beside it, and with what it is compared to."""
    os.sched_setaffinity(0, {1})
    events, figures = stream(), {}
    for name, plans in CASES.items():
        base, plain, kind = (MemoryStore(FeaturePlan(SCHEMA, features)) for features in (BASE, *plans))
        ns = []
        for n in range(ROUNDS):
            part = events.rows(slice(n * SLICE, (n + 1) * SLICE))
            ns.append([ns_of(store, part) for store in (base, plain, kind)])
        settled = ns[ROUNDS // 3 :]
        figures[name] = {
            "ns_base": round(statistics.median(one[0] for one in settled)),
            "ns_more_plain": round(statistics.median(one[1] - one[0] for one in settled)),
            "ns_more_of_this_kind": round(statistics.median(one[2] - one[0] for one in settled)),
            "whole_event_ratio": round(statistics.median(one[2] / one[1] for one in settled), 3),
        }
    publish(
        "feature_kinds",
        f"{KEYS:,} cards, slices of {SLICE:,} events through three stores in turn, {ROUNDS} rounds, one core",
        figures,
    )


if __name__ == "__main__":
    main()
