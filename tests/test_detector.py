import subprocess
import sys
from types import FunctionType

import msgspec
import pytest

import sentinel
from sentinel import Condition, Detector, Fallback, Policy, Rule, Schema, field
from sentinel.detectors import load_detector, preset_names
from sentinel.detectors.velocity import RULES as VELOCITY_RULES
from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.files import read_history
from sentinel.events.reading import Reading
from sentinel.events.times import instant_us
from sentinel.features import definitions

AMOUNT = {"schema": Schema(), "features": (field("amount"),)}
LARGE = (Rule((Condition("amount", ">", 900.0),), 0.9, "large"),)
# the example request of Sentinel-Stream
EXAMPLE = b"""{"amount": 120.0, "hour_of_day": 14, "days_since_last_txn": 1.5, "txn_count_24h": 3,
    "distinct_merchants_24h": 2, "avg_amount_7d": 95.0, "channel_online": 0}"""


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_complete(name):
    detector = load_detector(name)
    assert detector.name == name
    assert detector.fallback.compile(detector.plan({}).names)
    assert msgspec.convert(msgspec.to_builtins(detector.fallback), Fallback) == detector.fallback


def test_a_rule_on_a_feature_that_is_not_declared_is_refused():
    with pytest.raises(InvalidDefinition, match=r"no feature .*txn_count_24h; the features are amount"):
        Detector(**AMOUNT, fallback=Fallback(rules=VELOCITY_RULES))


def test_what_it_trusts_is_part_of_the_plan_and_a_plan_that_trusts_all_is_written_as_ever():
    assert b"trusts" not in msgspec.json.encode(Detector(**AMOUNT).plan({}))
    picky = Detector(**AMOUNT, trusts=("bank", "analyst")).plan({})
    assert msgspec.json.decode(msgspec.json.encode(picky), type=type(picky)) == picky
    assert [picky.is_trusted(one) for one in ("bank", "operator", None)] == [True, False, False]
    assert Detector(**AMOUNT).plan({}).is_trusted("anyone")


@pytest.mark.parametrize("source", ["", "the bank", "x" * 65])
def test_what_is_no_source_cannot_be_trusted(source):
    with pytest.raises(InvalidDefinition, match=r"is no source of outcomes; use 1 to 64 letters"):
        Detector(**AMOUNT, trusts=("bank", source))


def test_rules_may_not_block_where_the_policy_never_does():
    never = Policy(block_at_fpr=None)
    assert Detector(**AMOUNT, policy=never).fallback == Fallback()
    with pytest.raises(InvalidDefinition, match="the policy never blocks; set block_at=None"):
        Detector(**AMOUNT, policy=never, fallback=Fallback(rules=LARGE))
    assert Detector(**AMOUNT, policy=never, fallback=Fallback(rules=LARGE, block_at=None))


PUBLISHED = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount")


def test_creditcard_reads_its_published_file_as_it_is(tmp_path):
    """Quoted names and labels, whole seconds, and 100000 as R writes it."""
    row = ",".join(["-1.35980713367380"] * 28)
    lines = [",".join(f'"{name}"' for name in (*PUBLISHED, "Class"))]
    lines += [
        f'{second},{row},{amount},"{label}"'
        for second, amount, label in (("0", "149.62", 0), ("1e+05", "0", 1), ("172792", "217", 0))
    ]
    path = tmp_path / "creditcard.csv"
    path.write_text("\n".join(lines))
    detector = load_detector("creditcard")
    history = read_history(path, detector.schema, Reading(strict=True))
    assert history.frame["event_time"].to_list() == [
        instant_us("2013-09-01") + second * 1_000_000 for second in (0, 100_000, 172_792)
    ]
    assert history.frame["Time"].to_list() == [0, 100_000, 172_792]
    assert history.frame["Amount"].to_list() == [149.62, 0, 217]
    assert history.frame["Class"].to_list() == [0, 1, 0]
    assert history.frame["transaction_id"].to_list() == ["row-1", "row-2", "row-3"]


def test_creditcard_takes_the_thirty_numbers_of_that_file_in_its_order():
    detector = load_detector("creditcard")
    assert detector.plan({}).names == PUBLISHED
    payment = detector.schema.decode(msgspec.json.encode(dict.fromkeys(PUBLISHED, 0.5)))
    detector.schema.assign(payment, "a7")
    assert (payment.transaction_id, payment.event_time, payment.Time) == ("a7", None, 0.5)


def test_velocity_takes_the_published_example_request():
    schema = load_detector("velocity").schema
    transaction = schema.decode(EXAMPLE)
    assert schema.assigns
    schema.assign(transaction, "a7")
    assert (transaction.transaction_id, transaction.txn_count_24h, transaction.hour_of_day) == ("a7", 3.0, 14.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", -1), ("hour_of_day", 24), ("hour_of_day", -1), ("days_since_last_txn", -0.1),
        ("txn_count_24h", -1), ("distinct_merchants_24h", -1), ("avg_amount_7d", -1), ("channel_online", 1.01),
        ("channel_online", None),
    ],
)  # fmt: skip
def test_velocity_refuses_what_is_out_of_range(field, value):
    body = msgspec.json.decode(EXAMPLE) | {field: value}
    with pytest.raises(InvalidInput) as error:
        load_detector("velocity").schema.decode(msgspec.json.encode(body))
    assert error.value.path == f"$.{field}"


def test_everything_a_detector_needs_comes_from_one_import():
    made = {name for name, what in vars(definitions).items() if isinstance(what, FunctionType) and name[0] != "_"}
    assert made - {"duration_us"} < set(sentinel.__all__)
    assert all(hasattr(sentinel, name) for name in sentinel.__all__)


def test_that_import_is_light():
    heavy = {"numba", "polars", "xgboost", "onnx", "onnxruntime", "sklearn", "fastapi", "sqlalchemy"}
    program = f"import sys, sentinel; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


BROKEN = """from sentinel import Detector, Schema, col, count, field, ratio

card = "card_id"
detector = Detector(
    schema=Schema(keys=("card_id",)),
    features=(
        field("amount"),
        {feature},
    ),
)
"""


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ('count(by="crad_id", over="1h")', "count_by_crad_id_1h: 'crad_id' is no key"),
        ('count(by=card, over="1 hour")', "'1 hour' is no duration"),
        ('ratio("amount", to=field("amuont"))', "amuont: 'amuont' is no number"),
        ('count(by=card, over="1h", where=col("status") == "no")', "'status', which is no field"),
        ('field("amount")', "features amount declared twice"),
        ("count(by=card)", r"fails with TypeError: count\(\) missing"),
    ],
)
def test_what_is_declared_wrong_is_refused_with_its_line(tmp_path, feature, message):
    path = tmp_path / "mine.py"
    path.write_text(BROKEN.format(feature=feature))
    with pytest.raises(InvalidDefinition, match=f"^{path}:8:? .*{message}"):
        load_detector(str(path))


def test_the_line_of_a_feature_is_no_part_of_it():
    one, other = (
        field("amount"),
        field("amount"),
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one.line != other.line
    assert one.line.rpartition(":")[0] == __file__
    assert msgspec.json.encode(one) == b'{"kind":"field","name":"amount","of":"amount"}'
