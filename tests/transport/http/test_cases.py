"""Cases over HTTP: a queue that a real server fills, worked off by callers who may, and outcomes that follow."""

import sqlite3
import threading
import time
from contextlib import closing, suppress

import pytest

from sentinel.transport.access.keys import Grant, new_token
from sentinel.transport.access.scopes import scopes_of
from sentinel.transport.access.store import KeyStore
from tests.http_calls import call

PATIENCE_S = 60.0
KEYS = {"ana": ("cases", "read"), "bob": ("cases", "read"), "teller": ("outcomes", "read"), "console": ("admin",)}


def payment(n, **more):
    row = {
        "transaction_id": f"t{n}", "event_time": time.time(), "amount": 500.0 + n, "card": f"card-{n}", "shop": "shop-3",
        "channel": "web", "risk": 0.5,
    }  # fmt: skip
    return row | more


class Office:
    """A server with cases, and callers with keys of their own."""

    def __init__(self, server, keys):
        self.server, self._keys = server, keys

    def ask(self, path, body=None, *, by=None):
        """Status and answer."""
        headers = {} if by is None else {"authorization": f"Bearer {self._keys[by]}"}
        return call(self.server, path, body, **headers)

    def ok(self, path, body=None, *, by=None):
        status, answer = self.ask(path, body, by=by)
        assert status == 200, answer
        return answer

    def review(self, *payments):
        """Send payments that the watch rule holds for, and the case of each."""
        self.ok("/v1/score", list(payments))
        return [until(lambda one=one: self.case_of(one["transaction_id"])) for one in payments]

    def case_of(self, name):
        found = self.ok(f"/v1/cases?state=work&transaction_id={name}")["cases"]
        return found[0] if found else None

    def outcomes(self, name):
        told = self.ok(f"/v1/decisions/{name}")["outcomes"]
        return [(one["is_fraud"], one["source"], one["told_by"], one["revoked"] is not None) for one in told]


def until(find):
    end = time.monotonic() + PATIENCE_S
    while True:
        with suppress(OSError):
            if found := find():
                return found
        assert time.monotonic() < end, "it has not become so"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def office(start_server, shop_home):
    server = start_server(shop_home, {"SENTINEL_CASES": "on"})
    keys, now_us = {}, int(time.time() * 1e6)
    for name, scopes in KEYS.items():
        keys[name] = token = new_token()
        grant = Grant(name=name, scopes=scopes_of(scopes))
        KeyStore(server.home).change(lambda ring, grant=grant, token=token: ring.with_new(grant, token, now_us))
    made = Office(server, keys)
    rules = [
        {"name": "watch all", "when": "amount > 100", "do": "tag", "reason": "to look at"},
        {"name": "odd", "when": "amount > 4320 and amount < 4322", "do": "review", "reason": "to be reviewed"},
    ]
    book = {"rules": rules}
    draft = made.ok("/v1/rules/drafts", {"book": book})["draft"]
    made.ok("/v1/rules/apply", {"draft": draft})
    until(lambda: made.ask("/v1/cases", by="ana")[0] == 200)
    return made


@pytest.mark.parametrize(
    ("outcome", "state"), [("fraud", "declined"), ("legitimate", "approved"), ("undecided", "taken")]
)
def test_a_review_is_taken_with_its_case_and_comes_to_what_the_case_was(office, outcome, state):
    name = f"review-{outcome}"
    (case,) = office.review(payment(0, amount=4_321.0, transaction_id=name, card=name))
    assert office.ok(f"/v1/decisions/{name}")["state"] == "in_review"
    at = f"/v1/cases/{case['case']}"
    taken = office.ok(f"{at}/take", {"version": case["version"]}, by="ana")
    assert office.ok(f"/v1/decisions/{name}")["state"] == "taken"
    office.ok(f"{at}/decide", {"version": taken["version"], "outcome": outcome}, by="ana")
    found = office.ok(f"/v1/decisions/{name}")
    assert found["state"] == state
    assert {one["told_by"] for one in found["results"]} == {f"case:{case['case']}"}


def test_a_review_is_taken_as_well_when_its_case_is_handed_to_somebody(office):
    (case,) = office.review(payment(0, amount=4_321.0, transaction_id="handed", card="handed"))
    office.ok(f"/v1/cases/{case['case']}/hand-over", {"version": case["version"], "to": "bob"}, by="ana")
    assert office.ok("/v1/decisions/handed")["state"] == "taken"


def test_a_case_that_cannot_be_reopened_keeps_what_it_said(office):
    (case,) = office.review(payment(0, amount=4_321.0, transaction_id="first", card="again"))
    at = f"/v1/cases/{case['case']}"
    done = office.ok(f"{at}/decide", {"version": case["version"], "outcome": "fraud"}, by="ana")
    office.review(payment(1, amount=4_321.0, transaction_id="second", card="again"))
    status, answer = office.ask(f"{at}/reopen", {"version": done["version"]}, by="ana")
    assert (status, "a newer case of the same card" in answer["error"]) == (409, True)
    assert office.outcomes("first") == [(True, "analyst", f"case:{case['case']}", False)]


def test_a_review_that_came_to_something_else_keeps_that(office):
    (case,) = office.review(payment(0, amount=4_321.0, transaction_id="quick", card="quick"))
    office.ok("/v1/decisions/quick/result", {"result": "review_approved"}, by="teller")
    at = f"/v1/cases/{case['case']}"
    taken = office.ok(f"{at}/take", {"version": case["version"]}, by="ana")
    office.ok(f"{at}/decide", {"version": taken["version"], "outcome": "fraud"}, by="ana")
    found = office.ok("/v1/decisions/quick")
    assert (found["state"], [one["result"] for one in found["results"]]) == ("approved", ["review_approved"])
    assert office.outcomes("quick") == [(True, "analyst", f"case:{case['case']}", False)]


def test_a_case_from_opening_to_deciding_and_back(office):
    (case,) = office.review(payment(1, amount=1_234.56))
    number, at = case["case"], f"/v1/cases/{case['case']}"
    assert (case["amount"], case["key"], case["why"]) == (
        "1234.56",
        {"field": "card", "value": "card-1"},
        "rule watch all",
    )
    taken = office.ok(f"{at}/take", {"version": case["version"]}, by="ana")
    assert (taken["state"], taken["holder"]) == ("assigned", "key ana")
    noted = office.ok(f"{at}/notes", {"text": "called the customer"}, by="bob")
    decided = office.ok(f"{at}/decide", {"version": noted["version"], "outcome": "fraud"}, by="ana")
    assert (decided["state"], decided["outcome"], decided["decided_by"]) == ("decided", "fraud", "key ana")
    assert office.outcomes("t1") == [(True, "analyst", f"case:{number}", False)]
    reopened = office.ok(f"{at}/reopen", {"version": decided["version"], "reason": "a mistake"}, by="bob")
    assert (reopened["state"], reopened["holder"], reopened["outcome"]) == ("reopened", None, None)
    assert office.outcomes("t1") == [(True, "analyst", f"case:{number}", True)]
    again = office.ok(f"{at}/decide", {"version": reopened["version"], "outcome": "legitimate"}, by="bob")
    assert sorted(office.outcomes("t1")) == [
        (False, "analyst", f"case:{number}", False), (True, "analyst", f"case:{number}", True),
    ]  # fmt: skip
    whole = office.ok(at)
    assert [(one["what"], one["who"]) for one in whole["history"] if one["what"] != "outcome"] == [
        ("opened", "sentinel"), ("taken", "key ana"), ("noted", "key bob"), ("decided", "key ana"), ("reopened", "key bob"),
        ("decided", "key bob"),
    ]  # fmt: skip
    assert whole["version"] == again["version"]
    assert whole["transactions"][0]["is_fraud"] is False
    audit = [
        one["who"] for one in office.ok("/admin/audit?limit=50")["changes"] if one["what"].startswith(f"POST {at}/")
    ]
    assert audit == ["bob", "bob", "bob", "ana", "bob", "ana"]  # the revocation is in it as well


def test_who_is_second_gets_409_and_nothing_is_told(office):
    (case,) = office.review(payment(2))
    at, version = f"/v1/cases/{case['case']}", case["version"]
    office.ok(f"{at}/take", {"version": version}, by="ana")
    status, answer = office.ask(f"{at}/decide", {"version": version, "outcome": "fraud"}, by="bob")
    assert (status, "taken by 'key ana'" in answer["error"]) == (409, True)
    status, answer = office.ask(f"{at}/decide", {"version": version + 1, "outcome": "fraud"}, by="bob")
    assert (status, "'key ana' has the case" in answer["error"]) == (409, True)
    assert office.outcomes("t2") == []
    handed = office.ok(f"{at}/hand-over", {"version": version + 1, "to": "key bob"}, by="ana")
    assert (
        office.ok(f"{at}/decide", {"version": handed["version"], "outcome": "undecided"}, by="bob")["outcome"]
        == "undecided"
    )
    assert office.outcomes("t2") == []


def test_what_another_source_has_told_is_kept(office):
    (case,) = office.review(payment(3))
    office.ok("/v1/outcomes", {"transaction_id": "t3", "is_fraud": False, "source": "bank"})
    at = f"/v1/cases/{case['case']}"
    told = until(lambda: (found := office.ok(at))["transactions"][0]["source"] == "bank" and found)
    office.ok(f"{at}/decide", {"version": told["version"], "outcome": "fraud"}, by="ana")
    assert [one[:2] for one in office.outcomes("t3")] == [(False, "bank")]


def test_scopes_and_persons(office):
    (case,) = office.review(payment(4))
    at, version = f"/v1/cases/{case['case']}", case["version"]
    assert office.ask(f"{at}/take", {"version": version}, by="teller")[0] == 403
    assert office.ask("/v1/cases", by="teller")[0] == 200
    assert office.ask(f"{at}/take", {"version": version, "person": "eve", "role": "admin"}, by="ana")[0] == 403
    assert office.ask(f"{at}/take", {"version": version, "person": "vic", "role": "viewer"}, by="console")[0] == 403
    taken = office.ok(f"{at}/take", {"version": version, "person": "eve", "role": "analyst"}, by="console")
    assert taken["holder"] == "eve"
    up = office.ok(
        f"{at}/escalate", {"version": taken["version"], "to": "operator", "person": "eve", "role": "analyst"}
    )
    assert (up["state"], up["escalated_to"]) == ("escalated", "operator")
    assert office.ask(f"{at}/take", {"version": up["version"]}, by="ana")[0] == 403
    operator = {"version": up["version"], "person": "lee", "role": "operator"}
    assert office.ok(f"{at}/take", operator, by="console")["holder"] == "lee"
    audited = office.ok("/admin/audit?limit=1")["changes"][0]
    assert audited["who"] == "lee (by console)"


def test_a_key_that_is_called_like_a_person_is_not_that_person(office):
    (case,) = office.review(payment(41))
    at = f"/v1/cases/{case['case']}"
    as_person = {"person": "ana", "role": "analyst"}
    taken = office.ok(f"{at}/take", {"version": case["version"], **as_person}, by="console")
    assert taken["holder"] == "ana"
    status, answer = office.ask(f"{at}/decide", {"version": taken["version"], "outcome": "fraud"}, by="ana")
    assert (status, "'ana' has the case" in answer["error"]) == (409, True)
    assert office.outcomes("t41") == []
    for name in ("key ana", "ana bob"):
        spoken = {"version": taken["version"], "person": name, "role": "analyst"}
        assert office.ask(f"{at}/release", spoken, by="console")[0] == 422
    by_key = office.ok(f"{at}/notes", {"text": "seen"}, by="ana")
    assert office.ok(at)["history"][-1]["who"] == "key ana"
    assert by_key["holder"] == "ana"


def test_what_joins_a_case_in_somebodys_hands_is_taken_as_well(office):
    first, second = (payment(n, amount=4_321.0, transaction_id=f"joins{n}", card="joins") for n in (1, 2))
    (case,) = office.review(first)
    office.ok(f"/v1/cases/{case['case']}/take", {"version": case["version"]}, by="ana")
    office.review(second)
    until(lambda: office.ok("/v1/decisions/joins2")["state"] == "taken")
    (told,) = office.ok("/v1/decisions/joins2")["results"]
    assert (told["result"], told["told_by"]) == ("review_taken", f"case:{case['case']}")


def test_the_queue_its_pages_and_its_figures(office):
    made = office.review(*(payment(n, amount=1_000.0 * n) for n in range(10, 16)))
    seen, cursor = [], ""
    while cursor is not None:
        page = office.ok(f"/v1/cases?limit=4{cursor and '&cursor=' + cursor}")
        seen += page["cases"]
        cursor = page["next"]
    assert len({one["case"] for one in seen}) == len(seen) == page["total"]
    assert [one["urgency"] for one in seen] == sorted((one["urgency"] for one in seen), reverse=True)
    assert {one["case"] for one in made} <= {one["case"] for one in seen}
    first = office.ok("/v1/cases/next", {}, by="ana")
    assert first["case"] == next(one["case"] for one in seen if one["state"] in ("open", "reopened"))
    assert [one["case"] for one in office.ok("/v1/cases?card=card-12")["cases"]] == [made[2]["case"]]
    found = office.ok("/v1/cases/figures?days=1")
    assert found["waiting"] + found["in_hand"] == page["total"]
    assert sum(found["waiting_by_age"].values()) == found["waiting"]
    assert next(one for one in found["analysts"] if one["analyst"] == "key ana")["has"] >= 1


def test_by_hand_once(office):
    office.ok("/v1/score", payment(30, amount=1.0))
    opened = office.ok("/v1/cases", {"transaction_id": "t30", "reason": "the customer called"}, by="ana")
    assert (opened["why"], opened["payments"]) == ("by hand: the customer called", 1)
    assert office.ask("/v1/cases", {"transaction_id": "t30"}, by="ana")[0] == 409
    assert office.ask("/v1/cases", {"transaction_id": "nobody"}, by="ana")[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/cases?state=lost", None, 422), ("/v1/cases?colour=red", None, 422), ("/v1/cases?limit=0", None, 422),
        ("/v1/cases?overdue=perhaps", None, 422), ("/v1/cases?cursor=zz", None, 422), ("/v1/cases/figures?days=0", None, 422),
        ("/v1/cases/999999", None, 404), ("/v1/cases/x", None, 422), ("/v1/cases/999999/take", {"version": 1}, 404),
        ("/v1/cases/1/decide", {"version": 1, "outcome": "perhaps"}, 422), ("/v1/cases/1/decide", {"outcome": "fraud"}, 422),
        ("/v1/cases/1/notes", {"text": ""}, 422), ("/v1/cases/1/notes", {"text": "n" * 10_001}, 422),
        ("/v1/cases/1/links", {"address": "javascript:alert(1)"}, 422), ("/v1/cases/1/take", {"version": 1, "x": 2}, 422),
        ("/v1/cases/1/escalate", {"version": 1, "to": "viewer"}, 422), ("/v1/cases/1/take", {"version": 1, "role": "admin"}, 422),
        ("/v1/cases/1/steal", {"version": 1}, 404),
    ],
)  # fmt: skip
def test_bad_input(office, path, body, status):
    got, answer = office.ask(path, body)
    assert (got, bool(answer["error"])) == (status, True)


def test_killed_between_outcome_and_case_it_is_decided_by_deciding_again(start_server, shop_home):
    """The outcome is durable, and the case is being written, which never ends: then the server dies."""
    server = start_server(shop_home, {"SENTINEL_CASES": "off"})
    alone = Office(server, {})
    alone.ok("/v1/score", payment(1))
    case = alone.ok("/v1/cases", {"transaction_id": "t1"})
    at, faults = f"/v1/cases/{case['case']}", []
    decide = {"version": case["version"], "outcome": "fraud"}

    def ask():
        try:
            faults.append(alone.ask(f"{at}/decide", decide))
        except OSError as error:  # the server is killed while it is asked
            faults.append(error)

    asking = threading.Thread(target=ask)
    with closing(sqlite3.connect(server.home / "written.db", isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout = 60000")
        rows = ", ".join(f"sqlite_master AS t{n}" for n in range(12))
        endless = f"SELECT count(*) FROM {rows}"  # noqa: S608
        when = "BEFORE UPDATE ON cases WHEN NEW.state = 'decided'"
        other.execute(f"CREATE TRIGGER never_ends {when} BEGIN {endless}; END")
        asking.start()
        until(lambda: alone.outcomes("t1"))
        server.kill()
        asking.join()
        other.execute("DROP TRIGGER never_ends")
    assert isinstance(faults[0], OSError) or faults[0][0] == 503
    server.start()
    until(lambda: alone.ask("/health/ready")[0] == 200)
    assert alone.ok(at)["state"] == "open"
    assert alone.ok(f"{at}/decide", decide)["outcome"] == "fraud"
    assert alone.outcomes("t1") == [(True, "analyst", f"case:{case['case']}", False)]


def test_health_tells_how_far_behind_cases_are(office):
    until(lambda: office.ok("/health")["cases"] == {"status": "ok", "lag": 0})
