"""Inspecting a file: what is said of it is true, nothing secret is shown, and what is suggested trains as it stands."""

import json
import re
import time
from datetime import time as clock
from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem
from sentinel.events.files import read_history
from sentinel.events.reading import Reading
from sentinel.events.secrets import HashKey, Secrets
from sentinel.inspect.inspection import inspect_file
from sentinel.inspect.page import html_of

KEY = Secrets(HashKey("1", b"k" * 32))
NOW_US = 1_790_000_000_000_000
CARD = "4111111111111111"


def inspected(path, reading=None):
    return inspect_file(path, reading or Reading(), secrets=KEY, now_us=NOW_US, stage=lambda _name, _done, _of: None)


def test_a_file_of_many_faults_is_understood(shop_csv):
    found = inspected(shop_csv())
    assert (found.rows, found.encoding) == (3_000, "latin-1")
    assert found.roles == {
        "order-id": "id", "When": "time", "Price": "amount", "Card No.": "key", "Shop": "key", "country": "category",
        "Fraud?": "label", "reviewed_by": "category",
    }  # fmt: skip
    assert (found.overview.labelled, found.overview.frauds) == (3_000, 150)
    assert found.label_words == {"n": 0, "y": 1}
    assert found.times.form == "%m/%d/%Y %H:%M"
    assert found.overview.left_out == {}


def test_what_is_only_written_of_frauds_is_a_suspect_and_no_part_of_the_detector(shop_csv):
    found = inspected(shop_csv())
    assert {one.column: one.by_missing for one in found.suspects} == {"reviewed_by": 1.0, "Price": 0.5}
    assert "reviewed_by" not in re.sub(r"#.*", "", found.detector)
    assert '"Price"' in found.detector


def test_keys_of_frauds_are_no_leak(shop_csv):
    """The same few cards have all the frauds: a detector lives by that."""
    found = inspected(
        shop_csv(change=lambda _n, row: row | {"Card No.": "666" if row["Fraud?"] == "Y" else row["Card No."]})
    )
    assert next(one for one in found.separations if one.column == "Card No.").by_value > 0.99
    assert "Card No." not in {one.column for one in found.suspects}


def test_the_suggested_detector_reads_and_trains_as_it_stands(tmp_path, shop_csv):
    path, file = shop_csv(), tmp_path / "my_detector.py"
    run("inspect", path, "--detector-out", file)
    schema = load_detector(str(file)).schema
    frame = read_history(path, schema).frame
    assert frame["card_no"].head(2).to_list() == ["00000", "00001"]
    assert frame["Price"].max() == 1088.0
    assert frame["Shop"][0] == "Café 0"
    trained = json.loads(run("train", "--detector", file, "--data", path, "--home", tmp_path / "home", "--json").stdout)
    assert trained["metrics"]["average_precision"]["value"] > 0.9


def test_rows_that_would_be_left_out_are_those_that_are(shop_csv, tmp_path):
    def change(n, row):
        wrong = {3: {"Price": "x"}, 5: {"When": "13/45/2026 00:00"}, 6: {"Card No.": ""}, 9: {"order-id": "0000001"}}
        return row | wrong.get(n, {})

    path = shop_csv(change=change)
    found = inspected(path)
    (tmp_path / "d.py").write_text(found.detector)
    history = read_history(path, load_detector(str(tmp_path / "d.py")).schema, now_us=NOW_US)
    told = dict(found.overview.left_out) | {"order_id seen before": found.overview.repeated}
    assert told == history.skipped
    assert found.overview.repeated == 1
    assert found.overview.examples["Price is no number"] == (4, "x")
    assert found.overview.transactions - found.overview.repeated == len(history)


def test_a_later_label_of_an_id_is_told(shop_csv):
    path = shop_csv(change=lambda n, row: row | ({"order-id": "0000001", "Fraud?": "Y"} if n == 2_000 else {}))
    assert (inspected(path).overview.repeated, inspected(path).overview.relabelled) == (1, 1)


def test_time_is_looked_over(shop_csv):
    found = inspected(
        shop_csv(change=lambda n, row: row | {"When": f"0{3 if n < 1_500 else 5}/{n % 20 + 1:02}/2026 00:00"})
    )
    assert sum(one.transactions for one in found.overview.periods) == 3_000
    assert sum(one.frauds for one in found.overview.periods) == 150
    assert [(one.end_us - one.begin_us) // 86_400_000_000 for one in found.overview.gaps] == [41]


def test_card_numbers_are_shown_nowhere(shop_csv):
    grouped = " ".join(CARD[n : n + 4] for n in range(0, 16, 4))
    found = inspected(
        shop_csv(change=lambda n, row: row | {"Card No.": CARD if n % 2 else grouped, "Shop": f"{CARD}-{n}"})
    )
    for shown in (html_of(found, []), found.detector, repr(found), json.dumps(pl.Series([repr(found)]).to_list())):
        assert CARD not in shown.replace(" ", "").replace("-", "")
    assert any("card numbers" in note for note in found.notes)


def test_the_page_needs_nothing_from_outside_and_says_what_was_found(shop_csv):
    path = shop_csv(change=lambda n, row: row | ({"Shop": "<script>alert(1)</script>"} if n < 9 else {}))
    page = html_of(inspected(path), ["sentinel serve"])
    assert "<script" not in page
    assert re.findall(r"(?:src|href|url)\s*[=(]", page) == []
    assert page.count('<svg class="meter"') + page.count('class="plot"') >= 4
    assert all(
        text in page for text in ("reviewed_by", "3,000", "legitimate", "A detector to begin with", "sentinel serve")
    )


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet", "x.csv.gz"])
def test_the_same_rows_are_the_same_in_any_file(shop_csv, tmp_path, name):
    frame = pl.read_csv(shop_csv().read_bytes().decode("latin-1").encode(), separator=";", infer_schema=False)
    frame = frame.with_columns(
        Price=pl.col("Price").str.replace(".", "", literal=True).str.replace(",", ".").cast(pl.Float64)
    )
    path = tmp_path / name
    writers = {".jsonl": frame.write_ndjson, ".parquet": frame.write_parquet, ".csv": frame.write_csv}
    writers[path.suffix](path) if path.suffix in writers else frame.write_csv(path, compression="gzip")
    found = inspected(path)
    facts = [(one.name, one.kind, one.missing, one.distinct) for one in found.columns]
    frame.write_csv(tmp_path / "same.csv")
    same = inspected(tmp_path / "same.csv")
    assert facts == [(one.name, one.kind, one.missing, one.distinct) for one in same.columns]
    assert (found.roles, found.overview, found.separations) == (same.roles, same.overview, same.separations)


def test_labels_that_nobody_can_know_are_asked_about(shop_csv):
    path = shop_csv(change=lambda _n, row: row | {"Fraud?": "1" if row["Fraud?"] == "N" else "2"})
    found = inspected(path)
    assert (found.overview.labelled, found.label_words) == (0, {})
    assert any("--labels" in note for note in found.notes)
    said = inspected(path, Reading(labels={"1": 0, "2": 1}))
    assert said.overview.frauds == 150
    assert 'labels={"1": 0, "2": 1}' in said.detector


def test_what_cannot_be_found_is_said_and_can_be_given(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b,c\n" + "".join(f"2026-01-{n % 28 + 1:02},{n},{n * 3}\n" for n in range(100)))
    found = inspected(path)
    assert found.detector is None
    assert "--map COLUMN=amount" in found.problem
    assert inspected(path, Reading(renames={"c": "amount"})).roles["c"] == "amount"
    with pytest.raises(DataProblem, match="no column nope"):
        inspected(path, Reading(renames={"nope": "amount"}))
    refused = CliRunner().invoke(app, ["inspect", str(path), "--detector-out", str(tmp_path / "d.py")])
    assert refused.exit_code == 1
    assert "is not written" in refused.stderr


def test_strict_fails_where_rows_would_be_left_out(shop_csv):
    path = shop_csv(change=lambda n, row: row | ({"Price": "x"} if n == 3 else {}))
    assert CliRunner().invoke(app, ["inspect", str(path)]).exit_code == 0
    assert CliRunner().invoke(app, ["inspect", str(path), "--strict"]).exit_code == 1


def test_json_has_all_of_it(shop_csv):
    found = json.loads(run("inspect", shop_csv(), "--json").stdout)
    assert found["overview"]["frauds"] == 150
    assert found["roles"]["Card No."] == "key"
    assert found["detector"].startswith('"""A detector for shop.csv.')


@pytest.mark.parametrize("rows", [1, 2, 3, 30])
def test_few_rows_are_no_reason_to_fail(shop_csv, rows):
    found = inspected(shop_csv(rows=rows))
    assert found.rows == rows
    html_of(found, [])
    compile(found.detector, "suggested", "exec")


def test_a_large_file_takes_no_more_than_a_part_of_it(tmp_path):
    """Memory is that of some batches: a file of 400 columns is read a batch at a time."""
    frame = pl.DataFrame({"transaction_id": [str(n) for n in range(2_000)], "event_time": ["2026-01-01T00:00:00Z"] * 2_000, "amount": [1.5] * 2_000, "is_fraud": [n % 50 == 0 for n in range(2_000)]})  # fmt: skip
    frame = frame.with_columns(pl.Series(f"v{n}", [float((n * 7 + m) % 101) for m in range(2_000)]) for n in range(400))
    frame.write_parquet(tmp_path / "wide.parquet")
    begin = time.perf_counter()
    found = inspected(tmp_path / "wide.parquet")
    assert len(found.columns) == 404
    assert len(load(found, tmp_path).schema.numbers) == 400
    assert time.perf_counter() - begin < 60


def load(found, folder):
    (folder / "d.py").write_text(found.detector)
    return load_detector(str(folder / "d.py"))


def run(*arguments):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done


HOSTILE = (
    '"""',
    "'''",
    '"; import os; os.abort() #',
    "a\nimport os",
    "\\",
    "{0}",
    "</td><script>x</script>",
    "%m",
    "é\u2028x",
    "a,b",
    "x" * 200,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_names_and_values_of_others_are_no_code_and_no_markup(tmp_path, text):
    """A detector is a file that is run, and a page is opened: both are made of what a stranger wrote."""
    rows = {
        f"transaction id{text}": [f"{text}{n}" for n in range(60)], "event_time": [f"2026-01-{n % 28 + 1:02}" for n in range(60)],
        "amount": [n + 0.5 for n in range(60)], f"card {text}": [f"c{n % 5}{text}" for n in range(60)], text: [f"{text}{n % 3}" for n in range(60)],
        f"constant {text}": [text] * 60, "is_fraud": [text if n % 9 == 0 else f"no{text}" for n in range(60)],
    }  # fmt: skip
    path = tmp_path / "x.parquet"
    pl.DataFrame(rows).write_parquet(path)
    found = inspected(path, Reading(labels={text: 1, f"no{text}": 0}))
    schema = load(found, tmp_path).schema
    assert set(schema.columns.values()) <= rows.keys()
    frame = read_history(path, schema, now_us=NOW_US).frame
    assert frame["is_fraud"].sum() == 7
    assert "<script>" not in html_of(found, [])
    shown = CliRunner().invoke(app, ["inspect", str(path)])
    assert shown.exit_code == 0, shown.output
    assert "\u2028" not in shown.stderr


def test_a_file_without_a_line_of_names_shows_none_of_its_first_row(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"t1,2026-01-01,10,{CARD}\nt2,2026-01-01,10,{CARD}\n")
    with pytest.raises(DataProblem, match="no line of names") as caught:
        inspected(path)
    assert CARD not in str(caught.value)


ODD = {
    "_lot": [1] * 3, "_row": ["a", "b", "c"], "": [1, 2, 3], "Unnamed: 0": [0, 1, 2], "verdict": [0.5, None, float("nan")],
    "list": [[1], [], None], "struct": [{"a": 1}, {"a": 2}, None], "bytes": [b"a", None, b"\xff"], "nothing": [None] * 3,
    "span": [timedelta(1), None, timedelta(2)], "clock": [clock(1), clock(2), None], "exact": [Decimal("1.50"), None, Decimal("2.25")],
    "large": [2**63, 0, 1], "huge": [1e300, -1e300, 0.0], "infinite": [float("inf"), 1.0, 2.0], "word": ["\x1b[2J", "\x00", "é"],
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_columns_of_any_type_are_looked_at(tmp_path, suffix):
    usual = {
        "transaction_id": ["a", "b", "c"],
        "event_time": ["2026-01-01T00:00:00Z"] * 3,
        "amount": [1.0, 2.0, 3.0],
        "is_fraud": [0, 1, 0],
    }
    frame = pl.DataFrame(usual | ODD, strict=False)
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        frame.write_parquet(path)
    else:
        plain = frame.drop("verdict", "bytes", "span", "clock", "exact", "huge", "infinite")
        path.write_text("\n".join(json.dumps(row) for row in plain.to_dicts()))
    found = inspected(path)
    assert sum(found.overview.left_out.values()) == (suffix == ".parquet"), "the infinite one"
    assert found.overview.transactions == 3 - (suffix == ".parquet")
    html_of(found, [])
    load(found, tmp_path)
    json.loads(run("inspect", path, "--json").stdout)
    run("inspect", path)
