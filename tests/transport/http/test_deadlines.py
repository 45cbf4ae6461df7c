"""Who may choose a deadline, and what it can do: a caller in a hurry is not a caller who picks the judge."""

import uuid

import pytest

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition

PAYMENT = {"event_time": "2025-02-01T10:00:00Z", "amount": 900.0, "card": "c", "shop": "shop-3", "channel": "web"}
JSON = {"content_type": "application/json"}


@pytest.fixture(scope="module")
def port(start_server, shop_home):
    """Of a server whose least deadline is long enough on a busy machine too."""
    patient = {"SENTINEL_DEADLINE_MS": "5000", "SENTINEL_LEAST_DEADLINE_MS": "5000"}
    return start_server(shop_home, patient).port


def asked(ask, port, **headers):
    """The answer to a payment of a card that nobody knows."""
    fresh = PAYMENT | {"transaction_id": uuid.uuid4().hex, "card": uuid.uuid4().hex, "shop": uuid.uuid4().hex}
    answer = ask(port, "POST", "/v1/score", fresh, **JSON, **headers)
    assert answer.status == 200
    return answer.json


@pytest.mark.parametrize("hurry", ["0.0001", "1e-300", "1", "19.9", "nan", "-1", "inf", "0"])
def test_a_caller_cannot_have_the_model_left_out_by_its_deadline(ask, port, hurry):
    answer = asked(ask, port, x_deadline_ms=hurry)
    assert answer["degraded"] is None
    assert answer["decided_by"] == "model"
    assert answer["fraud_probability"] == asked(ask, port)["fraud_probability"]


def test_the_least_deadline_may_not_be_above_the_longest():
    with pytest.raises(InvalidDefinition, match=r"least_deadline_ms \(50\) is above longest_deadline_ms \(40\)"):
        Settings(least_deadline_ms=50, longest_deadline_ms=40)
