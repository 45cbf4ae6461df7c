import polars as pl
import pytest

from sentinel.errors import DataProblem
from sentinel.events.files import history_of_frame, read_history
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.events.schema import Schema

SCHEMA = Schema(keys=("card",), categories=("channel",), optional=("channel",))
FRAME = pl.DataFrame(
    {
        "transaction_id": ["b", "a", "c"],
        "event_time": ["2025-01-02T00:00:00Z", "2025-01-01T00:00:00Z", "2025-01-03 00:00:00"],
        "amount": [1.25, 2.5, 3.0],
        "card": ["x", "y", "x"],
        "channel": ["web", None, ""],
        "is_fraud": [False, True, False],
    }
)


@pytest.fixture(params=[".csv", ".parquet", ".jsonl"])
def file(request, tmp_path):
    def write(frame):
        path = tmp_path / f"history{request.param}"
        {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[request.param](path)
        return path

    return write


def test_every_kind_of_file_gives_the_same_history_in_time_order(file):
    history = read_history(file(FRAME), SCHEMA)
    assert history.frame["transaction_id"].to_list() == ["a", "b", "c"]
    assert history.frame["event_time"].to_list() == [1735689600000000, 1735776000000000, 1735862400000000]
    assert history.frame["channel"].to_list() == [None, "web", None]
    assert history.frame["is_fraud"].to_list() == [1, 0, 0]
    assert history.skipped == {}


def test_columns_of_another_name_are_mapped(file):
    path = file(FRAME.rename({"event_time": "when", "card": "pan"}))
    renames = {"when": "event_time", "pan": "card"}
    assert len(read_history(path, SCHEMA, Reading(renames=renames))) == 3
    in_detector = Schema(
        keys=("card",), optional=("channel",), categories=("channel",), columns={"event_time": "when", "card": "pan"}
    )
    assert len(read_history(path, in_detector)) == 3


def test_one_column_may_serve_two_fields(file):
    schema = Schema(
        numbers=("elapsed",), optional=("transaction_id", "event_time"), columns={"event_time": "elapsed"},
        time_from="1970-01-01",
    )  # fmt: skip
    frame = read_history(file(pl.DataFrame({"elapsed": [90, 0, 30], "amount": [1.0, 2.0, 3.0]})), schema).frame
    assert frame["event_time"].to_list() == [0, 30_000_000, 90_000_000]
    assert frame["elapsed"].to_list() == [0.0, 30.0, 90.0]
    assert frame["transaction_id"].to_list() == ["row-2", "row-3", "row-1"]


def test_whole_numbers_may_be_followed_by_others_however_far_down(tmp_path):
    schema = Schema(numbers=("score",))
    rows = [f"{i},{1_600_000_000 + i},{i},{i},0" for i in range(12_000)] + ["12000,1.7e+09,12.5,2.5e-1,1"]
    path = tmp_path / "history.csv"
    path.write_text("\n".join(["transaction_id,event_time,amount,score,is_fraud", *rows]))
    frame = read_history(path, schema).frame
    assert len(frame) == 12_001
    last = frame[-1].select("transaction_id", "event_time", "amount", "score", "is_fraud").row(0)
    assert last == ("12000", 1_700_000_000_000_000, 12.5, 0.25, 1)


def test_a_missing_column_is_named_with_what_to_do(file):
    with pytest.raises(DataProblem, match=r"lacks card; it has .*--map COLUMN=card"):
        read_history(file(FRAME.drop("card")), SCHEMA)


def test_a_mapping_of_nothing_is_refused(file):
    with pytest.raises(DataProblem, match="no column nope"):
        read_history(file(FRAME), SCHEMA, Reading(renames={"nope": "card"}))
    with pytest.raises(DataProblem, match="no field nope"):
        read_history(file(FRAME), SCHEMA, Reading(renames={"card": "nope"}))


def test_bad_rows_are_counted_by_reason_and_strict_stops(tmp_path):
    bad = pl.DataFrame(
        {
            "transaction_id": ["a", "a", "c", "d", "e", "f", None, "h"],
            "event_time": ["2025-01-01", "2025-01-02", "never", "2025-01-04", "2025-01-05", "2025-01-06", "2025-01-07", "2300-01-01"],
            "amount": [1.0, 2.0, 3.0, -4.0, 5.555, 6.0, 7.0, 8.0],
            "card": ["x", "x", "x", "x", "x", None, "x", "x"],
            "channel": ["web"] * 8,
        }
    )  # fmt: skip
    path = tmp_path / "bad.parquet"
    bad.write_parquet(path)
    history = read_history(path, SCHEMA)
    assert history.frame["transaction_id"].to_list() == ["a"]
    assert history.skipped == {
        "amount has more than 2 decimals": 1,
        "amount is outside 0 to 1e+10": 1,
        "card is missing": 1,
        "event_time is no time from 1970 to 2100, or a number before 1980": 2,
        "transaction_id is missing": 1,
        "transaction_id seen before": 1,
    }
    with pytest.raises(DataProblem, match="leave out --strict"):
        read_history(path, SCHEMA, Reading(strict=True))


@pytest.mark.parametrize(("name", "content", "text"), [
    ("x.parquet", b"not parquet", "cannot be read"),
    ("x.csv", b"", "is empty"),
    ("x.jsonl", b"{broken", "cannot be read"),
    ("x.xlsx", b"", "ending"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_says_so(tmp_path, name, content, text):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataProblem, match=text):
        read_history(path, SCHEMA)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataProblem, match="no file"):
        read_history(tmp_path / "none.csv", SCHEMA)


def test_integers_that_an_empty_cell_made_floats_are_the_same_keys(tmp_path):
    path = tmp_path / "x.parquet"
    FRAME.with_columns(card=pl.Series([490.0, 490.0, 7.0]), channel=pl.Series([7.0, None, float("nan")])).write_parquet(
        path
    )
    history = read_history(path, SCHEMA)
    assert history.frame["card"].to_list() == ["490", "490", "7"]
    assert history.frame["channel"].to_list() == [None, "7", None]


ASSIGNED = Schema(optional=("transaction_id", "event_time"), rounded=("amount",))


def test_rows_without_id_and_time_are_numbered_in_the_order_of_the_file(file):
    history = read_history(file(pl.DataFrame({"amount": [1.25, 2.505, 3.0]})), ASSIGNED, Reading(strict=True))
    assert history.frame["transaction_id"].to_list() == ["row-1", "row-2", "row-3"]
    assert history.frame["event_time"].to_list() == [0, 1_000_000, 2_000_000]
    assert columns_of_frame(ASSIGNED, history.frame).exact[:, 0].tolist() == [125, 250, 300]


def test_a_row_without_a_time_has_no_place_among_those_that_have_one(file):
    frame = FRAME.select("transaction_id", "event_time", "amount").with_columns(
        transaction_id=pl.Series([None, "a", "b"]), event_time=pl.Series(["2025-01-02", "2025-01-01", None])
    )
    history = read_history(file(frame), ASSIGNED)
    assert history.frame["transaction_id"].to_list() == ["a", "row-1"]
    assert history.skipped == {"event_time is missing": 1}


def test_rows_more_than_a_day_ahead_of_the_moment_of_reading_are_left_out(file):
    times = ["2025-01-01", "2025-01-02", "2025-01-02T00:00:00.000001Z", "2099-01-01"]
    frame = FRAME.select("amount", "card").head(1).select(pl.all().repeat_by(4).explode())
    path = file(frame.with_columns(transaction_id=pl.Series(list("abcd")), event_time=pl.Series(times)))
    history = read_history(path, SCHEMA, now_us=1_735_689_600_000_000)
    assert history.frame["transaction_id"].to_list() == ["a", "b"]
    assert history.skipped == {"event_time is more than a day ahead of now": 2}
    assert read_history(path, SCHEMA).skipped == {"event_time is more than a day ahead of now": 1}


def test_a_schema_that_assigns_nothing_needs_both_columns(file):
    for name in ("transaction_id", "event_time"):
        with pytest.raises(DataProblem, match=f"lacks {name}"):
            read_history(file(FRAME.drop(name)), SCHEMA)


def test_texts_that_the_server_would_refuse_are_left_out():
    names, cards = ["a", "x" * 129, "c", "d"], ["k", "k", "k" * 257, ""]
    frame = pl.DataFrame(
        {name: [1.0] * 4 for name in (*SCHEMA.decimals, *SCHEMA.numbers)} | {"event_time": [1750000001] * 4}
    )
    frame = frame.with_columns(*(pl.lit("t").alias(name) for name in SCHEMA.texts))
    frame = frame.with_columns(pl.Series("transaction_id", names), pl.Series(SCHEMA.keys[0], cards))
    history = history_of_frame(frame, SCHEMA)
    assert history.frame["transaction_id"].to_list() == ["a"]
    assert sorted(history.skipped.values()) == [1, 1, 1]
