"""What the wire and a file say must become the same numbers."""

import json
import math
import uuid
from collections import Counter

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.events.columns import LABEL_UNKNOWN, Outcome, columns_of_events, columns_of_transactions, hash_text
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.events.schema import Schema
from sentinel.events.times import LATEST_US

SCHEMA = Schema(
    keys=("card", "shop"),
    categories=("channel", "online"),
    numbers=("risk",),
    exact={"points": 3},
    place=("lat", "lon"),
    optional=("shop", "channel", "risk", "points", "lat", "lon"),
    negative_amounts=True,
)
RECEIVED_US = 1_735_689_600_000_000
rows = st.fixed_dictionaries(
    {
        "event_time": st.integers(315_532_800, 4_102_444_799),
        "amount": st.integers(-(10**12), 10**12).map(lambda cents: cents / 100),
        "card": st.one_of(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)),
        "shop": st.one_of(st.none(), st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=5)),
        "channel": st.one_of(st.none(), st.sampled_from(["web", "chip"])),
        "online": st.booleans(),
        "risk": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32)),
        "points": st.one_of(st.none(), st.integers(-(10**9), 10**9).map(lambda n: n / 1000)),
        "lat": st.one_of(st.none(), st.floats(-90, 90)),
        "lon": st.one_of(st.none(), st.floats(-180, 180)),
    }
)


@settings(max_examples=200, deadline=None)
@given(st.lists(rows, min_size=1, max_size=10))
def test_a_row_of_a_file_and_the_same_json_are_the_same_event(given_rows):
    for i, row in enumerate(given_rows):
        row["transaction_id"] = f"t{i}"
    wire = [
        SCHEMA.decode(json.dumps({name: value for name, value in row.items() if value is not None}).encode())
        for row in given_rows
    ]
    live = columns_of_transactions(SCHEMA)(wire, RECEIVED_US)
    types = {"risk": pl.Float64, "points": pl.Float64, "lat": pl.Float64, "lon": pl.Float64}
    frame = pl.DataFrame(given_rows, schema_overrides=types, infer_schema_length=None)
    history = history_of_frame(frame, SCHEMA, now_us=LATEST_US)
    assert not history.skipped
    offline = columns_of_frame(SCHEMA, history.frame)
    order = np.argsort([row["event_time"] for row in given_rows], kind="stable")
    for name in ("ids", "time_us", "exact", "texts"):
        assert (getattr(live, name)[order] == getattr(offline, name)).all(), name
    np.testing.assert_array_equal(live.plain[order], offline.plain)
    assert (live.received_us == RECEIVED_US).all()
    assert (offline.received_us == offline.time_us).all()  # a history has no other


def test_labels_of_sources_that_are_not_trusted_are_unknown():
    schema = Schema(keys=("card",), outcome_source="who")
    frame = pl.DataFrame(
        {
            "transaction_id": ["a", "b", "c", "d"], "event_time": [1750000001, 1750000002, 1750000003, 1750000004], "amount": [1.0] * 4, "card": ["c"] * 4,
            "is_fraud": [True, False, True, True], "who": ["bank", "bank", "stranger", None],
        }
    )  # fmt: skip
    history = history_of_frame(frame, schema, now_us=LATEST_US).frame
    labels = lambda trusts: columns_of_frame(schema, history, trusts).labels.tolist()  # noqa: E731
    assert labels(None) == [1, 0, 1, 1]
    assert labels(("bank",)) == [1, 0, LABEL_UNKNOWN, LABEL_UNKNOWN]
    assert labels(()) == [LABEL_UNKNOWN] * 4
    unsaid = history.drop("who")
    assert columns_of_frame(schema, unsaid, ("bank",)).labels.tolist() == [1, 0, 1, 1]


def test_transactions_and_outcomes_of_one_batch_arrived_together():
    event = SCHEMA.decode(b'{"transaction_id":"a","event_time":1750000000,"amount":1,"card":"c","online":true}')
    events = columns_of_events(SCHEMA)([event, Outcome("a", is_fraud=True, time_us=7), event], RECEIVED_US)
    assert events.kinds.tolist() == [0, 1, 0]
    assert events.time_us.tolist() == [1_750_000_000_000_000, 7, 1_750_000_000_000_000]
    assert events.received_us.tolist() == [RECEIVED_US] * 3


@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_exact_numbers_survive_any_way_of_writing_them(minor, digits):
    schema = Schema(amount_decimals=digits, negative_amounts=True)
    scale = 10**digits
    if abs(minor) > 10**12 // scale * scale:
        return
    text = f"{'-' if minor < 0 else ''}{abs(minor) // scale}.{abs(minor) % scale:0{max(digits, 1)}d}"
    body = f'{{"transaction_id":"a","event_time":1750000000,"amount":{text}}}'
    events = columns_of_transactions(schema)([schema.decode(body.encode())], RECEIVED_US)
    assert events.exact[0, 0] == minor


def test_the_same_content_gives_the_same_bytes_and_comes_back():
    a = SCHEMA.decode(
        b'{"transaction_id":7,"event_time":"2025-01-01T01:00:00+01:00","amount":12.50,"card":5,"online":true}'
    )
    b = SCHEMA.decode(b'{"online":true,"card":"5","amount":1.25e1,"event_time":1735689600,"transaction_id":"7"}')
    assert SCHEMA.encode(a) == SCHEMA.encode(b)
    assert SCHEMA.encode(SCHEMA.restore(SCHEMA.encode(a))) == SCHEMA.encode(a)


def test_the_hash_is_stable_and_spreads():
    assert hash_text("card-1") == 0xD759_8324_F6B4_6871
    texts = [str(i) for i in range(200_000)] + [str(uuid.UUID(int=i)) for i in range(100_000)]
    hashes = np.array([hash_text(text) for text in texts], dtype=np.uint64)
    assert len(np.unique(hashes)) == len(texts)
    assert hashes.min() > 0
    for shift in (0, 20, 44):  # the table uses the low bits, but any 16 must be even
        buckets = Counter(((hashes >> np.uint64(shift)) & np.uint64(0xFFFF)).tolist())
        expected = len(texts) / 65_536
        chi2 = sum((n - expected) ** 2 / expected for n in buckets.values()) + (65_536 - len(buckets)) * expected
        assert abs(chi2 - 65_536) < 6 * math.sqrt(2 * 65_536)
