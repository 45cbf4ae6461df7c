"""Roles: what columns are taken for, in files as people have them."""

import io

import polars as pl
import pytest

from sentinel.events.tables import Table
from sentinel.inspect.columns import find_columns
from sentinel.inspect.roles import Role, find_roles

ROWS = 400


def roles_of(tmp_path, columns, given=None, labels=None, time_format=None, name="x.csv"):
    frame = pl.DataFrame({key: [make(n) for n in range(ROWS)] for key, make in columns.items()})
    path = tmp_path / name
    written = io.BytesIO()
    frame.write_parquet(written) if name.endswith("parquet") else frame.write_csv(written)
    path.write_bytes(written.getvalue())
    found = find_columns(Table(path), lambda _rows: None)
    return find_roles(found, given or {}, labels or {}, time_format=time_format)


USUAL = {
    "transaction_id": lambda n: f"t{n}",
    "event_time": lambda n: f"2026-01-{1 + n // 24:02}T{n % 24:02}:00:00Z" if n < 600 else "",
    "amount": lambda n: f"{n * 1.37:.2f}",
    "card_id": lambda n: f"{n % 40:04}",
    "is_fraud": lambda n: int(n % 50 == 0),
}


def test_names_that_say_it(tmp_path):
    roles = roles_of(tmp_path, USUAL)
    assert tuple(map(roles.column, list(Role)[:4])) == ("transaction_id", "event_time", "amount", "is_fraud")
    assert roles.columns(Role.KEY) == ("card_id",)
    assert (roles.columns(Role.CATEGORY), roles.columns(Role.NUMBER), roles.left) == ((), (), ())
    assert roles.times.has_offset


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("trans_num", "trans_date_trans_time", "amt", "cc_num", "is_fraud"), ("trans_num", "trans_date_trans_time", "amt", "is_fraud")),
        (("tx_id", "tx_datetime", "tx_amount", "customer_id", "tx_fraud"), ("tx_id", "tx_datetime", "tx_amount", "tx_fraud")),
        (("TransactionID", "TransactionStartTime", "Amount", "CustomerId", "FraudResult"), ("TransactionID", "TransactionStartTime", "Amount", "FraudResult")),
        (("id", "timestamp", "value", "device", "Class"), ("id", "timestamp", "value", "Class")),
        (("Txn No.", "Booked At", "Betrag", "Kunde", "Fraud?"), ("Txn No.", "Booked At", "Betrag", "Fraud?")),
        (("order-id", "created_at", "price", "email", "chargeback"), ("order-id", "created_at", "price", "chargeback")),
        (("PaymentRef", "when", "TOTAL (EUR)", "ip address", "target"), ("PaymentRef", "when", "TOTAL (EUR)", "target")),
    ],
)  # fmt: skip
def test_names_of_others(tmp_path, names, expected):
    roles = roles_of(tmp_path, dict(zip(names, USUAL.values(), strict=True)))
    assert tuple(map(roles.column, list(Role)[:4])) == expected
    assert roles.columns(Role.KEY) == (names[3],)


def test_what_else_there_is(tmp_path):
    further = {
        "merchant_id": lambda n: n % 90, "mcc": lambda n: ("0742", "5411")[n % 2], "channel": lambda n: ("web", "pos")[n % 2],
        "risk": lambda n: n / 400, "items": lambda n: n % 9, "recurring": lambda n: ("true", "false")[n % 2],
        "lat": lambda n: 40 + n / 100, "long": lambda n: -3 - n / 100, "currency": lambda _n: "EUR", "note": lambda n: f"text {n}",
        "nothing": lambda _n: None, "birth_date": lambda n: f"19{60 + n % 40}-01-01", "chargeback_date": lambda n: "2026-03-01" if n % 50 == 0 else None,
    }  # fmt: skip
    roles = roles_of(tmp_path, USUAL | further)
    assert roles.columns(Role.KEY) == ("card_id", "merchant_id")
    assert roles.columns(Role.CATEGORY) == ("mcc", "channel", "recurring")
    assert roles.columns(Role.NUMBER) == ("risk", "items")
    assert roles.columns(Role.PLACE) == ("lat", "long")
    assert roles.column(Role.OUTCOME_TIME) == "chargeback_date"
    assert {one.column for one in roles.left} == {"currency", "note", "nothing", "birth_date"}


def test_what_is_given_counts(tmp_path):
    columns = USUAL | {"fee": lambda n: n * 0.01, "booked_at": lambda n: f"2026-02-{1 + n % 28:02}"}
    roles = roles_of(tmp_path, columns, {"amount": "fee", "time": "booked_at"})
    assert (roles.column(Role.AMOUNT), roles.column(Role.TIME)) == ("fee", "booked_at")
    assert roles.columns(Role.NUMBER) == ("amount",)


@pytest.mark.parametrize(
    ("words", "given", "meanings"),
    [
        (("N", "Y"), {}, {"n": 0, "y": 1}),
        (("ok", "stolen"), {"ok": 0, "stolen": 1}, {"ok": 0, "stolen": 1}),
        (("1", "2"), {}, None),
    ],
)
def test_labels_are_read_or_asked_about(tmp_path, words, given, meanings):
    roles = roles_of(tmp_path, USUAL | {"is_fraud": lambda n: words[n % 50 == 0]}, labels=given)
    assert roles.column(Role.LABEL) == "is_fraud"
    assert roles.label_words == meanings
    assert (roles.label_problem is None) == (meanings is not None)


@pytest.mark.parametrize(
    ("write", "form", "has_offset"),
    [
        (lambda n: f"{n % 12 + 1:02}/{n % 28 + 1:02}/2026 09:{n % 60:02}", "%m/%d/%Y %H:%M", False),
        (lambda n: f"{n % 28 + 1:02}/{n % 12 + 1:02}/2026", "%d/%m/%Y", False),
        (lambda n: f"{n % 28 + 1:02}.{n % 12 + 1:02}.2026 23:59:{n % 60:02}", "%d.%m.%Y %H:%M:%S", False),
        (lambda n: f"{n % 12 + 1}/{n % 28 + 1}/26 {n % 12 + 1}:05 PM", "%m/%d/%y %I:%M %p", False),
        (lambda n: f"{n % 28 + 1:02}-Mar-2026", "%d-%b-%Y", False),
        (lambda n: f"2026-01-{n % 28 + 1:02} 10:00:00", None, False),
        (lambda n: f"2026-01-{n % 28 + 1:02}T10:00:00+02:00", None, True),
        (lambda n: f"202601{n % 28 + 1:02}", None, False),
        (lambda n: str(1_767_225_600 + n), None, True),
        (lambda n: str(1_767_225_600_000 + n), None, True),
    ],
)
def test_how_times_are_written(tmp_path, write, form, has_offset):
    roles = roles_of(tmp_path, USUAL | {"event_time": write})
    assert (roles.column(Role.TIME), roles.times.form, roles.times.has_offset) == ("event_time", form, has_offset)


def test_days_and_months_that_could_be_either_are_told(tmp_path):
    roles = roles_of(tmp_path, USUAL | {"event_time": lambda n: f"01/{n % 9 + 1:02}/2026"})
    assert roles.times.form == "%m/%d/%Y"
    assert roles.times.also == "%d/%m/%Y"


def test_a_file_of_other_things_has_no_time_and_no_amount(tmp_path):
    roles = roles_of(tmp_path, {"city": lambda n: f"city {n % 30}", "people": lambda n: n % 90 * 1_000})
    assert (roles.column(Role.TIME), roles.column(Role.LABEL), roles.column(Role.ID)) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("tx", lambda n: 900_000 + 7 * n),
        ("paymentReference", lambda n: f"PMT-{n}"),
        ("c0", lambda n: f"{n * 2654435761 % 2**32:08x}"),
        ("Beleg", lambda n: n + 1),
    ],
)
def test_what_is_another_in_each_row_is_the_id_or_nothing(tmp_path, name, make):
    others = {key: one for key, one in USUAL.items() if key != "transaction_id"}
    assert roles_of(tmp_path, others | {name: make}).column(Role.ID) == name
    beside = roles_of(tmp_path, USUAL | {name: make})
    assert beside.column(Role.ID) == "transaction_id"
    assert name not in beside.of


@pytest.mark.parametrize("name", ["balance", "score", "total", "age_days", "lat"])
def test_what_measures_is_no_id(tmp_path, name):
    others = {key: one for key, one in USUAL.items() if key != "transaction_id"}
    made = roles_of(tmp_path, others | {name: lambda n: n % 90 if name == "lat" else 3 * n})
    assert made.column(Role.ID) is None


def test_notes_of_people_are_no_ids(tmp_path):
    others = {key: one for key, one in USUAL.items() if key != "transaction_id"}
    further = {"note": lambda n: f"paid for {n}", "email": lambda n: f"a{n}@x.io", "contact": lambda n: f"a{n}@x.io"}
    assert roles_of(tmp_path, others | further).column(Role.ID) is None
