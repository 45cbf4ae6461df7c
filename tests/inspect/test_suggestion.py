"""What is suggested fits the file: decimals, windows, shares, delays."""

import polars as pl
import pytest

from sentinel.detectors import load_detector
from sentinel.events.files import read_history
from sentinel.events.reading import Reading
from sentinel.events.secrets import HashKey, Secrets
from sentinel.inspect.inspection import inspect_file

NOW_US = 1_790_000_000_000_000
BEGIN = 1_750_000_000


def suggested(tmp_path, rows=1_000, every_s=3_600, fraud=lambda n: n % 40 == 7, **columns):
    path = tmp_path / "x.parquet"
    made = {
        "id": lambda n: f"t{n}", "time": lambda n: BEGIN + n * every_s, "amount": lambda n: n % 90 + 0.25,
        "card": lambda n: f"c{n % 30}", "fraud": lambda n: int(fraud(n)), **columns,
    }  # fmt: skip
    pl.DataFrame({name: [make(n) for n in range(rows)] for name, make in made.items()}).write_parquet(path)
    found = inspect_file(path, Reading(), secrets=Secrets(), now_us=NOW_US, stage=lambda _name, _done, _of: None)
    (tmp_path / "suggested.py").write_text(found.detector)
    detector = load_detector(str(tmp_path / "suggested.py"))
    history = read_history(path, detector.schema, now_us=NOW_US)
    return detector, history


def test_a_column_that_may_be_the_label_is_named_where_none_is_found(tmp_path):
    path = tmp_path / "x.parquet"
    rows = range(1_000)
    pl.DataFrame(
        {
            "id": [f"t{n}" for n in rows], "time": [BEGIN + n * 3_600 for n in rows], "amount": [n % 90 + 0.25 for n in rows],
            "card": [f"c{n % 30}" for n in rows], "sex": [("f", "m")[n % 2] for n in rows],
            "state": [("disputed" if n % 40 == 7 else "settled") for n in rows],
        }
    ).write_parquet(path)  # fmt: skip
    found = inspect_file(path, Reading(), secrets=Secrets(), now_us=NOW_US, stage=lambda _name, _done, _of: None)
    said = next(note for note in found.notes if note.startswith("no column is a label"))
    assert "could it be state? 25 rows say disputed and 975 rows say settled" in said
    frame = pl.read_parquet(path).drop("state")
    frame.write_parquet(path)
    found = inspect_file(path, Reading(), secrets=Secrets(), now_us=NOW_US, stage=lambda _name, _done, _of: None)
    assert any(note.endswith("(--map COLUMN=is_fraud)") for note in found.notes)


@pytest.mark.parametrize(
    ("amount", "decimals", "rounded", "negative"),
    [
        (lambda n: n / 100, 2, False, False),
        (lambda n: float(n), 2, False, False),
        (lambda n: n / 1_000, 3, False, False),
        (lambda n: n / 100_000, 5, False, False),
        (lambda n: n / 7, 2, True, False),
        (lambda n: n / 100 - 3, 2, False, True),
        (lambda n: n * 2e7 + 0.01, 1, True, False),
        (lambda n: n / 1_000_000 + (1e7 if n == 900 else 0), 4, True, False),
    ],
)
def test_an_amount_is_kept_as_exactly_as_it_can_be(tmp_path, amount, decimals, rounded, negative):
    detector, history = suggested(tmp_path, amount=amount)
    schema = detector.schema
    assert (schema.amount_decimals, schema.rounded == ("amount",), schema.negative_amounts) == (
        decimals,
        rounded,
        negative,
    )
    assert len(history) == 1_000


@pytest.mark.parametrize(
    ("every_s", "longest", "delay"),
    [(1, "10m", "1h"), (600, "1d", "1d"), (3_600, "7d", "7d"), (43_200, "90d", "7d")],
)
def test_windows_and_delays_fit_the_time_that_there_is(tmp_path, every_s, longest, delay):
    detector, _ = suggested(tmp_path, every_s=every_s)
    windows = [one.over for one in detector.features if one.kind == "count"]
    assert windows[-1] == longest
    assert {one.delay for one in detector.features if one.kind == "fraud_rate"} == {delay}


def test_parts_have_frauds_where_these_are_rare_at_the_end(tmp_path):
    detector, _ = suggested(tmp_path, fraud=lambda n: n % 10 == 0 and n < 870)
    assert detector.training.test_share > 0.15
    assert suggested(tmp_path, fraud=lambda n: n % 10 == 0)[0].training.test_share == 0.15


def test_what_is_missing_somewhere_is_optional(tmp_path):
    detector, history = suggested(
        tmp_path, card=lambda n: None if n % 9 == 0 else f"c{n % 30}", risk=lambda n: None if n % 7 else n / 9
    )
    assert set(detector.schema.optional) == {"card", "risk"}
    assert len(history) == 1_000


def test_na_is_missing_of_numbers_and_times_and_a_text_of_all_else(tmp_path):
    """As files are read: `NA` is a country."""
    rows = ["id,time,amount,card,country,risk,channel,reported,fraud"]
    for n in range(600):
        fraud, none = n % 40 == 7, ("NA", "None", " null ")[n % 3]
        rows.append(
            f"t{n},{BEGIN + n * 3_600},{n % 90}.25,{none if n % 5 == 0 else f'c{n % 30}'},{'NA' if n % 2 else 'DE'},"
            f"{none if n % 4 == 0 else n / 9:.9},{('true', '', 'NA')[n % 3]},"
            f"{'2026-01-01T00:00:00Z' if fraud else 'NA'},{('n', 'y')[fraud]}"
        )
    path = tmp_path / "x.csv"
    path.write_text("\n".join(rows))
    found = inspect_file(path, Reading(), secrets=Secrets(), now_us=NOW_US, stage=lambda _name, _done, _of: None)
    of = {one.name: one for one in found.columns}
    assert {name: of[name].missing for name in ("card", "country", "risk", "channel", "reported")} == {
        "card": 0, "country": 0, "risk": 150, "channel": 200, "reported": 585,
    }  # fmt: skip
    assert of["country"].words == {"DE": 300, "NA": 300}
    assert (of["card"].distinct, of["country"].distinct, of["reported"].distinct) == (33 - 6, 2, 1)
    assert found.roles["reported"] == "outcome time"
    (tmp_path / "suggested.py").write_text(found.detector)
    detector = load_detector(str(tmp_path / "suggested.py"))
    assert set(detector.schema.optional) == {"risk", "channel"}
    frame = read_history(path, detector.schema, now_us=NOW_US).frame
    assert {name: frame[name].null_count() for name in ("card", "country", "risk", "channel")} == {
        name: of[name].missing for name in ("card", "country", "risk", "channel")
    }


def test_without_an_id_one_is_assigned(tmp_path):
    detector, history = suggested(tmp_path, id=lambda n: "same" if n % 2 else "other")
    assert detector.schema.optional[0] == detector.schema.id == "transaction_id"
    assert len(history) == 1_000


def test_names_that_would_meet_are_told_apart(tmp_path):
    columns = {
        "Card No": lambda n: f"a{n % 20}",
        "Card-No": lambda n: f"b{n % 25}",
        "1st": lambda n: n % 2 == 0,
        "hashed_before": lambda n: ("x", "y")[n % 2],
    }
    detector, history = suggested(tmp_path, **columns)
    assert len(set(detector.schema.fields)) == len(detector.schema.fields) == 8
    assert len(history) == 1_000


def test_hours_are_those_of_the_zone_that_was_given(tmp_path):
    path = tmp_path / "x.csv"
    rows = [
        {"transaction_id": f"t{n}", "event_time": f"2026-01-{1 + n // 24:02} {n % 24:02}:00:00", "amount": n % 90 + 0.25, "is_fraud": n % 9 == 0}
        for n in range(700)
    ]  # fmt: skip
    pl.DataFrame(rows).write_csv(path)
    found = inspect_file(
        path, Reading(timezone="Europe/Madrid"), secrets=Secrets(), now_us=NOW_US, stage=lambda _name, _done, _of: None
    )
    assert 'hour_of_day("Europe/Madrid"),' in found.detector
    assert 'day_of_week("Europe/Madrid"),' in found.detector
    assert any("Europe/Madrid" in note for note in found.notes)
    assert not any("UTC unless" in note for note in found.notes)


def test_what_can_be_hidden_is_said_and_not_shown(tmp_path):
    path = tmp_path / "x.csv"
    rows = [
        {"transaction_id": f"t{n}", "event_time": 1_767_225_600 + 3_600 * n, "amount": n % 90 - 5.25, "pan": ("4111111111111111", "5500005555555559")[n % 2],
         "payer_email": f"ann.{n % 30}@example.com", "is_fraud": int(n % 9 == 0)}
        for n in range(700)
    ]  # fmt: skip
    pl.DataFrame(rows).write_csv(path)
    found = inspect_file(
        path, Reading(), secrets=Secrets(HashKey("1", b"k" * 32)), now_us=NOW_US, stage=lambda _name, _done, _of: None
    )
    assert '# secret=("pan",), keep_digits=("pan",)' in found.detector
    assert '# secret=("payer_email",), keep_domain=("payer_email",)' in found.detector
    assert "# no fallback" in found.detector
    shown = [one for column in found.columns for one in column.examples]
    assert "...@example.com" in shown
    assert not any("ann." in one or "4111" in one for one in shown)
    assert any("negative_amounts" in note for note in found.notes)
    (tmp_path / "d.py").write_text(found.detector)
    assert load_detector(str(tmp_path / "d.py")).schema.negative_amounts


@pytest.mark.parametrize("commas", [0, 1, 5])
def test_some_numbers_with_a_comma_make_no_cents_of_the_others(tmp_path, commas):
    path = tmp_path / "x.csv"
    rows = [f"t{n},{1_767_225_600 + 3_600 * n},{chr(34)}{n % 90}{',' if n < commas else '.'}25{chr(34)},{int(n % 9 == 0)}" for n in range(700)]  # fmt: skip
    path.write_text("\n".join(["transaction_id,event_time,amount,is_fraud", *rows]))
    found = inspect_file(path, Reading(), secrets=Secrets(), now_us=NOW_US, stage=lambda _name, _done, _of: None)
    (amount,) = [one for one in found.columns if one.name == "amount"]
    assert amount.greatest == 89.25
