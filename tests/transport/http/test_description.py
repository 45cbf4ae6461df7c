"""The description of the API: every call with its scope and every status that it may have."""

import json
import re
from pathlib import Path
from urllib.parse import urlencode

import pytest

from sentinel.errors import (
    Conflict,
    Crowded,
    InvalidInput,
    LongHead,
    Malformed,
    NotFound,
    RateLimited,
    StorageProblem,
    TooLarge,
    TooSlow,
)  # fmt: skip
from sentinel.transport.access.scopes import needed_scope
from sentinel.transport.http.replies import STATUS


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home)


@pytest.fixture(scope="module")
def description(server, ask):
    return ask(server.port, "GET", "/openapi.json").json


def calls_of(description):
    return [(method, path, call) for path, calls in description["paths"].items() for method, call in calls.items()]


def test_every_call_names_its_scope(description):
    assert description["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for method, path, call in calls_of(description):
        scope = needed_scope(method.upper(), path)
        assert call.get("security") == (None if scope is None else [{"key": [scope]}])
        if scope is not None:
            assert {"401", "403", "429"} <= call["responses"].keys()
            assert f"`{scope}`" in call["description"]


def test_what_may_be_asked_of_a_list_is_described_and_taken(server, ask, description):
    asked = {
        "/v1/decisions": {"from": "0", "to": "2030-01-01", "action": "block", "model": "v1", "degraded": "true", "rule": "x", "state": "taken",
                          "limit": "9", "cursor": "ff", "least_amount": "1.5", "most_amount": "1e3"},
        "/admin/audit": {"limit": "9", "cursor": "0"}, "/v1/rules/drafts": {"limit": "9"},
        "/v1/rules/history": {"limit": "9"},
    }  # fmt: skip
    for path, values in asked.items():
        described = {one["name"] for one in description["paths"][path]["get"]["parameters"]}
        assert described == values.keys()
        assert ask(server.port, "GET", f"{path}?{urlencode(values)}").status == 200


def test_an_answer_leads_where_its_links_say(server, ask, description):
    followed = 0
    for _, _, call in calls_of(description):
        for link in call["responses"]["200"].get("links", {}).values():
            there, method = link["operationRef"].removeprefix("#/paths/").rsplit("/", 1)
            assert method in description["paths"][there.replace("~1", "/")], link
            followed += 1
    assert followed == 8
    payment = {"transaction_id": "led", "event_time": 1_738_400_000, "amount": 1, "card": "c", "shop": "s", "risk": 0}
    name = ask(server.port, "POST", "/v1/score", payment).json["transaction_id"]
    assert ask(server.port, "POST", "/v1/outcomes", {"transaction_id": name, "is_fraud": True}).status == 200
    assert ask(server.port, "GET", f"/v1/decisions/{name}").json["outcomes"][0]["is_fraud"] is True


def test_who_changes_their_mind_too_often_gets_what_is_described(server, ask, description):
    payment = {"transaction_id": "often", "event_time": 1_738_400_000, "amount": 1, "card": "c", "shop": "s", "risk": 0}
    assert ask(server.port, "POST", "/v1/score", payment).status == 200
    told = [{"transaction_id": "often", "is_fraud": n % 2 == 0} for n in range(17)]
    statuses = [ask(server.port, "POST", "/v1/outcomes", one).status for one in told]
    assert statuses == [200] * 16 + [409]
    assert "409" in description["paths"]["/v1/outcomes"]["post"]["responses"]


def test_every_error_has_one_shape(description):
    for _, _, call in calls_of(description):
        for status, response in call["responses"].items():
            if status not in ("200", "202"):
                assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}


def test_every_status_that_a_fault_has_is_described(description):
    """Those of what every call meets before it is read are there for every call."""
    described = {(path, status) for _, path, call in calls_of(description) for status in call["responses"]}
    assert set(map(str, STATUS.values())) <= {status for _, status in described}
    for fault in (Malformed, TooSlow, LongHead, Crowded):
        assert {path for path, status in described if status == str(STATUS[fault])} == description["paths"].keys()
    for fault in (Conflict, NotFound, InvalidInput, TooLarge, RateLimited, StorageProblem):
        assert ("/v1/outcomes", str(STATUS[fault])) in described


REQUESTS = [
    ("GET", "/v1/decisions/nothing"),
    ("GET", "/v1/decisions?limit=0"),
    ("POST", "/v1/score"),
    ("POST", "/predict"),
    ("POST", "/v1/outcomes"),
    ("POST", "/admin/ab/promote"),
    ("POST", "/admin/rollback"),
    ("POST", "/admin/reload"),
    ("GET", "/admin/audit?cursor=99999"),
    ("GET", "/admin/audit?limit=x"),
    ("GET", "/admin/shadow/report"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_what_comes_is_described(server, ask, description, method, path):
    answer = ask(server.port, method, path, {} if method == "POST" else b"")
    plain = path.partition("?")[0].replace("/nothing", "/{transaction_id}")
    described = description["paths"][plain][method.lower()]["responses"]
    assert str(answer.status) in described, answer
    for wrong in ({"content_type": "text/plain"}, {"origin": "null"}, {"content_encoding": "gzip"}):
        answer = ask(server.port, method, path, json.dumps({}).encode(), **wrong)
        assert str(answer.status) in described, (wrong, answer)


def test_the_page_of_serving_lists_every_admin_call(description):
    page = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
    table = page[page.index("| `GET /admin/version`") :].split("\n\n")[0]
    listed = {(method.lower(), path) for method, path in re.findall(r"`(GET|POST) (/admin/[^ `]+)", table)}
    assert listed == {(method, path) for method, path, _ in calls_of(description) if path.startswith("/admin/")}
