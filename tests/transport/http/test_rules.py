"""Rules and lists on a running server: from a draft to what is decided, and back."""

import http.client
import json
import shutil
import time
import uuid

import pytest

from sentinel.commands.keys import create_key
from sentinel.commands.replay import replay_all
from sentinel.config import Settings
from sentinel.errors import DeploymentRefused
from sentinel.events.columns import OPERATOR
from sentinel.events.times import iso
from sentinel.policy.rules.book import Book
from sentinel.record.audit import By
from sentinel.record.rules_applying import UNNAMED, bringing_in, write_draft
from sentinel.transport.access.keys import ADMIN_KEY, ANYBODY

WHEN = "2025-02-01T10:00:00Z"
RULES, LISTS = "/v1/rules", "/v1/lists"


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home)


@pytest.fixture
def post(server, ask):
    return lambda path, body, **headers: ask(server.port, "POST", path, body, **headers)


@pytest.fixture
def get(server, ask):
    return lambda path: ask(server.port, "GET", path)


def payment(**changes):
    return {
        "transaction_id": uuid.uuid4().hex, "event_time": WHEN, "amount": 5, "card": uuid.uuid4().hex, "shop": "s",
    } | changes  # fmt: skip


def rule(name, when, do="review", **more):
    return {"name": name, "when": when, "do": do, "reason": f"because of {name}", **more}


@pytest.fixture
def apply(post):
    def bring_in(*rules, lists=(), note="", **more):
        drafted = post(f"{RULES}/drafts", {"book": {"rules": rules, "lists": lists, **more}, "note": note})
        assert drafted.status == 200, drafted.json
        applied = post(f"{RULES}/apply", {"draft": drafted.json["draft"]})
        assert applied.status == 200, applied.json
        return drafted.json["draft"]

    return bring_in


BAD = {"name": "bad", "kind": "deny", "by": "card"}


def test_a_draft_decides_nothing_until_it_is_applied_and_a_rollback_takes_it_back(post, get, apply):
    first = apply(rule("huge", "amount > 5000"), note="to begin with")
    book = {"rules": [rule("large", "amount > 800", "block"), rule("odd", "amount > 700", state="shadow")]}
    draft = post(f"{RULES}/drafts", {"book": book, "note": "a wave of 4111111111111111"}).json
    assert draft == draft | {"draft": first + 1, "author": "operator", "rules": 2, "note": "a wave of [card number]"}
    large = payment(amount=900)
    assert "rules" not in post("/v1/score", payment(amount=900)).json
    assert post(f"{RULES}/apply", {"draft": draft["draft"]}).status == 200
    answer = post("/v1/score", large).json
    assert (answer["decision"], answer["rules"], answer["would_be"]) == ("block", ["large"], "approve")
    stored = get(f"/v1/decisions/{large['transaction_id']}").json
    assert stored["rules"] == {"fired": ["large"], "shadow": ["odd"], "acted": True, "would_be": "approve"}
    shown = get(RULES).json
    assert (shown["rules"]["draft"], shown["rules"]["before"][-1], shown["hits"]) == (
        draft["draft"], first, {"large": 1, "odd": 1},
    )  # fmt: skip
    assert [one["transaction_id"] for one in get("/v1/decisions?rule=odd").json["decisions"]] == [
        large["transaction_id"]
    ]
    assert get("/health").json["rules"] == {"draft": draft["draft"], "demoted": {}}
    assert 'sentinel_rule_hits{rule="odd",state="shadow"} 1.0' in get("/metrics/prom").body.decode()
    back = post(f"{RULES}/rollback", {"note": "too strict"})
    assert back.json["draft"] == first
    assert "rules" not in post("/v1/score", payment(amount=900)).json
    applied = get(f"{RULES}/history").json["applied"]
    assert [one["draft"] for one in applied[:3]] == [first, draft["draft"], first]
    assert (applied[0]["note"], applied[0]["applied_by"]) == ("too strict", "operator")
    assert get(f"{RULES}/drafts/{draft['draft']}").json["book"]["rules"][0]["name"] == "large"
    assert [one["number"] for one in get(f"{RULES}/drafts?limit=1").json["drafts"]] == [draft["draft"]]
    changes = [one["what"] for one in get("/admin/audit?limit=5").json["changes"]]
    assert changes[0] == "POST /v1/rules/rollback"
    assert {"POST /v1/rules/apply", "POST /v1/rules/drafts"} <= set(changes)


def test_the_first_book_is_rolled_back_to_no_rules(start_server, shop_home, ask):
    server = start_server(shop_home)

    def post(path, body):
        return ask(server.port, "POST", path, body)

    def decided(amount):
        return post("/v1/score", payment(amount=amount)).json

    assert post(f"{RULES}/rollback", {}).status == 409
    own = ask(server.port, "GET", "/admin/thresholds").json["a"]
    book = {"rules": [rule("large", "amount > 800", "block")]}
    first = post(f"{RULES}/drafts", {"book": book, "thresholds": own | {"review": own["review"] / 2}}).json["draft"]
    assert post(f"{RULES}/apply", {"draft": first, "in_force": 0}).status == 200
    ruled = decided(900)
    assert (ruled["decision"], ruled["rules"]) == ("block", ["large"])
    gone = ask(server.port, "GET", f"{RULES}/diff?draft=0&against={first}").json
    assert gone["sentences"] == ["rule large: gone"]
    assert post(f"{RULES}/rollback", {"in_force": first, "note": "a wrong one"}).json["draft"] == 0
    assert "rules" not in decided(900)
    assert ask(server.port, "GET", "/admin/thresholds").json["a"] == own
    shown = ask(server.port, "GET", RULES).json["rules"]
    assert (shown["draft"], shown["book"]["rules"], shown["note"]) == (0, [], "a wrong one")
    assert post(f"{RULES}/rollback", {}).status == 409  # nothing was before
    assert post(f"{RULES}/apply", {"draft": first, "in_force": 0}).status == 200
    assert decided(900)["rules"] == ["large"]
    assert post(f"{RULES}/rollback", {}).json["draft"] == 0
    applied = ask(server.port, "GET", f"{RULES}/history").json["applied"]
    assert [one["draft"] for one in applied] == [0, first, 0, first]
    found = replay_all(Settings(home=server.home), None, None, lambda *_: None)
    assert (found.decisions, found.differing, found.impossible) == (3, 0, 0)


def test_what_cannot_be_read_is_shown_in_its_place_and_is_no_draft(post, get):
    before = get(f"{RULES}/drafts").json
    said = post(f"{RULES}/drafts", {"book": {"rules": [rule("one", "amuont > 1")]}})
    assert said.status == 422
    assert "there is no amuont; did you mean amount? (character 1)" in said.json["error"]
    assert said.json["path"] == "$.book"
    assert post(f"{RULES}/check", {"book": {"rules": [rule("one", "amount > 1")]}}).json["rules"] == 1
    for book in ({"rules": [rule("a", "true"), rule("a", "true")]}, {"rules": [{"name": "a"}]}, {"rule": []}):
        assert post(f"{RULES}/check", {"book": book}).status == 422
    assert post(f"{RULES}/apply", {"draft": 9999}).status == 404
    assert post(f"{RULES}/apply", {"draft": 0}).status == 400
    assert get(f"{RULES}/drafts/x").status == 422
    assert get(f"{RULES}/drafts").json == before


def test_a_value_is_on_a_list_from_then_on_and_was_at_a_moment(server, post, get, apply):
    apply(rule("home", 'channel is missing and card not in list("home")', "challenge"),
          lists=[BAD, {"name": "home", "kind": "custom", "by": "card"}])  # fmt: skip
    one, other = payment(card="c-1"), payment(card="c-1")
    assert post("/v1/score", one).json["decision"] == "challenge"
    before_s = time.time()
    told = post(f"{LISTS}/bad", {"value": "c-1", "reason": "stolen"}).json
    assert (told["list"], told["entries"]) == ("bad", 1)
    assert post(f"{LISTS}/bad", {"value": "c-1", "reason": "stolen"}).json["position"] is None
    answer = post("/v1/score", other).json
    assert (answer["decision"], set(answer["rules"])) == ("block", {"list bad", "home"})
    seen = get(f"{LISTS}/bad/c-1").json
    assert (seen["is_on"], seen["periods"][0]["reason"], seen["periods"][0]["author"]) == (True, "stolen", "operator")
    assert get(f"{LISTS}/bad/c-1?as_of={iso(int(before_s * 1e6))}").json["is_on"] is False
    post(f"{LISTS}/home", [{"value": f"h-{n}"} for n in range(3)])
    page = get(f"{LISTS}/home?limit=2").json
    assert [one["value"] for one in page["entries"]] == ["h-0", "h-1"]
    assert [one["value"] for one in get(f"{LISTS}/home?limit=2&cursor={page['next']}").json["entries"]] == ["h-2"]
    assert "rules" not in post("/v1/score", payment(card="h-1")).json
    post(f"{LISTS}/bad", {"value": "c-1", "remove": True})
    assert "list bad" not in post("/v1/score", payment(card="c-1")).json.get("rules", [])
    said = get("/admin/audit?limit=10").json["changes"]
    newest = next(one for one in said if one["what"].startswith("POST /v1/lists"))
    assert newest["after"] == '{"list":"bad","entries":1,"removed":1}'
    ended = get(f"{LISTS}/bad/c-1").json
    assert (ended["is_on"], ended["periods"][0]["until"] is None) == (False, False)
    assert {one["name"]: one["values"] for one in get(LISTS).json["lists"]} == {"bad": 1, "home": 3}
    soon = iso(int((time.time() + 3600) * 1e6))
    post(f"{LISTS}/bad", {"value": "c-2", "from": soon})
    assert "list bad" not in post("/v1/score", payment(card="c-2")).json["rules"]
    assert get(f"{LISTS}/bad/c-2").json["periods"][0]["since"] == soon
    found = replay_all(Settings(home=server.home), None, None, lambda *_: None)
    assert (found.differing, found.impossible) == (0, 0)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (f"{LISTS}/none", {"value": "c"}, 404, "has no list 'none'; it has bad"),
        (f"{LISTS}/bad", {"value": ""}, 422, "length >= 1"),
        (f"{LISTS}/bad", {"value": "c", "until": "2020-01-01"}, 422, "a moment after the entry begins"),
        (f"{LISTS}/bad", {"value": "c", "from": "2020-01-01"}, 422, "what was decided stays"),
        (f"{LISTS}/bad", [{"value": "c"}, {"valeu": "c"}], 422, "valeu"),
        (f"{RULES}/snooze", {"rule": "no", "by": "card", "value": "c", "until": "2030-01-01"}, 404, "no rule 'no' in force"),
        (f"{RULES}/snooze", {"rule": "large", "by": "amount", "value": "c", "until": "2030-01-01"}, 422, "Expected a key"),
        (f"{RULES}/snooze", {"rule": "large", "by": "card", "value": "c"}, 422, "wakes again"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_changes_nothing(post, get, apply, path, body, status, said):
    if get(RULES).json["rules"] is None or "large" not in str(get(RULES).json):
        apply(rule("large", "amount > 800"), lists=[BAD])
    answer = post(path, body)
    assert answer.status == status
    assert said in answer.json["error"]
    assert get(f"{LISTS}/bad/c").json["periods"] == []


def test_a_backtest_says_what_a_book_would_have_done(server, post):
    """A process begins for it, which takes long on a busy machine."""
    post("/v1/score", [payment(amount=4000 if n < 3 else 5) for n in range(20)])
    book = {"rules": [rule("very large", "amount > 3000"), rule("on", "true", state="on", until="2040-01-01")]}

    def tried(**asked):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        connection.request("POST", f"{RULES}/backtest", json.dumps(asked), {"content-type": "application/json"})
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    status, found = tried(book=book, **{"from": "2020-01-01"})
    assert status == 200, found
    by_name = {one["name"]: one["hits"] for one in found["rules"]}
    assert by_name["very large"] >= 3
    assert by_name["on"] == found["transactions"] >= 20
    status, wrong = tried(book={"rules": [rule("odd", "amuont > 1")]})
    assert (status, "there is no amuont; did you mean amount?" in wrong["error"]) == (422, True)
    assert tried(book=book, **{"from": "--help"})[0] == 422


def test_a_rule_sleeps_for_one_card_until_it_is_woken(post, apply):
    apply(rule("large", "amount > 800"))
    ask = {"rule": "large", "by": "card", "value": "sleepy"}
    assert post(f"{RULES}/snooze", {**ask, "until": "2040-01-01", "reason": "known traveller"}).status == 200
    assert "rules" not in post("/v1/score", payment(amount=900, card="sleepy")).json
    assert post("/v1/score", payment(amount=900, card="awake")).json["rules"] == ["large"]
    assert post(f"{RULES}/snooze", {**ask, "remove": True}).status == 200
    assert post("/v1/score", payment(amount=900, card="sleepy")).json["rules"] == ["large"]


def test_the_typo_of_800_for_8000_makes_the_rule_a_shadow_by_itself(post, get, apply):
    """The band is that of the rule as it was tried, with 8000."""
    draft = apply(
        rule("large", "amount > 800", "block", band=[0.001, 0.002]), rule("calm", "amount > 800", band=[0, 1])
    )
    blocked = sum(
        one["decision"] == "block"
        for n in range(0, 400, 50)
        for one in post("/v1/score", [payment(amount=900 if i % 2 else 5) for i in range(n, n + 50)]).json
    )
    assert blocked > 0
    until = time.monotonic() + 60
    while not get(RULES).json["rules"]["demoted"] and time.monotonic() < until:
        time.sleep(0.05)
    shown = get(RULES).json["rules"]
    assert shown["draft"] == draft
    assert list(shown["demoted"]) == ["large"]
    assert "more than 10 times the highest share of its band (0.20%)" in shown["demoted"]["large"]
    assert get("/health").json["rules"]["demoted"] == shown["demoted"]
    assert "sentinel_rules_demoted 1.0" in get("/metrics/prom").body.decode()
    large = payment(amount=900)
    assert post("/v1/score", large).json["rules"] == ["calm"]
    assert get(f"/v1/decisions/{large['transaction_id']}").json["rules"]["shadow"] == ["large"]
    assert get("/admin/audit?limit=1").json["changes"][0]["who"] == "sentinel"


def test_who_has_drafted_may_not_apply_where_it_takes_two(start_server, shop_home, ask, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    scopes = {"anna": "rules,read", "ben": "rules,read", "cleo": "score,read"}
    tokens = {name: create_key(Settings(home=home), name, one, "never", None, None).key for name, one in scopes.items()}
    server = start_server(home, {"SENTINEL_AUTH": "required", "SENTINEL_RULES_NEED_TWO": "true"})

    def told(name, path, body, method="POST"):
        return ask(server.port, method, path, body, authorization=f"Bearer {tokens[name]}")

    body = {"book": {"rules": [rule("large", "amount > 800")]}, "note": "a wave"}
    assert told("cleo", f"{RULES}/drafts", body).status == 403
    draft = told("anna", f"{RULES}/drafts", body).json["draft"]
    own = told("anna", f"{RULES}/apply", {"draft": draft})
    assert (own.status, "somebody else has to apply it" in own.json["error"]) == (409, True)
    assert told("ben", f"{RULES}/apply", {"draft": draft, "note": "seen"}).status == 200
    shown = told("cleo", RULES, None, "GET").json["rules"]
    assert (shown["author"], shown["applied_by"], shown["note"]) == ("anna", "ben", "seen")
    assert told("cleo", f"{LISTS}/x", {"value": "c"}).status == 403


@pytest.mark.parametrize("names", [("operator", "ben"), ("ben", "operator"), ("admin-key", "ben"), ("ben", "admin-key"), ("ben", "ben"),
                                   ("user ben", "ben"), ("ben", "Ben"), ("anyone", "ben"), ("operator", "admin-key")])  # fmt: skip
def test_nobody_is_two_people_by_leaving_a_key_out(fake_log, names):
    log = fake_log.FakeLog()
    author, second = (By(name, "here", "a test") for name in names)
    draft, _ = write_draft(log, Book(), author, "", {}, 1)
    with pytest.raises(DeploymentRefused, match="SENTINEL_RULES_NEED_TWO"):
        bringing_in(log, draft.number, second, "", 2, needs_two=True)
    assert bringing_in(log, draft.number, By("cleo", "here", "a test"), "", 2, needs_two=author.who not in UNNAMED)
    assert {ADMIN_KEY, ANYBODY, OPERATOR} == set(UNNAMED)
