"""The columns that keep the order of a log in a file."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import DataProblem
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.events.schema import Schema
from sentinel.events.stamps import PART, POSITION, RECEIVED, STAMPS, TOLD, LogPart, part_of, told_in, told_text

SCHEMA = Schema(keys=("card",))
TOLDS = st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 1)), max_size=4)


@given(st.lists(TOLDS, min_size=1, max_size=5))
def test_what_features_were_told_comes_back(rows):
    found = told_in(pl.Series([told_text(told) for told in rows], dtype=pl.String))
    assert found.rows.tolist() == [n for n, told in enumerate(rows) for _ in told]
    triples = zip(found.positions.tolist(), found.received_us.tolist(), found.labels.tolist(), strict=True)
    assert list(triples) == [one for told in rows for one in told]


@pytest.mark.parametrize("cell", ["1:2", "1:2:3", "a:2:1", "1:2:1;", "-1:2:1", "1:2:1,5:6:0"])
def test_a_cell_of_another_form_is_named(cell):
    with pytest.raises(DataProblem, match=r"log\.told holds"):
        told_in(pl.Series([cell]))


def frame(**changes):
    return pl.DataFrame(
        {
            "transaction_id": ["a", "b", "c", "d"], "event_time": [1_700_000_004, 1_700_000_002, 1_700_000_003, 1_700_000_001],
            "amount": [1.0, 2.0, 3.0, 4.0], "card": ["x"] * 4, "is_fraud": [0, 1, None, 0],
            POSITION: [7, 4, 5, None], RECEIVED: [90, 50, 50, None], TOLD: ["8:95:1", "6:60:0;9:99:1", None, None],
            PART: ["log:4:10"] * 3 + [None],
        } | changes
    )  # fmt: skip


def test_what_has_a_place_in_the_log_follows_on_the_rest_in_that_order():
    history = history_of_frame(frame(), SCHEMA)
    assert history.frame["transaction_id"].to_list() == ["d", "b", "c", "a"]
    events = columns_of_frame(SCHEMA, history.frame)
    assert events.kinds.tolist() == [0, 0, 0, 1, 0, 1, 1]
    assert events.labels.tolist() == [0, -1, -1, 0, -1, 1, 1]
    assert (np.diff(events.received_us) >= 0).all()
    assert part_of(history.frame) == LogPart("log", 4, 10)


def test_a_file_that_lacks_one_of_the_stamps_is_in_the_order_of_time():
    for name in STAMPS:
        history = history_of_frame(frame().drop(name), SCHEMA)
        assert history.frame["transaction_id"].to_list() == ["d", "b", "c", "a"]
        assert not set(STAMPS) & set(history.frame.columns)
        assert columns_of_frame(SCHEMA, history.frame).labels.tolist() == [0, 1, -1, 0]
        assert part_of(history.frame) is None


def test_parts_of_several_logs_are_refused():
    with pytest.raises(DataProblem, match="several logs"):
        part_of(frame(**{PART: ["log:4:10", "other:1:9", None, None]}))
