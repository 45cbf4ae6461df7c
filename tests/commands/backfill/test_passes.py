"""Rows that are dealt out by their keys, a pass for each, give the features that one process gives of all of them."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel import Detector, Schema, category, count, fraud_rate, mean, ratio
from sentinel.commands.backfill.parquet_rows import moments
from sentinel.commands.backfill.pieces import Pieces, features_of, last_pass_of, pass_of
from sentinel.events.files import NUMBER, RowReader
from sentinel.events.reading import Reading
from sentinel.events.secrets import Secrets
from sentinel.features.store import MemoryStore

DETECTOR = Detector(
    schema=Schema(keys=("card_id", "shop_id"), categories=("channel",), outcome_time="known_at", optional=("shop_id",)),
    features=(
        count(by="card_id", over="1h").named("cards"),
        ratio(count(by="card_id", over="2h"), to=count(by="shop_id", over="3h")),
        fraud_rate(by="shop_id", over="6h", delay="1h"),
        mean("amount", by=("card_id", "shop_id"), over="9h"),
        category("channel"),
    ),
)
PLAN = DETECTOR.plan({"channel": ("web", "app")})
N = 150


class OnlyArrow:
    """A batch that nothing is known of but that it speaks Arrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def history(seed: int) -> pl.DataFrame:
    """In the order of time, with equal moments, shops that are missing, and outcomes that come later or never."""
    chance = np.random.default_rng(seed)
    at_s = 1_770_000_000 + np.sort(chance.integers(0, 30_000, N))
    known_s = at_s + chance.integers(-500, 15_000, N)
    return pl.DataFrame({
        "transaction_id": [f"t{i}" for i in range(N)],
        "event_time": pl.Series(at_s * 10**6).cast(pl.Datetime("us", "UTC")),
        "amount": [float(one) / 4 for one in chance.integers(1, 999, N)],
        "card_id": chance.integers(1, 9, N).astype(np.uint16),
        "shop_id": [None if one == 0 else f"s{one}" for one in chance.integers(0, 5, N)],
        "channel": [("app", "web", "chip")[one] for one in chance.integers(0, 3, N)],
        "is_fraud": [None if one == 0 else one == 1 for one in chance.integers(0, 6, N)],
        "known_at": pl.Series(known_s * 10**6).cast(pl.Datetime("us", "UTC")),
        NUMBER: pl.Series(range(1, N + 1), dtype=pl.Int64),
    })  # fmt: skip


def pieces() -> Pieces:
    reader = RowReader(PLAN.schema, Reading(), Secrets(), 1_800_000_000_000_000)
    return Pieces(reader, MemoryStore(PLAN), {"true": 1, "false": 0})


def dealt(rows: pl.DataFrame, by: str, shares: int) -> list[pl.DataFrame]:
    """What a shuffle does: all rows of a key in one share, those without one anywhere; sorted within."""
    kept, keys = pieces().keys_of(rows)
    assert kept.all()
    places = np.where(keys[by] == 0, rows[NUMBER].to_numpy(), keys[by]) % shares
    at = moments(rows["event_time"], "event_time", Reading().time_form(PLAN.schema))
    rows = rows.with_columns(at.alias("#at"))
    found = [rows.filter(pl.Series(places == one)).sort("#at", NUMBER).drop("#at") for one in range(shares)]
    return [one for one in found if len(one)]


def in_batches(rows: pl.DataFrame, size: int) -> list[OnlyArrow]:
    return [OnlyArrow(one) for one in rows.iter_slices(size)]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), shares=st.integers(1, 5), size=st.integers(1, N))
def test_a_pass_for_each_key_is_one_run_over_all_to_the_bit(seed, shares, size):
    rows = history(seed)
    at_once = pl.concat(features_of([rows], pieces()))
    *groups, last = PLAN.compiled.names
    assert len(groups) == 2
    rows = rows.sample(fraction=1.0, shuffle=True, seed=seed)
    for by in groups:
        rows = pl.concat(
            frame for share in dealt(rows, by, shares) for frame in pass_of(by, in_batches(share, size), pieces())
        )
    found = pl.concat(
        frame for share in dealt(rows, last, shares) for frame in last_pass_of(last, in_batches(share, size), pieces())
    )
    found = at_once.select("transaction_id").join(found, on="transaction_id", maintain_order="left")
    for name in PLAN.names:
        assert found[name].to_numpy().tobytes() == at_once[name].to_numpy().tobytes(), name
