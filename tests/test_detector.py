import subprocess
import sys
from types import FunctionType

import msgspec
import pytest

import sentinel
from sentinel import Detector, Fallback, Policy, Rule, Schema, field
from sentinel.detectors import load_detector, preset_names
from sentinel.detectors.velocity import RULES as VELOCITY_RULES
from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.files import read_history
from sentinel.events.reading import Reading
from sentinel.events.times import instant_us
from sentinel.features import definitions
from sentinel.policy.thresholds import Action

AMOUNT = {"schema": Schema(), "features": (field("amount"),)}
LARGE = (Rule("amount > 900.0", 0.9, "large"),)
# the example request of Sentinel-Stream
EXAMPLE = b"""{"amount": 120.0, "hour_of_day": 14, "days_since_last_txn": 1.5, "txn_count_24h": 3,
    "distinct_merchants_24h": 2, "avg_amount_7d": 95.0, "channel_online": 0}"""


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_complete(name):
    detector = load_detector(name)
    assert detector.name == name
    detector.fallback.check(detector.plan({}).names)
    assert msgspec.convert(msgspec.to_builtins(detector.fallback), Fallback) == detector.fallback


def test_a_rule_on_a_feature_that_is_not_declared_is_refused():
    with pytest.raises(
        InvalidDefinition, match=r"'many payments within a day': there is no txn_count_24h; there are amount"
    ):
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


def test_a_challenge_has_to_be_declared():
    declared = Policy(challenge_at_fpr=0.05)
    assert Detector(**AMOUNT, policy=declared, fallback=Fallback(rules=LARGE, challenge_at=0.2))
    with pytest.raises(InvalidDefinition, match=r"challenges from 0\.2, but the policy never challenges"):
        Detector(**AMOUNT, fallback=Fallback(rules=LARGE, challenge_at=0.2))


def test_no_preset_answers_what_its_callers_may_not_know():
    assert all(Action.CHALLENGE not in load_detector(name).policy.actions for name in preset_names())
    assert load_detector("velocity").policy.actions == {Action.APPROVE, Action.REVIEW}


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
    functions = {name: what for name, what in vars(definitions).items() if isinstance(what, FunctionType)}
    made = {name for name, what in functions.items() if what.__module__ == definitions.__name__ and name[0] != "_"}
    assert made < set(sentinel.__all__)
    assert all(hasattr(sentinel, name) for name in sentinel.__all__)


def test_that_import_is_light():
    heavy = {"numba", "polars", "xgboost", "onnx", "onnxruntime", "sklearn", "fastapi", "sqlalchemy"}
    program = f"import sys, sentinel; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


BROKEN = """import functools, operator, sentinel
from sentinel import Detector, Schema, col, count, entropy, field, ratio, session_count, sine, speed_since_last, total

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
        ('field("amount")', "feature amount is declared twice"),
        ('sine(count(by="crad_id", over="1h"), period=24.0)', "count_by_crad_id_1h: 'crad_id' is no key"),
        ('count(by=card, over="1h", gap="5m")', "fails with TypeError: .* unexpected keyword argument 'gap'"),
        ('entropy("card_id", by=card, over="1h", delay="1d")', "entropy cannot be delayed"),
        ("speed_since_last(by=card)", "the schema has no place"),
        ('session_count(by=card, gap="1h", event="login")', "fails with TypeError"),
        ('total("amuont", by=card, over="1h")', "'amuont' is no exact number"),
        ("count(by=card, over=3600)", 'count_by_card_id_3600: over is 3600, which is no text; write over="3600s"'),
        ('count(by=card, over="1 hour")', "count_by_card_id_1 hour: over: '1 hour' is no duration"),
        ('count(by=card, over="1h", delay="x")', "count_by_card_id_1h_delayed_x: delay: 'x' is no duration"),
        ('session_count(by=card, gap="0m")', "session_count_by_card_id_0m: gap: '0m' is no duration"),
        ('sentinel.hour_of_day("Europe/Madird")', "hour_of_day_Europe_Madird: 'Europe/Madird' is no time zone"),
        ('count(by=card, over="1h", where="total > 5")', r"count_by_card_id_1h: where is 'total > 5', .* with col"),
        ('count(by=card, over="1h", where=True)', "count_by_card_id_1h: where is True, which is no condition"),
        ('count(by=5, over="1h")', 'by is 5; write a key of the schema, by="card"'),
        ('count(by=(), over="1h")', r"by is \(\); write a key"),
        (
            'field("card_id")',
            r'.card_id. is no number of the schema \(amount\); for a text write category\("card_id"\)',
        ),
        ('count(by=card, over="1h", where=functools.reduce(operator.or_, [col("amount") == 1] * 3000))', "is_in"),
        ("count(by=card)", r"fails with TypeError: count\(\) missing"),
    ],
)
def test_what_is_declared_wrong_is_refused_with_its_line(tmp_path, feature, message):
    path = tmp_path / "mine.py"
    path.write_text(BROKEN.format(feature=feature))
    with pytest.raises(InvalidDefinition, match=f"^{path}:9:? .*{message}"):
        load_detector(str(path))


def test_what_is_no_feature_s_fault_is_said_with_the_line_of_the_detector(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        BROKEN.format(feature='field("amount").named("b")').replace("features=(", 'forget_after="soon", features=(')
    )
    with pytest.raises(InvalidDefinition, match=f"^{path}:5: forget_after: 'soon' is no duration"):
        load_detector(str(path))


def test_of_a_feature_of_features_the_part_that_is_wrong_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(BROKEN.format(feature='ratio(\n    "amount",\n    to=field("amuont"),\n)'))
    with pytest.raises(InvalidDefinition, match=f"^{path}:11: amuont"):
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


FORGOTTEN = """from sentinel import Detector, Schema, count

detector = Detector(
    schema=Schema(
        {schema}
    ),
    features=(count(by="card", over="1h"),),
)
"""


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ('keys=("card")', r"schema: keys is the text 'card', where a tuple is meant; write \(\"card\",\)"),
        ('keys=("card",), optional=("card")', "optional is the text 'card'"),
        ('keys=("card",), events={"login": "card"}', r"events\['login'\] is the text 'card'.*write \(\"card\",\)"),
        ('keys=("card",), events={"login": None}', r"events\['login'\] is None; write a tuple of names"),
        ('keys=["card"]', r"keys is \[.*card.*\]; write a tuple of names"),
        ('keys=("card", 3)', "write a tuple of names"),
        ('keys=("card",), exact=("points", 0)', "exact is .*; write a dictionary"),
        ('keys=("card",), labels="yes"', "labels is .*; write a dictionary"),
        ('keys=("card",), place="lat"', "place is the text 'lat'"),
    ],
)
def test_a_text_where_a_tuple_is_meant_is_refused_with_what_to_write(tmp_path, schema, message):
    path = tmp_path / "mine.py"
    path.write_text(FORGOTTEN.format(schema=schema))
    with pytest.raises(InvalidDefinition, match=f"^{path}:4: .*{message}"):
        load_detector(str(path))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"features": field("amount")}, r"features: write a tuple .* with its comma"),
     ({"features": ("amount",)}, "features: write a tuple"),
     ({"trusts": "bank"}, r'trusts: .*\("bank",\)')],
)  # fmt: skip
def test_a_detector_takes_tuples(given, message):
    with pytest.raises(InvalidDefinition, match=message):
        Detector(**AMOUNT | given)
