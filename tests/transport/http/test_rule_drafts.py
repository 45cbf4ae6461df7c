"""Drafts of several people over HTTP: what changes, who was quicker, for whom a key speaks, and what was tried."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sentinel.commands.keys import create_key
from sentinel.config import Settings
from tests.transport.http.test_rules import BAD, LISTS, RULES, payment, rule


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home)


@pytest.fixture
def post(server, ask):
    return lambda path, body, **headers: ask(server.port, "POST", path, body, **headers)


@pytest.fixture
def get(server, ask):
    return lambda path: ask(server.port, "GET", path)


def draft(post, *rules, lists=(), **more):
    return post(f"{RULES}/drafts", {"book": {"rules": rules, "lists": lists}, **more})


def test_the_second_of_two_who_edit_one_draft_is_told_and_nothing_is_overwritten(post, get):
    first = draft(post, rule("large", "amount > 800")).json["draft"]
    ana = draft(post, rule("large", "amount > 900"), after=first, seen=first, note="by ana")
    assert ana.status == 200
    ben = draft(post, rule("large", "amount > 700"), after=first, seen=first)
    assert (ben.status, f"that is draft {ana.json['draft']}; nothing is overwritten" in ben.json["error"]) == (
        409,
        True,
    )
    assert [one["number"] for one in get(f"{RULES}/drafts?limit=1").json["drafts"]] == [ana.json["draft"]]
    again = draft(post, rule("large", "amount > 700"), after=first, seen=ana.json["draft"])  # who has seen it may
    assert again.status == 200
    assert get(f"{RULES}/drafts/{again.json['draft']}").json["after"] == first
    assert draft(post, rule("large", "amount > 700"), after=first).status == 422


def test_a_draft_says_what_it_changes_and_is_not_applied_upon_what_was_not_looked_at(post, get):
    one = draft(post, rule("large", "amount > 800")).json["draft"]
    two = draft(post, rule("large", "amount > 900"), rule("odd", "amount > 10", state="shadow")).json["draft"]
    before = (get(RULES).json["rules"] or {"draft": 0})["draft"]
    assert post(f"{RULES}/apply", {"draft": one, "in_force": before}).status == 200
    found = get(f"{RULES}/diff?draft={two}").json
    assert found["sentences"] == ["rule large: holds when amount > 900, and not when amount > 800", "rule odd: new"]
    assert [(item["name"], item["what"]) for item in found["changes"]["rules"]] == [
        ("large", "changed"),
        ("odd", "new"),
    ]
    assert get(f"{RULES}/diff?draft={one}&against={two}").json["sentences"][-1] == "rule odd: gone"
    assert get(f"{RULES}/diff?draft=9999").status == 404
    late = post(f"{RULES}/apply", {"draft": two, "in_force": one - 1})
    assert (late.status, f"draft {one} has come in force meanwhile" in late.json["error"]) == (409, True)
    assert post(f"{RULES}/rollback", {"in_force": two}).status == 409
    assert get(RULES).json["rules"]["draft"] == one
    assert post(f"{RULES}/apply", {"draft": two, "in_force": one, "bands": {"large": [0.0, 0.25]}}).status == 200
    assert get(RULES).json["rules"]["bands"] == {"large": [0.0, 0.25]}


def test_the_newest_decisions_are_tried_at_once_beside_what_is_in_force(post):
    number = draft(post, rule("large", "amount > 800")).json["draft"]
    post(f"{RULES}/apply", {"draft": number})
    sent = [payment(amount=900 if n % 2 else 850) for n in range(40)]
    assert {one["decision"] for one in post("/v1/score", sent).json} <= {"review", "block"}
    body = {"book": {"rules": [rule("larger", "amount > 880", "block")]}, "newest": 40}
    found = post(f"{RULES}/backtest", body).json
    (larger,) = found["rules"]
    assert (found["transactions"], larger["hits"], sum(larger["by_day"])) == (40, 20, 20)
    assert found["in_force"]["decisions"] == found["was"]["decisions"]
    assert found["would_be"]["decisions"]["block"] >= 20
    assert post(f"{RULES}/backtest", body | {"newest": 0}).status == 422
    assert post(f"{RULES}/backtest", body | {"from": "2020-01-01"}).status == 422
    wrong = post(f"{RULES}/backtest", {"book": {"rules": [rule("odd", "amuont > 1")]}, "newest": 40})
    assert (wrong.status, "did you mean amount?" in wrong.json["error"]) == (422, True)


def test_figures_of_rules_are_those_of_their_decisions(post, get):
    number = draft(post, rule("figured", "amount > 800", "block"), rule("beside", "amount > 850", state="shadow")).json[
        "draft"
    ]
    post(f"{RULES}/apply", {"draft": number})
    sent = [payment(amount=amount) for amount in (900, 820, 5, 900)]
    post("/v1/score", sent)
    for one, is_fraud in zip(sent, (True, False, True, None), strict=True):
        if is_fraud is not None:
            post("/v1/outcomes", {"transaction_id": one["transaction_id"], "is_fraud": is_fraud})
    end = time.monotonic() + 60
    while get("/health").json["view"]["lag"] and time.monotonic() < end:
        time.sleep(0.05)
    found = get(f"{RULES}/figures?days=3").json
    by_name = {one["name"]: one for one in found["rules"]}
    figured, beside = by_name["figured"], by_name["beside"]
    assert len(found["days"]) == len(figured["hits"]) == 3
    assert (sum(figured["hits"]), figured["blocked"], figured["judged"], figured["precision"]) == (3, 3, 2, 0.5)
    assert (sum(beside["hits"]), beside["shadow_hits"], beside["frauds"]) == (2, 2, 1)
    assert get(f"{RULES}/figures?days=0").status == get(f"{RULES}/figures?days=93").status == 422


def test_a_value_is_looked_up_without_standing_in_an_address(post):
    number = draft(post, rule("large", "amount > 800"), lists=[BAD]).json["draft"]
    post(f"{RULES}/apply", {"draft": number})
    post(f"{LISTS}/bad", {"value": "c/1 ?", "reason": "stolen"})
    found = post(f"{LISTS}/bad/look-up", {"value": "c/1 ?"}).json
    assert (found["is_on"], found["periods"][0]["reason"]) == (True, "stolen")
    assert post(f"{LISTS}/bad/look-up", {"value": "c/1 ?", "as_of": "2020-01-01"}).json["is_on"] is False
    assert post(f"{LISTS}/none/look-up", {"value": "c"}).status == 404


def test_thresholds_come_in_force_with_a_draft_and_go_with_its_rollback(post, get):
    own = get("/admin/thresholds").json["a"]
    first = draft(post, rule("large", "amount > 4000")).json["draft"]
    post(f"{RULES}/apply", {"draft": first})
    asked = {"book": {"rules": [rule("large", "amount > 4000")]}, "thresholds": {"review": 0.001}}
    if own.get("block") is not None:
        asked["thresholds"]["block"] = 0.999
    number = post(f"{RULES}/drafts", asked).json["draft"]
    assert get("/admin/thresholds").json["a"] == own  # a draft decides nothing
    found = get(f"{RULES}/diff?draft={number}").json
    assert (found["thresholds"]["before"], found["thresholds"]["after"]["review"]) == (own, 0.001)
    assert found["sentences"][0].startswith("thresholds of v1: review from 0.001, and not from ")
    assert post(f"{RULES}/apply", {"draft": number}).status == 200
    assert get("/admin/thresholds").json["a"]["review"] == 0.001
    assert post("/v1/score", payment()).json["threshold"] == 0.001
    assert post(f"{RULES}/rollback", {}).json["draft"] == first
    assert get("/admin/thresholds").json["a"] == own
    wrong = post(f"{RULES}/drafts", asked | {"thresholds": {"review": 0.9, "block": 0.1}})
    assert (wrong.status, wrong.json["path"]) == (422, "$.thresholds")


def test_entries_of_lists_come_with_a_draft_and_several_at_once_need_two(start_server, shop_home, ask, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    tokens = {
        name: create_key(Settings(home=home), name, "rules,score,read", "never", None, None).key
        for name in ("ana", "ben")
    }
    server = start_server(home, {"SENTINEL_AUTH": "required", "SENTINEL_RULES_NEED_TWO": "true"})

    def told(name, path, body, method="POST"):
        return ask(server.port, method, path, body, authorization=f"Bearer {tokens[name]}")

    book = {"lists": [BAD]}
    first = told("ana", f"{RULES}/drafts", {"book": book}).json["draft"]
    assert told("ben", f"{RULES}/apply", {"draft": first}).status == 200
    assert told("ana", f"{LISTS}/bad", {"value": "one"}).status == 200
    several = [{"value": f"c{n}", "reason": "a leak"} for n in range(30)]
    refused = told("ana", f"{LISTS}/bad", several)
    assert (refused.status, "several entries at once need two people" in refused.json["error"]) == (409, True)
    drafted = told("ana", f"{RULES}/drafts", {"book": book, "listed": {"bad": several}}).json
    assert drafted["entries"] == 30
    assert told("ben", f"{LISTS}/bad/look-up", {"value": "c3"}).json["is_on"] is False
    found = told("ben", f"{RULES}/diff?draft={drafted['draft']}", b"", "GET").json
    assert (found["listed"], found["sentences"]) == ({"bad": 30}, ["list bad: 30 entries told with the draft"])
    assert told("ana", f"{RULES}/apply", {"draft": drafted["draft"]}).status == 409
    assert told("ben", f"{LISTS}/bad/look-up", {"value": "c3"}).json["is_on"] is False
    assert told("ben", f"{RULES}/apply", {"draft": drafted["draft"]}).status == 200
    period = told("ben", f"{LISTS}/bad/look-up", {"value": "c3"}).json["periods"][0]
    assert (period["reason"], period["author"]) == ("a leak", "ana")
    assert told("ben", "/v1/score", payment(card="c29")).json["rules"] == ["list bad"]
    wrong = told("ana", f"{RULES}/drafts", {"book": book, "listed": {"none": several}})
    assert (wrong.status, wrong.json["path"]) == (422, "$.listed")


def test_a_key_of_an_admin_speaks_for_people_who_are_two_and_no_other_key_does(start_server, shop_home, ask, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    keys = {"console": "admin", "editor": "rules,read"}
    tokens = {name: create_key(Settings(home=home), name, one, "never", None, None).key for name, one in keys.items()}
    server = start_server(home, {"SENTINEL_AUTH": "required", "SENTINEL_RULES_NEED_TWO": "true"})

    def told(path, body, person, key="console"):
        headers = {"authorization": f"Bearer {tokens[key]}", "x-sentinel-person": person}
        return ask(server.port, "POST", path, body, **headers)

    def drafted(when, person):
        return told(f"{RULES}/drafts", {"book": {"rules": [rule("large", when)]}}, person).json["draft"]

    first = drafted("amount > 800", "ana")
    assert told(f"{RULES}/apply", {"draft": first}, "ana").status == 409
    assert told(f"{RULES}/apply", {"draft": first}, "ben").status == 200
    second = drafted("amount > 900", "ben")
    assert told(f"{RULES}/apply", {"draft": second}, "ana").status == 200
    own = told(f"{RULES}/rollback", {}, "ana")  # back to what she has written herself
    assert (own.status, "somebody else has to apply it" in own.json["error"]) == (409, True)
    assert told(f"{RULES}/rollback", {}, "cleo").status == 200
    shown = json.loads(ask(server.port, "GET", RULES, authorization=f"Bearer {tokens['console']}").body)["rules"]
    assert (shown["author"], shown["applied_by"]) == ("ana via console", "cleo via console")
    own = told(f"{RULES}/rollback", {}, "ana")  # to no rules, in the place of what she has written
    assert (own.status, "somebody else" in own.json["error"]) == (409, True)
    assert told(f"{RULES}/rollback", {}, "ben").json["draft"] == 0
    assert told(f"{RULES}/rollback", {}, "ana", "editor").status == 403
    alone = told("/admin/thresholds", {"review": 0.5}, "ana")
    assert (alone.status, "thresholds need two people" in alone.json["error"]) == (409, True)
    assert told(f"{RULES}/rollback", {}, "Ana; drop").status == 422


def test_who_writes_more_drafts_than_anybody_does_has_to_wait_and_others_do_not(post):
    body = {"book": {"rules": [rule("odd", "no_such_field > 1")]}}
    flood = {"x-sentinel-person": "flood"}
    answers = (post(f"{RULES}/drafts", body, **flood) for _ in range(1_000))
    refused = next(one for one in answers if one.status != 422)
    assert (refused.status, "More than 60 drafts within a minute" in refused.json["error"]) == (429, True)
    assert int(refused.headers["retry-after"]) >= 1
    assert draft(post, rule("large", "amount > 800")).status == 200


def test_each_caller_has_one_turn_at_the_newest_decisions(post):
    """Of one who asks many times at once all but one are told; another one is not told so."""
    body = {"book": {"rules": [rule("larger", "amount > 880", "block")]}, "newest": 2_000}
    sent = [payment(amount=900) for _ in range(40)]
    assert len(post("/v1/score", sent).json) == 40
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(post, f"{RULES}/backtest", body, **{"x-sentinel-person": "greedy"}) for _ in range(32)]
        other = pool.submit(post, f"{RULES}/backtest", body, **{"x-sentinel-person": "other"})
        statuses = {one.result().status for one in asked}
        assert statuses <= {200, 409}
        assert other.result().status == 200
