"""One contract: a table gives the same transactions from any kind of file as when its rows are sent live."""

import csv
import gzip
import io
import json
from datetime import datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import DataProblem, InvalidInput
from sentinel.events.columns import columns_of_transactions
from sentinel.events.files import history_of_frame, read_history
from sentinel.events.reader import TransactionReader
from sentinel.events.reading import Dialect, Reading
from sentinel.events.replay import columns_of_frame
from sentinel.events.schema import Schema
from sentinel.events.secrets import HashKey, Secrets
from sentinel.features import definitions as f
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

SCHEMA = Schema(
    keys=("card", "shop"), categories=("mcc", "online"), numbers=("risk",), exact={"points": 3},
    optional=("shop", "mcc", "risk", "points", "online"), negative_amounts=True,
)  # fmt: skip
PLAN = FeaturePlan(
    SCHEMA,
    (
        f.field("amount"), f.count(by="card", over="7d"), f.total("amount", by="card", over="30d"), f.field("risk"),
        f.distinct("shop", by="card", over="7d"), f.seconds_since_last(by="card"), f.total("points", by="shop", over="7d"),
    ),
)  # fmt: skip
NAMES = (*SCHEMA.fields, "is_fraud")
KEY = Secrets(HashKey("1", b"a" * 32))
READER = TransactionReader(SCHEMA, KEY)
COLUMNS_OF = columns_of_transactions(SCHEMA)

words = st.one_of(
    st.sampled_from(["0012", "12", "007", "1e10", "12e4567", "1E5", "0x1F", "-0", "1.0", "true", "NULL", "N/A", "nan", "#1"]),
    st.sampled_from(["", "  ", " x", "a,b", "a;b", 'say "x"', "two\nlines", "tab\there", "1,5", "=1+1", "\ufeffx", "e\u0301", "\U0001f4b3"]),
    st.integers(0, 10**25).map(str),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(lambda text: text == text.strip()),
)  # fmt: skip
numbers_or_words = st.one_of(words, st.integers(-(2**63), 2**64 - 1), st.integers(-(10**30), 10**30))
"""Ids as JSON has them: whole numbers of any size, too."""

money = st.one_of(
    st.decimals(-(10**6), 10**6, places=2).map(lambda one: f"{one:f}"),
    st.sampled_from(["0", "-0.00", "1e2", "1.5E+3", "12.50", "0.1", "1000000"]),
)
single = st.floats(-(2.0**100), 2.0**100, width=32).map(lambda one: str(np.float32(one)))
"""A number of single precision is the shortest that it stands for."""

moments = st.one_of(
    st.integers(320_000_000, 1_760_000_000),
    st.integers(320_000_000_000, 1_760_000_000_000),
    st.integers(1_000_000_000, 1_760_000_000).map(lambda one: one + 0.25),
    st.sampled_from(
        [
            "20250131",
            "2025-01-31",
            "1735689600",
            "1735689600000",
            "2025-W05-1",
            "173568960",
            "",
            "\u0663",
            "2025-01-31T10:00:00+05:30",
        ]
    ),
    st.datetimes(datetime(1990, 1, 1), datetime(2025, 1, 1)).map(lambda one: one.isoformat(sep=" ")),
)


def rows_of(words):
    row = st.fixed_dictionaries(
        {
            "event_time": moments, "amount": money, "points": st.one_of(st.none(), money), "card": words,
            "risk": st.one_of(st.none(), single),
            "shop": st.one_of(st.none(), words), "mcc": st.one_of(st.none(), words),
            "online": st.one_of(st.none(), st.booleans()), "is_fraud": st.sampled_from([None, True, False]),
        }
    )  # fmt: skip
    return st.lists(row, min_size=1, max_size=12).map(
        lambda rows: [{"transaction_id": f"{i:03d}", **row} for i, row in enumerate(rows)]
    )


ROWS = rows_of(words)
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|"), "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
    }
)  # fmt: skip
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])


def live(rows):
    """What the service makes of the rows, and which it refuses."""
    accepted = []
    for row in rows:
        body = {name: value for name, value in row.items() if value is not None and name != "is_fraud"}
        numbers = {name: json.loads(body[name]) for name in ("amount", "points", "risk") if name in body}
        try:
            accepted.append(READER.decode(json.dumps(body | numbers).encode()))
        except InvalidInput:
            continue
    return accepted


def features_of(rows):
    accepted = sorted(live(rows), key=lambda one: one.event_time)
    received = np.maximum.accumulate(COLUMNS_OF(accepted, 0).time_us)
    store, found = MemoryStore(PLAN), []
    for n, one in enumerate(accepted):
        found.append(store.advance(COLUMNS_OF([one], int(received[n]))).rows[0])
    return [one.transaction_id for one in accepted], np.array(found).reshape(len(found), -1).tobytes()


def features_in(history):
    events = columns_of_frame(SCHEMA, history.frame)
    return history.frame["transaction_id"].to_list(), MemoryStore(PLAN).advance(events).rows.tobytes()


def in_csv(rows, **dialect):
    written = io.StringIO()
    writer = csv.DictWriter(written, NAMES, **dialect)
    writer.writeheader()
    for row in rows:
        shown = {name: "" if row[name] is None else row[name] for name in NAMES}
        writer.writerow(shown | {name: str(row[name]).lower() for name in ("online",) if row[name] is not None})
    return written.getvalue()


def check(history, rows):
    assert features_in(history) == features_of(rows)
    assert sum(history.skipped.values()) == len(rows) - len(history)
    labels = {row["transaction_id"]: row["is_fraud"] for row in rows}
    if "is_fraud" not in history.frame.columns:
        assert set(labels.values()) == {None}
        return
    of_file = dict(history.frame.select("transaction_id", "is_fraud").iter_rows())
    assert of_file == {name: None if labels[name] is None else int(labels[name]) for name in of_file}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, dialect=DIALECTS, encoding=ENCODINGS, zipped=st.booleans())
def test_csv_in_any_dialect_is_what_was_sent(tmp_path, rows, dialect, encoding, zipped):
    """Its cells are texts: a time is the text that is sent, and of ten, thirteen or sixteen digits a Unix number."""
    rows = [row | {"event_time": str(row["event_time"])} for row in rows]
    raw = in_csv(rows, **dialect).encode(encoding)
    path = tmp_path / ("x.csv.gz" if zipped else "x.csv")
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    if live(rows):
        check(read_history(path, SCHEMA, secrets=KEY), rows)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of(numbers_or_words), zipped=st.booleans(), sparse=st.booleans())
def test_json_lines_are_what_was_sent(tmp_path, rows, zipped, sparse):
    lines = []
    for row in rows:
        shown = {name: value for name, value in row.items() if value is not None or not sparse}
        numbers = {
            name: json.loads(shown[name]) for name in ("amount", "points", "risk") if shown.get(name) is not None
        }
        lines.append(json.dumps(shown | numbers, ensure_ascii=zipped))
    raw = "\n".join(lines).encode()
    path = tmp_path / ("x.jsonl.gz" if zipped else "x.jsonl")
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    if live(rows):
        check(read_history(path, SCHEMA, secrets=KEY), rows)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, kind=st.sampled_from(["text", "float", "decimal"]))
def test_parquet_with_any_types_is_what_was_sent(tmp_path, rows, kind):
    def number(text):
        return (
            None if text is None else float(text) if kind == "float" else Decimal(text) if kind == "decimal" else text
        )

    kinds = {"text": pl.String, "float": pl.Float64, "decimal": pl.Decimal(38, 6)}
    frame = pl.DataFrame(
        {
            "transaction_id": [row["transaction_id"] for row in rows],
            "event_time": pl.Series([str(row["event_time"]) for row in rows]),
            "amount": pl.Series([number(row["amount"]) for row in rows], dtype=kinds[kind]),
            "points": pl.Series([number(row["points"]) for row in rows], dtype=kinds[kind]),
            "risk": pl.Series([None if row["risk"] is None else float(row["risk"]) for row in rows], dtype=pl.Float32),
            **{name: pl.Series([row[name] for row in rows], dtype=pl.String) for name in ("card", "shop")},
            "mcc": pl.Series([row["mcc"] for row in rows], dtype=pl.String).cast(pl.Categorical),
            "online": pl.Series([row["online"] for row in rows], dtype=pl.Boolean),
            "is_fraud": pl.Series([row["is_fraud"] for row in rows], dtype=pl.Boolean),
        }
    )  # fmt: skip
    path = tmp_path / "x.parquet"
    frame.write_parquet(path)
    texts = [row | {"event_time": str(row["event_time"])} for row in rows]
    if not live(texts):
        with pytest.raises(DataProblem):
            read_history(path, SCHEMA)
        return
    check(read_history(path, SCHEMA, secrets=KEY), texts)
    check(history_of_frame(frame, SCHEMA, secrets=KEY), texts)


def test_a_folder_is_one_history_whatever_its_files_are(tmp_path):
    frame = pl.DataFrame({"transaction_id": ["1", "2"], "event_time": ["2025-01-01", "2025-01-02"], "amount": [1.0, 2.0], "card": ["a", "b"]})  # fmt: skip
    (tmp_path / "sub").mkdir()
    frame[:1].write_csv(tmp_path / "a.csv")
    frame[1:].write_parquet(tmp_path / "sub" / "b.parquet")
    frame[1:].with_columns(transaction_id=pl.lit("3")).write_ndjson(tmp_path / "c.ndjson")
    (tmp_path / "notes.md").write_text("nothing")
    assert sorted(read_history(tmp_path, SCHEMA).frame["transaction_id"]) == ["1", "2", "3"]
    assert len(read_history(tmp_path / "*.csv", SCHEMA)) == 1


@pytest.mark.parametrize(
    ("content", "reading", "amounts"),
    [
        ("1;01/02/2025;1.234,50;c\n2;12/31/2024;0,5;c\n", Reading(decimal=",", time_format="%m/%d/%Y"), [0.5, 1234.5]),
        ("1~2025-01-02~1~c\n", Reading(dialect=Dialect(separator="~")), [1.0]),
    ],
)  # fmt: skip
def test_what_a_file_does_not_say_can_be_said(tmp_path, content, reading, amounts):
    path = tmp_path / "x.csv"
    separator = reading.dialect.separator or ";"
    path.write_text(separator.join(("transaction_id", "event_time", "amount", "card")) + "\n" + content)
    assert read_history(path, SCHEMA, reading).frame["amount"].to_list() == amounts


def test_latin_1_is_read_when_it_is_said_and_named_when_not(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes("transaction_id,event_time,amount,card\n1,2025-01-01,1,Müller\n".encode("latin-1"))
    with pytest.raises(DataProblem, match=r"not UTF-8 \(line 2\).*--encoding latin-1"):
        read_history(path, SCHEMA)
    assert read_history(path, SCHEMA, Reading(dialect=Dialect(encoding="latin-1"))).frame["card"].to_list() == [
        "Müller"
    ]


def test_a_line_with_too_many_cells_is_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("transaction_id,event_time,amount,card\n1,2025-01-01,1,c\n2,2025-01-01,1,c,d\n")
    with pytest.raises(DataProblem, match="line 3 has 5 cells and the first line 4"):
        read_history(path, SCHEMA)
