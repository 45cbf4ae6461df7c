"""Results on a running server: told once, refused where they contradict, found by where transactions stand."""

import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from sentinel.commands.keys import create_key
from sentinel.config import Settings

WHEN = "2025-02-01T10:00:00Z"


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home)


@pytest.fixture
def post(server, ask):
    return lambda path, body, **headers: ask(server.port, "POST", path, body, **headers)


def eventually(holds):
    """Wait until this holds: the view follows the log."""
    until_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until_s, "the view did not come so far"
        time.sleep(0.05)


@pytest.fixture
def get(server, ask):
    return lambda path: ask(server.port, "GET", path)


@pytest.fixture
def tell(post):
    return lambda name, result, **more: post(f"/v1/decisions/{quote(name, safe='')}/result", {"result": result} | more)


@pytest.fixture
def decided(post):
    """Has a transaction decided by a rule that is in force for this module; its id."""

    def decide(action, name=None):
        names = {"approve": 5, "review": 5_001, "block": 6_001, "challenge": 7_001}
        payment = {
            "transaction_id": name or uuid.uuid4().hex, "event_time": WHEN, "amount": names[action],
            "card": uuid.uuid4().hex, "shop": "s",
        }  # fmt: skip
        answer = post("/v1/score", payment)
        assert (answer.status, answer.json["decision"]) == (200, action), answer.json
        return payment["transaction_id"]

    return decide


@pytest.fixture(scope="module", autouse=True)
def rules(server, ask):
    rules = [
        {"name": f"to {do}", "when": f"amount > {least} and amount < {least + 1000}", "do": do, "reason": "a test"}
        for do, least in (("review", 5_000), ("block", 6_000), ("challenge", 7_000))
    ]
    drafted = ask(server.port, "POST", "/v1/rules/drafts", {"book": {"rules": rules}, "note": ""})
    assert drafted.status == 200, drafted.json
    assert ask(server.port, "POST", "/v1/rules/apply", {"draft": drafted.json["draft"]}).status == 200


def test_a_challenge_that_is_passed_is_captured_and_refunded(decided, tell, get):
    name = decided("challenge")
    assert (
        get(f"/v1/decisions/{name}").json | {"state": "challenged", "results": []} == get(f"/v1/decisions/{name}").json
    )
    first = tell(name, "challenge_passed", reason="3-D Secure of 4111 1111 1111 1111").json
    assert first == first | {
        "transaction_id": name, "result": "challenge_passed", "state": "approved", "replayed": False,
        "told_by": "operator",
    }  # fmt: skip
    assert [tell(name, one).json["state"] for one in ("captured", "refunded")] == ["captured", "refunded"]
    shown = get(f"/v1/decisions/{name}").json
    assert (shown["decision"], shown["state"]) == ("challenge", "refunded")
    assert [(one["result"], one["state"]) for one in shown["results"]] == [
        ("challenge_passed", "approved"), ("captured", "captured"), ("refunded", "refunded"),
    ]  # fmt: skip
    assert "41111111" not in str(shown["results"]).replace(" ", "").replace("-", "")  # four of them may be in a time
    assert shown["results"][0]["position"] == first["position"]


def test_the_same_result_again_is_known_and_what_contradicts_it_is_refused(decided, tell, get):
    name = decided("review")
    first = tell(name, "review_declined").json
    assert tell(name, "review_declined").json == first | {"replayed": True}
    refused = tell(name, "review_approved")
    assert refused.status == 409
    assert "is declined, after which there is no review_approved: nothing may follow" in refused.json["error"]
    assert tell(name, "captured").status == 409
    assert len(get(f"/v1/decisions/{name}").json["results"]) == 1


@pytest.mark.parametrize("action", ["approve", "block"])
def test_what_was_not_asked_for_has_no_such_result(decided, tell, action):
    assert tell(decided(action), "challenge_passed").status == 409
    assert tell(decided(action), "review_taken").status == 409


def test_bad_results_name_the_fault(decided, post, tell):
    assert tell("nobody", "captured").status == 404
    name = decided("approve")
    path = f"/v1/decisions/{name}/result"
    for body, status, says in (
        ({"result": "eaten"}, 422, "eaten"),
        ({}, 422, "result"),
        ({"result": "captured", "more": 1}, 422, "more"),
        ({"result": "captured", "reason": "x" * 257}, 422, "reason"),
        (b"{", 400, ""),
        (b"", 400, ""),
    ):
        answer = post(path, body)
        assert (answer.status, says in answer.json["error"]) == (status, True), answer.json
    assert post(path, {"result": "captured"} | {"reason": "x" * 70_000}).status == 413
    assert tell(name, "captured").status == 200


@pytest.mark.parametrize("name", ["a/b", "a/result", "<script>alert(1)</script>", "\u202eevil", "ä" * 60])
def test_any_id_that_was_decided_has_results(decided, tell, name):
    assert tell(decided("approve", name + uuid.uuid4().hex[:6]), "captured").status == 200


def test_a_decision_is_found_by_its_position_too(decided, post, get):
    name = decided("review")
    at = get(f"/v1/decisions/{name}").json["position"]
    assert post(f"/v1/decisions/{name}/result?position={at}", {"result": "review_taken"}).json["state"] == "taken"
    assert post(f"/v1/decisions/{name}/result?position={at + 1}", {"result": "review_taken"}).status == 404


def test_of_many_that_tell_at_once_one_is_first_and_contradictions_lose(decided, tell, get):
    name = decided("review")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: tell(name, ("review_approved", "review_declined")[n % 2]), range(24)))
    assert {one.status for one in answers} == {200, 409}
    assert sum(one.status == 200 and not one.json["replayed"] for one in answers) == 1
    shown = get(f"/v1/decisions/{name}").json
    (told,) = shown["results"]
    assert shown["state"] == told["state"]
    assert {one.json["result"] for one in answers if one.status == 200} == {told["result"]}


def test_lists_show_and_find_where_transactions_stand(decided, tell, get):
    names = {what: decided("review") for what in ("in_review", "taken", "approved", "declined")}
    for what, result in (("taken", "review_taken"), ("approved", "review_approved"), ("declined", "review_declined")):
        assert tell(names[what], result).status == 200
    listed = {one["transaction_id"]: one["state"] for one in get("/v1/decisions?limit=500").json["decisions"]}
    assert {what: listed[name] for what, name in names.items()} == {what: what for what in names}

    def found(state):
        return {one["transaction_id"] for one in get(f"/v1/decisions?state={state}&limit=500").json["decisions"]}

    for what, name in names.items():
        eventually(lambda what=what, name=name: found(what) & {*names.values()} == {name})
    assert get("/v1/decisions?state=lost").status == 422


def test_a_review_result_is_in_the_audit_and_a_capture_is_not(decided, tell, get):
    reviewed, captured = decided("review"), decided("approve")
    tell(reviewed, "review_approved", reason="spoke to the holder")
    tell(captured, "captured")
    found = str(get("/admin/audit?limit=100").json)
    assert reviewed in found
    assert "spoke to the holder" in found
    assert captured not in found


def test_results_need_the_scope_of_outcomes(start_server, shop_home, ask, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    scopes = ("score", "read", "outcomes")
    keys = {one: create_key(Settings(home=home), one, one, "never", None, None).key for one in scopes}
    server = start_server(home, {"SENTINEL_AUTH": "required"})
    path, body = "/v1/decisions/x/result", {"result": "captured"}
    statuses = {one: ask(server.port, "POST", path, body, authorization=f"Bearer {keys[one]}").status for one in scopes}
    assert statuses == {"score": 403, "read": 403, "outcomes": 404}
    assert ask(server.port, "POST", path, body).status == 401


def test_results_outlast_a_kill(start_server, shop_home, ask):
    server = start_server(shop_home)
    names = [uuid.uuid4().hex for _ in range(3)]
    for name in names:
        payment = {"transaction_id": name, "event_time": WHEN, "amount": 5, "card": "c", "shop": "s"}
        assert ask(server.port, "POST", "/v1/score", payment).status == 200
        assert ask(server.port, "POST", f"/v1/decisions/{name}/result", {"result": "captured"}).status == 200
    server.kill()
    server.start()
    for name in names:
        assert ask(server.port, "GET", f"/v1/decisions/{name}").json["state"] == "captured"
        again = ask(server.port, "POST", f"/v1/decisions/{name}/result", {"result": "captured"})
        assert (again.status, again.json["replayed"]) == (200, True)
