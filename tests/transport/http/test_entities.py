"""What is around a key, over HTTP."""

import json
import time
from urllib.parse import quote

import pytest

from sentinel.events.times import instant_us

PATIENCE_S = 60.0
CARD = "4111 1111 1111 1111"
LISBON, LAGOS = (38.7223, -9.1393), (6.5244, 3.3792)


@pytest.fixture(scope="module")
def server(start_server, placed_home):
    return start_server(placed_home)


@pytest.fixture(scope="module")
def get(server, ask):
    return lambda path: ask(server.port, "GET", path)


def payment(n, at="2025-02-01T10:00:00Z", place=LISBON, **fields):
    given = {"transaction_id": f"p{n}", "event_time": at, "amount": 10.5 + n, "card": "ana", "shop": "kiosk",
             "device": "phone", "channel": "web", "risk": 0.1}  # fmt: skip
    return given | ({} if place is None else {"latitude": place[0], "longitude": place[1]}) | fields


@pytest.fixture(scope="module")
def around(server, ask, get):
    """What is around a key, of some payments that were decided, of which one was fraud."""
    payments = [
        payment(0),
        payment(1, at="2025-02-01T10:14:00Z", place=LAGOS, shop="web"),
        payment(2, card="ben", shop="market"),
        payment(3, card="cem", device="tablet", shop="market", place=None),
        payment(4, card=CARD, shop="web", device="tablet"),
    ]
    assert ask(server.port, "POST", "/v1/score", payments).status == 200
    assert ask(server.port, "POST", "/v1/outcomes", {"transaction_id": "p2", "is_fraud": True}).status == 200
    end = time.monotonic() + PATIENCE_S
    while get("/health").json["view"].get("lag") != 0:
        assert time.monotonic() < end, get("/health").body
        time.sleep(0.05)

    def look(key, value, query=""):
        return get(f"/v1/entities/{key}/{quote(value)}{query}")

    return look


def test_its_decisions_are_those_of_a_search_with_when_and_where(around, get):
    found = around("card", "ana").json
    listed = get("/v1/decisions?card=ana").json["decisions"]
    extra = ("happened_at", "place", "is_fraud")
    assert [{n: v for n, v in one.items() if n not in extra} for one in found["decisions"]] == listed
    assert [(one["transaction_id"], tuple(one["place"]), one["is_fraud"]) for one in found["decisions"]] == [
        ("p1", LAGOS, None), ("p0", LISBON, None),
    ]  # fmt: skip
    assert instant_us(found["decisions"][0]["happened_at"]) == instant_us("2025-02-01T10:14:00Z")
    assert found["tally"]["decisions"] == 2


def test_a_journey_that_nobody_can_have_made_is_told(around):
    (one,) = around("card", "ana").json["journeys"]
    assert (one["from"], one["to"], one["impossible"]) == ("p0", "p1", True)
    assert one["kmh"] == pytest.approx(one["km"] / 14 * 60, rel=0.001)


def test_what_stands_beside_it_and_who_shares_that(around):
    found = around("card", "ana").json
    linked = {(one["key"], one["value"]): one for one in found["linked"]}
    assert set(linked) == {("shop", "kiosk"), ("shop", "web"), ("device", "phone")}
    phone = linked["device", "phone"]
    assert (phone["together"], phone["shared_by"], phone["tally"]["decisions"]) == (2, 2, 3)
    assert phone["tally"]["frauds"] == 1
    assert found["linked"][0] == phone  # the one that has fraud is first
    over = {one["value"]: [(way["key"], way["value"]) for way in one["over"]] for one in found["neighbours"]}
    assert over["ben"] == [("device", "phone")]
    assert len(over) == 2
    assert around("device", "tablet").json["neighbours"][0]["over"][0]["key"] in ("card", "shop")


def test_a_card_number_is_found_and_nowhere_shown(around):
    answer = around("card", CARD)
    assert [one["transaction_id"] for one in answer.json["decisions"]] == ["p4"]
    assert "41111111" not in answer.body.decode().replace(" ", "")
    (stored,) = answer.json["values"]
    assert around("card", stored).json["decisions"] == answer.json["decisions"]


def test_of_a_key_that_was_never_seen_there_is_nothing(around):
    found = around("card", "nobody")
    assert found.status == 200
    assert (found.json["decisions"], found.json["linked"], found.json["neighbours"]) == ([], [], [])


def test_a_period_bounds_all_of_it(around):
    assert around("card", "ana", "?from=2099-01-01&limit=5").json["decisions"] == []
    first = around("card", "ana", "?limit=1").json
    assert (len(first["decisions"]), first["next"] is not None) == (1, True)


@pytest.mark.parametrize(
    ("key", "query", "status", "said"),
    [
        ("colour", "", 404, "card, shop, device"),
        ("card", "?from=soon", 422, "Expected"),
        ("card", "?limit=501", 422, "500"),
        ("card", "?limit=0", 422, "1 to 500"),
        ("card", "?limit=-1", 422, "whole number"),
        ("card", "?action=block", 422, "from, to, limit"),
    ],
)
def test_what_cannot_be_asked_is_said(around, key, query, status, said):
    answer = around(key, "ana", query)
    assert answer.status == status
    assert said in answer.json["error"]


def test_each_look_is_in_the_audit_with_the_value_as_it_is_stored(around, get):
    found = around("card", CARD)
    assert found.status == 200
    newest = get("/admin/audit?limit=1").json["changes"][0]
    assert (newest["what"], newest["who"]) == ("GET /v1/entities", "operator")
    assert json.loads(newest["after"]) == {"key": "card", "value": found.json["values"][0]}
    assert CARD not in newest["after"]
    assert around("nothing", CARD).status == 404
    assert get("/admin/audit?limit=1").json["changes"][0] == newest
