import msgspec
import pytest

from sentinel.errors import BadBody, InvalidDefinition, InvalidInput
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
        ({"extra": 1}, "$", "unknown field `extra`"),
        ({"amount": ...}, "$", "missing required field `amount`"),
        ({"amount": "12.5"}, "$.amount", "Expected `float`"),
        ({"amount": None}, "$.amount", "Expected `float`"),
        ({"amount": -1.0}, "$.amount", "float` >= 0"),
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
        ({"is_fraud": True}, "$", "unknown field `is_fraud`"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(changes, path, text):
    with pytest.raises(InvalidInput) as error:
        decode(**changes)
    assert error.value.path == path
    assert text in str(error.value)


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


def test_an_id_and_a_time_that_are_missing_are_assigned():
    transaction = ASSIGNED.decode(b'{"amount": 1, "card": "c"}')
    assert (transaction.transaction_id, transaction.event_time) == (None, None)
    ASSIGNED.assign(transaction, "new", 5)
    assert (transaction.transaction_id, transaction.event_time) == ("new", 5)
    assert ASSIGNED.restore(ASSIGNED.encode(transaction)) == transaction


def test_an_id_and_a_time_that_are_given_stay():
    transaction = ASSIGNED.decode(b'{"amount": 1, "card": "c", "transaction_id": 7, "event_time": "2025-01-01"}')
    ASSIGNED.assign(transaction, "new", 5)
    assert (transaction.transaction_id, transaction.event_time) == ("7", 1_735_689_600_000_000)


def test_only_a_schema_with_optional_id_or_time_assigns():
    assert ASSIGNED.assigns
    assert Schema(optional=("event_time",)).assigns
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
