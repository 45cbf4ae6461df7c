"""The description of the API: every call with its scope and every status that it may have."""

import json

import pytest

from sentinel.transport.access.scopes import needed_scope


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


def test_every_error_has_one_shape(description):
    for _, _, call in calls_of(description):
        for status, response in call["responses"].items():
            if status != "200":
                assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}


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
