"""Inspecting a file: what is said of it is true, nothing secret is shown, and what is suggested trains as it stands."""

import json
import re
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.inspect import lines_of
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem
from sentinel.events import files, tables
from sentinel.events.files import read_history
from sentinel.events.reading import Reading
from sentinel.events.secrets import HashKey, Secrets
from sentinel.inspect import columns, overview, suggestion
from sentinel.inspect.inspection import inspect_file
from sentinel.inspect.page import html_of
from sentinel.inspect.suggestion import _call
from sentinel.train.rows.vocabulary import learn_vocabulary

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


def test_terminal_and_page_say_the_same(shop_csv):
    def change(n, row):
        gap = row | {"When": f"0{3 if n < 1_500 else 5}/{n % 20 + 1:02}/2026 00:00"}
        return gap | ({"order-id": "0000001", "Fraud?": "Y"} if n == 2_000 else {})

    found = inspected(shop_csv(change=change))
    lines, page = " ".join(lines_of(found)), html_of(found, [])
    said = (
        "1 rows repeat an id: the first row counts, with the last label, which is another one 1 times",
        "nothing from 2026-03-20T01:00 to 2026-05-01T00:00 (42.0 days)",
    )
    for one in said:
        assert one in lines
        assert one in page
    (suspect,) = (one for one in found.suspects if one.column == "reviewed_by")
    assert f"{suspect.tells}; is it known when the transaction comes?" in lines
    assert f"{suspect.tells}; is it known when the transaction comes?" in page


@pytest.mark.parametrize("written", ["%m/%d/%Y %H:%M", "%Y-%m-%dT%H:%M:00Z"], ids=["naive", "UTC"])
def test_the_quiet_hours_are_said_alike_and_of_utc(shop_csv, written):
    """Shops of Madrid that are closed from midnight to five in the morning, which ends at 3 in UTC in summer."""

    def change(n, row):
        when = datetime(2026, 7, 1, 5, tzinfo=UTC) + timedelta(days=n // 80, minutes=14 * (n % 80))
        return row | {"When": f"{when - timedelta(hours=2) if 'Z' in written else when:{written}}"}

    path = shop_csv(change=change)
    found = inspected(path, Reading() if "Z" in written else Reading(timezone="Europe/Madrid"))
    said = "the quietest hours are 00:00 to 03:00 in UTC: if that is no night, times are of another zone"
    assert said in html_of(found, [])
    assert said in list(lines_of(found))


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


def test_a_file_of_events_is_refused_as_it_would_not_be_read(shop_csv):
    refused = CliRunner().invoke(app, ["inspect", str(shop_csv()), "--events-file", "none.csv"])
    assert refused.exit_code == 1
    assert "leave out --events-file" in refused.stderr


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


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_file_is_looked_at_some_rows_at_a_time(tmp_path, monkeypatch, suffix):
    """What is at hand of a file of any length are the rows of a batch, and those that are drawn."""
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 500)
    monkeypatch.setattr(columns, "SAMPLED", 300)
    monkeypatch.setattr(overview, "SAMPLED_EACH", 300)
    seen = []

    def spied(kind, method, rows_of):
        whole = getattr(kind, method)

        def spy(self, *given, **named):
            seen.append(rows_of(given))
            return whole(self, *given, **named)

        monkeypatch.setattr(kind, method, spy)

    spied(columns._Column, "add", lambda given: len(given[0]))
    spied(columns.Sample, "add", lambda given: max(map(len, given[0].values())))
    spied(files.RowReader, "take", lambda given: len(next(iter(given[0].values()))))
    rows = 20_000
    frame = pl.DataFrame({
        "transaction_id": [str(n) for n in range(rows)], "event_time": ["2026-01-01T00:00:00Z"] * rows,
        "amount": [n % 90 + 0.5 for n in range(rows)], "is_fraud": [int(n % 50 == 0) for n in range(rows)],
    })  # fmt: skip
    path = tmp_path / f"long{suffix}"
    if suffix == ".parquet":
        frame.write_parquet(path, row_group_size=5_000)
    else:
        (frame.write_csv if suffix == ".csv" else frame.write_ndjson)(path)
    found = inspected(path)
    assert (found.overview.transactions, found.overview.frauds) == (rows, rows // 50)
    assert len(seen) > 4 * rows / 500
    assert max(seen) <= 500


def test_a_wide_file_is_looked_at(tmp_path):
    frame = pl.DataFrame({"transaction_id": [str(n) for n in range(2_000)], "event_time": ["2026-01-01T00:00:00Z"] * 2_000, "amount": [1.5] * 2_000, "is_fraud": [n % 50 == 0 for n in range(2_000)]})  # fmt: skip
    frame = frame.with_columns(pl.Series(f"v{n}", [float((n * 7 + m) % 101) for m in range(2_000)]) for n in range(400))
    frame.write_parquet(tmp_path / "wide.parquet")
    found = inspected(tmp_path / "wide.parquet")
    assert len(found.columns) == 404
    assert len(load(found, tmp_path).schema.numbers) == 400


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
    "Amount, in euros and with tax, ",
    "Nr., Name (first, last), " * 5,
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


@given(
    st.dictionaries(st.text(max_size=40), st.text(max_size=90), max_size=12), st.lists(st.text(max_size=90), max_size=9)
)
def test_a_setting_is_read_as_it_was_wherever_its_lines_end(named, listed):
    for value in (named, tuple(listed)):
        lines = _call("schema", "dict", {"value": value, "other": 1})
        assert eval("dict(" + "\n".join(lines) + ")") == {"schema": {"value": value, "other": 1}}  # noqa: S307


def test_a_detector_file_that_would_not_load_is_not_written(tmp_path, shop_csv, monkeypatch):
    """What stands there stays: the suggestion is loaded before."""
    (tmp_path / "d.py").write_text("mine = 1\n")
    monkeypatch.setattr(suggestion, "_elements", lambda value: (f"{one} =" for one in value))
    refused = CliRunner().invoke(app, ["inspect", str(shop_csv()), "--detector-out", str(tmp_path / "d.py")])
    assert refused.exit_code == 1
    assert (tmp_path / "d.py").read_text() == "mine = 1\n"


def test_a_file_without_a_line_of_names_shows_none_of_its_first_row(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"t1,2026-01-01,10,{CARD}\nt2,2026-01-01,10,{CARD}\n")
    with pytest.raises(DataProblem, match="no line of names") as caught:
        inspected(path)
    assert CARD not in str(caught.value)


@pytest.mark.parametrize("broken", ["{oops", '{"amount": 1, "amount": 2}', '{"event_time": "soon", "amount": 1}'])
def test_a_row_that_cannot_be_used_makes_no_key_optional(tmp_path, broken):
    usual = [
        {"transaction_id": f"t{n}", "event_time": 1_767_225_600 + 3_600 * n, "amount": n % 90 + 0.25,
         "card_id": f"c{n % 30}", "is_fraud": int(n % 10 == 0)} for n in range(400)
    ]  # fmt: skip
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([*map(json.dumps, usual), *[broken] * 30]))
    found = inspected(path)
    assert found.rows == 430
    assert load(found, tmp_path).schema.optional == ()
    usual[17]["card_id"] = None
    path.write_text("\n".join([*map(json.dumps, usual), *[broken] * 30]))
    found = inspected(path)
    assert load(found, tmp_path).schema.optional == ("card_id",)
    assert any("the key card_id is optional, for 1 of 400 usable rows" in note for note in found.notes)
    assert "# the key card_id is optional, for 1 of 400 usable rows" in found.detector


@pytest.mark.parametrize("name", ["count", "value", "label", "half", "n", "len", "id", "word", "literal", "index"])
def test_a_column_may_be_called_as_one_that_is_made_beside_it(tmp_path, name):
    rows = {
        "transaction_id": [f"t{n}" for n in range(400)],
        "event_time": [1_767_225_600 + 3_600 * n for n in range(400)],
        "amount": [n % 90 + 0.25 for n in range(400)],
        name: [("a", "b", "NA")[n % 3] for n in range(400)],
        "is_fraud": [int(n % 10 == 0) for n in range(400)],
    }
    pl.DataFrame(rows).write_csv(tmp_path / "x.csv")
    found = inspected(tmp_path / "x.csv")
    assert found.roles[name] == "category"
    detector = load(found, tmp_path)
    history = read_history(tmp_path / "x.csv", detector.schema, now_us=NOW_US)
    assert set(learn_vocabulary(detector, history.frame)[name]) == {"a", "b", "NA"}


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
