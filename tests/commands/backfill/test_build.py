"""A history in pieces gives the features that it gives at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel import Detector, Schema, category, count, fraud_rate, mean
from sentinel.commands.backfill.build import build_features
from sentinel.commands.backfill.parquet_rows import ParquetRows
from sentinel.commands.backfill.pieces import Pieces, features_of
from sentinel.commands.backfill.repeated_ids import IdsSeen
from sentinel.config import Settings
from sentinel.errors import DataProblem
from sentinel.events.files import RowReader, history_of_frame
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.events.secrets import Secrets
from sentinel.events.times import TimeForm
from sentinel.features.store import MemoryStore

SCHEMA = Schema(keys=("card_id", "shop_id"), categories=("channel",), outcome_time="known_at")
FEATURES = (
    count(by="card_id", over="1h"),
    mean("amount", by="card_id", over="3h"),
    fraud_rate(by="shop_id", over="6h", delay="1h"),
    category("channel"),
)
DETECTOR = Detector(schema=SCHEMA, features=FEATURES)
WITHOUT_TIMES = Detector(schema=Schema(keys=SCHEMA.keys, categories=SCHEMA.categories), features=FEATURES)
NOW_US = 1_800_000_000_000_000
N = 120


def history(seed: int) -> pl.DataFrame:
    """Sorted by time, with equal moments, outcomes that come later and ones that come never, and missing values."""
    chance = np.random.default_rng(seed)
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    seconds = np.sort(chance.integers(0, 40_000, N))
    known = seconds + chance.integers(-500, 15_000, N)
    return pl.DataFrame({
        "transaction_id": [f"t{i}" for i in range(N)],
        "event_time": [begin + timedelta(seconds=int(one)) for one in seconds],
        "amount": np.round(chance.uniform(1, 900, N), 2),
        "card_id": chance.integers(1, 9, N).astype(np.uint16),
        "shop_id": [f"s{one}" for one in chance.integers(0, 5, N)],
        "channel": [("app", "web", "chip")[one] for one in chance.integers(0, 3, N)],
        "is_fraud": [None if one == 0 else one == 1 for one in chance.integers(0, 6, N)],
        "known_at": [begin + timedelta(seconds=int(one)) for one in known],
    })  # fmt: skip


def at_once(detector: Detector, frame: pl.DataFrame) -> pl.DataFrame:
    read = history_of_frame(frame, detector.schema, now_us=NOW_US)
    store = MemoryStore(detector.plan({"channel": ("web", "app")}))
    rows = store.advance(columns_of_frame(detector.schema, read.frame)).rows
    names = store.plan.names
    return pl.DataFrame(
        {"transaction_id": read.frame["transaction_id"], **dict(zip(names, rows.T.copy(), strict=True))}
    )


def in_pieces(detector: Detector, path: Path, frame: pl.DataFrame, size: int) -> pl.DataFrame:
    names = [*detector.schema.fields, "is_fraud", *detector.schema.outcome_columns]
    rows = ParquetRows([path], {name: name for name in names if name in frame.columns}, size)
    reader = RowReader(detector.schema, Reading(), Secrets(), NOW_US)
    meanings = {"true": 1, "false": 0, "1": 1, "0": 0}
    pieces = Pieces(reader, MemoryStore(detector.plan({"channel": ("web", "app")})), meanings)
    return pl.concat(features_of(rows.in_order("event_time", TimeForm.of("UTC", None, None), 0), pieces))


@pytest.mark.parametrize("detector", [DETECTOR, WITHOUT_TIMES], ids=["outcomes with times", "labels alone"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 50), size=st.integers(3, N + 5))
def test_in_pieces_is_at_once_to_the_bit(tmp_path_factory, detector, seed, size):
    frame, path = history(seed), tmp_path_factory.mktemp("rows") / "h.parquet"
    frame.write_parquet(path, row_group_size=64)
    assert in_pieces(detector, path, frame, size).equals(at_once(detector, frame))


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 50), size=st.integers(20, N + 5))
def test_unsorted_rows_are_replayed_in_the_order_of_time(tmp_path_factory, seed, size):
    frame = history(seed).sample(fraction=1.0, shuffle=True, seed=seed)
    path = tmp_path_factory.mktemp("rows") / "h.parquet"
    frame.write_parquet(path, row_group_size=64)
    assert in_pieces(DETECTOR, path, frame, size).equals(at_once(DETECTOR, frame))


def test_groups_side_by_side_give_the_same_bits(tmp_path):
    events = columns_of_frame(SCHEMA, history_of_frame(history(1), SCHEMA, now_us=NOW_US).frame)
    plan = DETECTOR.plan({"channel": ("web",)})
    with ThreadPoolExecutor(2) as threads:
        beside = MemoryStore(plan, threads).advance(events).rows
    assert beside.tobytes() == MemoryStore(plan).advance(events).rows.tobytes()


@given(ids=st.lists(st.text(max_size=3), max_size=30))
def test_repeated_ids_are_found(ids):
    seen = IdsSeen(BytesIO())
    for one in ids:
        seen.add(pl.Series([one], dtype=pl.String))
    assert seen.has_repeats() == (len(set(ids)) < len(ids))


def written(tmp_path, frame: pl.DataFrame, reading: Reading | None = None) -> pl.DataFrame:
    (tmp_path / "d.py").write_text(
        "from sentinel import Detector, Schema, count\n"
        'detector = Detector(schema=Schema(keys=("card_id",)), features=(count(by="card_id", over="1h"),))\n'
    )
    frame.write_parquet(tmp_path / "h.parquet")
    out = tmp_path / "f.parquet"
    build_features(Settings(), str(tmp_path / "d.py"), tmp_path / "h.parquet", out, reading or Reading())
    return pl.read_parquet(out)


def test_the_first_row_of_an_id_counts(tmp_path):
    frame = history(3)
    twice = pl.concat([frame, frame.tail(7)])
    assert written(tmp_path, twice).equals(written(tmp_path, frame))


def test_what_cannot_be_used_leaves_the_file_as_it_was(tmp_path):
    before = written(tmp_path, history(4))
    with pytest.raises(DataProblem, match="cannot be used"):
        written(tmp_path, history(4).with_columns(card_id=pl.lit(None, pl.UInt16)), Reading(strict=True))
    assert pl.read_parquet(tmp_path / "f.parquet").equals(before)
    assert sorted(one.name for one in tmp_path.iterdir() if one.suffix == ".parquet") == ["f.parquet", "h.parquet"]
