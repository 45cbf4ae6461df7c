import json
import string

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.detectors import load_detector, preset_names
from sentinel.errors import BadBody, InvalidDefinition, InvalidInput, SentinelError
from sentinel.events.schema import Schema

SCHEMA = Schema(keys=("card",), categories=("channel",), numbers=("risk",), place=("lat", "lon"), optional=("channel",))
GOOD = {
    "transaction_id": "t1", "event_time": "2025-01-01T00:00:00Z", "amount": 12.5, "card": "c", "channel": "web",
    "risk": 0.5, "lat": 1.0, "lon": 2.0,
}  # fmt: skip


def decode(**changes):
    body = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    return SCHEMA.decode(msgspec.json.encode(body))


def test_a_good_transaction_is_read():
    transaction = decode()
    assert transaction.event_time == 1_735_689_600_000_000
    assert transaction.card == "c"
    assert decode(channel=...).channel is None
    assert decode(channel=None).channel is None
    assert decode(card=17).card == "17"
    assert decode(channel=True).channel == "true"


@pytest.mark.parametrize(
    ("changes", "path", "text"),
    [
        ({"extra": 1}, "$.extra", "unknown field `extra`"),
        ({"amount": ...}, "$.amount", "missing required field `amount`"),
        ({"amount": "12.5"}, "$.amount", "Expected `float`"),
        ({"amount": None}, "$.amount", "Expected `float`"),
        ({"amount": -1.0}, "$.amount", "an amount from 0 on"),
        ({"amount": 1e13}, "$.amount", "float` <="),
        ({"amount": 12.345}, "$.amount", "at most 2 decimals"),
        ({"transaction_id": ""}, "$.transaction_id", "length >= 1"),
        ({"transaction_id": "x" * 200}, "$.transaction_id", "length <= 128"),
        ({"card": None}, "$.card", "Expected `"),
        ({"card": 1.5}, "$.card", "Expected `"),
        ({"card": ["c"]}, "$.card", "Expected `"),
        ({"card": "x" * 300}, "$.card", "length <= 256"),
        ({"event_time": "soon"}, "$.event_time", "ISO 8601"),
        ({"event_time": -5}, "$.event_time", "from 1970"),
        ({"event_time": "2222-01-01T00:00:00Z"}, "$.event_time", "up to 2100"),
        ({"event_time": None}, "$.event_time", "Expected `"),
        ({"risk": "high"}, "$.risk", "Expected `float`"),
        ({"lat": 90.5}, "$.lat", "<= 90"),
        ({"is_fraud": True}, "$.is_fraud", "unknown field `is_fraud`"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(changes, path, text):
    with pytest.raises(InvalidInput) as error:
        decode(**changes)
    assert error.value.path == path
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("sent", "meant"), [("Card", "card"), ("eventTime", "event_time"), ("amuont", "amount"), ("cards", "card")]
)
def test_an_unknown_field_that_is_nearly_a_known_one_is_told_so(sent, meant):
    for name, said in ((sent, f"`{sent}`; is {meant} meant?"), ("nothing_alike", "`nothing_alike`")):
        with pytest.raises(InvalidInput) as error:
            decode(**{name: "x"})
        assert error.value.path == f"$.{name}"
        assert str(error.value).startswith(f"Object contains unknown field {said}")


def test_of_the_name_of_an_unknown_field_little_is_said_and_no_card_number():
    for name in ("4111111111111111", "x" * 10_000, "a`b - at `c"):
        with pytest.raises(InvalidInput) as error:
            decode(**{name: "x"})
        assert "4111" not in error.value.path + str(error.value)
        assert len(error.value.path) <= 210


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        msgspec.json.encode(GOOD) + b"{}",
        b'{"amount": NaN}',
        b'{"amount": Infinity}',
        b"\xff\xfe",
        b'{"card": "\xff"}',
    ],
)
def test_what_is_no_json_is_a_bad_body(body):
    with pytest.raises(BadBody):
        SCHEMA.decode(body)


def test_a_text_that_utf8_cannot_say_is_refused():
    with pytest.raises((BadBody, InvalidInput)):
        SCHEMA.decode(msgspec.json.encode(GOOD).replace(b'"c"', b'"\\ud800"'))


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"keys": ("amount",)}, "declared twice"),
        ({"keys": ("card id",)}, "no field name"),
        ({"keys": ("card",), "optional": ("shop",)}, "not declared"),
        ({"optional": ("amount",)}, "cannot be optional"),
        ({"encoding": "hex"}, "no encoding of texts"),
        ({"encoding": "klingon"}, "no encoding of texts"),
        ({"exact": {"points": 9}}, "0 to 6"),
        ({"rounded": ("risk",), "numbers": ("risk",)}, "rounded names risk"),
        ({"optional": ("is_fraud",)}, "not declared"),
        ({"max_ahead": "soon"}, "no duration"),
        ({"ranges": {"amount": (0, float("inf"))}}, "two finite numbers"),
        ({"ranges": {"amount": (2, 1)}}, "two finite numbers"),
        ({"columns": {"nothing": "x"}}, "not declared"),
        ({"ranges": {"nothing": (0, 1)}}, "not declared"),
    ],
)
def test_a_schema_that_cannot_work_says_why(schema, text):
    with pytest.raises(InvalidDefinition, match=text):
        Schema(**schema)


ASSIGNED = Schema(keys=("card",), optional=("transaction_id", "event_time"), rounded=("amount",))


def test_an_id_that_is_missing_is_assigned():
    transaction = ASSIGNED.decode(b'{"amount": 1, "card": "c"}')
    assert (transaction.transaction_id, transaction.event_time) == (None, None)
    ASSIGNED.assign(transaction, "new")
    assert transaction.transaction_id == "new"
    transaction.event_time = 1_735_689_600_000_000
    assert ASSIGNED.restore(ASSIGNED.encode(transaction)) == transaction


def test_an_id_and_a_time_that_are_given_stay():
    transaction = ASSIGNED.decode(b'{"amount": 1, "card": "c", "transaction_id": 7, "event_time": "2025-01-01"}')
    ASSIGNED.assign(transaction, "new")
    assert (transaction.transaction_id, transaction.event_time) == ("7", 1_735_689_600_000_000)


def test_only_a_schema_with_an_optional_id_assigns():
    assert ASSIGNED.assigns
    assert not Schema(optional=("event_time",)).assigns
    assert not SCHEMA.assigns
    with pytest.raises(InvalidInput, match="transaction_id"):
        Schema(optional=("event_time",)).decode(b'{"amount": 1}')


def test_a_rounded_number_may_have_more_decimals():
    assert ASSIGNED.decode(b'{"amount": 12.345678, "card": "c"}').amount == 12.345678
    assert SCHEMA.checked_decimals == {"amount": 2}
    assert ASSIGNED.checked_decimals == {}


def test_a_schema_is_the_same_bytes_after_a_way_through_json():
    written = msgspec.json.encode(Schema(numbers=("risk",), ranges={"risk": (0, 1)}))
    assert msgspec.json.encode(msgspec.json.decode(written, type=Schema)) == written


def test_a_number_counts_by_the_digits_that_are_kept():
    assert decode(transaction_id=10**127).transaction_id == str(10**127)
    assert decode(card=10**255, channel=-(10**254)).channel == str(-(10**254))
    for changes in ({"transaction_id": 10**128}, {"card": 10**300}, {"channel": 10**256}, {"card": -(10**255)}):
        with pytest.raises(InvalidInput, match="Expected at most") as error:
            decode(**changes)
        assert error.value.path == f"$.{next(iter(changes))}"
        assert len(str(error.value)) < 200


def test_a_wide_range_of_an_exact_number_ends_where_sums_are_no_longer_exact():
    schema = Schema(exact={"points": 4}, ranges={"points": (-1e300, 1e300), "amount": (-5, 10)})
    assert schema.limits("points") == (-1e8, 1e8)
    assert schema.limits("amount") == (-5.0, 10.0)


TEXTS = st.one_of(
    st.text(min_size=0, max_size=8), st.sampled_from(["NaN", "e\u0301", "\U0001f4b3", "\x00", "x" * 128, "x" * 256]),
    st.text(string.ascii_letters, min_size=120, max_size=300),
)  # fmt: skip
WHOLE = st.one_of(
    st.integers(), st.integers(-(10**300), 10**300), st.sampled_from([10**127, 10**128, 10**255, 10**256])
)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**30), 10**30), st.sampled_from([-0.0, 1e308]),
    st.decimals(0, 10**6, places=2).map(float),
)  # fmt: skip
ANYTHING = st.one_of(TEXTS, WHOLE, NUMBERS, st.booleans(), st.none())
NAMES = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=3).map("f_{}".format), unique=True, max_size=8)


@st.composite
def schemas(draw):
    """Presets, and schemas of any fields."""
    if draw(st.booleans()):
        return load_detector(draw(st.sampled_from(preset_names()))).schema
    names = draw(NAMES)
    parts = [names[n::4] for n in range(4)]
    optional = draw(st.lists(st.sampled_from([*names, "transaction_id", "event_time"]), unique=True))
    return Schema(
        keys=tuple(parts[0]), categories=tuple(parts[1]), numbers=tuple(parts[2]), optional=tuple(optional),
        exact={name: draw(st.integers(0, 6)) for name in parts[3]}, negative_amounts=draw(st.booleans()),
    )  # fmt: skip


def likely(draw, schema, name):
    """A value that may well be accepted."""
    if name == schema.time:
        return draw(st.one_of(st.integers(0, 4 * 10**9), st.floats(0, 4e15), st.just("2025-01-01T00:00:00.25+01:00")))
    return draw(TEXTS | WHOLE if name == schema.id or name in schema.texts else NUMBERS)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_accepted_can_be_restored(data):
    schema = data.draw(schemas())
    body = {}
    for name in schema.fields:
        kind = data.draw(st.integers(0, 9))
        if kind or name not in schema.optional:
            body[name] = data.draw(ANYTHING) if kind == 1 else likely(data.draw, schema, name)
    raw = json.dumps(body).encode()
    try:
        transaction = schema.decode(raw)
    except SentinelError:
        assert schema.decode_array(b"[%b]" % raw) is None
        return
    assert schema.decode_array(b"[%b]" % raw) == [transaction]
    schema.assign(transaction, "new")
    if getattr(transaction, schema.time) is None:
        setattr(transaction, schema.time, 1_735_689_600_000_000)
    content = schema.encode(transaction)
    assert schema.restore(content) == transaction
    assert schema.restore_all([content, content]) == [transaction, transaction]
    assert schema.encode(schema.restore(content)) == content
    assert not schema.restore_fitting([content]).misfits


def test_stored_texts_that_were_longer_are_read_and_named_and_the_rest_is_named():
    good = SCHEMA.encode(decode())
    longer = good.replace(b'"c"', b'"%b"' % (b"1" * 300))
    found = SCHEMA.restore_fitting([good, longer, b'{"amount":1}', b"\xff", good])
    assert found.places == [0, 1, 4]
    assert [one.card for one in found.transactions] == ["c", "1" * 300, "c"]
    assert [misfit.place for misfit in found.misfits] == [1, 2, 3]
    assert "length <= 256" in found.misfits[0].why
    assert "transaction_id" in found.misfits[1].why


FINGERPRINTS = [  # one body, another, and whether they are of one transaction
    ({"amount": 0.3}, {"amount": 0.1 + 0.2}, True),
    ({"amount": 0.0}, {"amount": -0.0}, True),
    ({"amount": 1e2}, {"amount": 100}, True),
    ({"amount": 19.99}, {"amount": 19.990000000000002}, True),
    ({"amount": 9_999_999_999.99}, {"amount": 9_999_999_999.990002}, True),
    ({"amount": 0.3}, {"amount": 0.31}, False),
    ({"amount": 0.0}, {"amount": 0.01}, False),
    ({"units": 3}, {"units": 3.0}, True),
    ({"units": None}, {}, True),
    ({"units": 0}, {}, False),
    ({"units": 3}, {"units": 4}, False),
    ({"lat": 41.2000001, "lon": 2.0}, {"lat": 41.2000002, "lon": 2}, True),
    ({"lat": 41.2, "lon": 2.0}, {"lat": 41.200001, "lon": 2}, False),
    ({"rounded": 1.004}, {"rounded": 0.996}, True),
    ({"risk": 0.0}, {"risk": -0.0}, True),
    ({"risk": 0.3}, {"risk": 0.1 + 0.2}, False),  # no unit is known of a plain number
    ({"card": 7}, {"card": "7"}, True),
    ({"card": "7"}, {"card": "07"}, False),
    ({"event_time": "2025-01-01T01:00:00+01:00"}, {"event_time": 1_735_689_600}, True),
]


@pytest.mark.parametrize(("one", "other", "same"), FINGERPRINTS)
def test_one_transaction_is_what_was_sent_in_whole_units(one, other, same):
    schema = Schema(
        keys=("card",), numbers=("risk",), exact={"units": 0, "rounded": 2}, place=("lat", "lon"), rounded=("rounded",),
        optional=("card", "risk", "units", "rounded", "lat", "lon"),
    )  # fmt: skip
    sent = {"transaction_id": "t", "event_time": 1_735_689_600, "amount": 5}
    contents = [schema.encode(schema.decode(msgspec.json.encode(sent | changes))) for changes in (one, other)]
    assert schema.is_same(*contents) == same
    assert schema.is_same(*contents[::-1]) == same


def test_what_is_stored_without_rounding_is_compared_as_what_comes():
    """As an entry of the log that was written with all digits."""
    written = b'{"transaction_id":"t","event_time":1735689600000000,"amount":0.30000000000000004,"card":null}'
    schema = Schema(keys=("card",), optional=("card",))
    sent = schema.encode(schema.decode(b'{"transaction_id":"t","event_time":1735689600,"amount":0.3}'))
    assert schema.is_same(written, sent)
    assert not schema.is_same(written.replace(b"1735689600000000", b"1735689600000001"), sent)
    assert schema.is_same(written.replace(b"1735689600000000", b"1735689600000001"), sent, "event_time")


def test_a_negative_amount_is_refused_with_what_would_take_it():
    body = b'{"transaction_id": "t", "event_time": "2026-01-01T00:00:00Z", "amount": -1}'
    with pytest.raises(InvalidInput, match=r"from 0 on; .* Schema\(negative_amounts=True\) - at `\$.amount`"):
        Schema().decode(body)
    assert Schema(negative_amounts=True).decode(body).amount == -1
    with pytest.raises(InvalidInput, match="Expected `float` <= "):
        Schema().decode(body.replace(b"-1", b"1e12"))
