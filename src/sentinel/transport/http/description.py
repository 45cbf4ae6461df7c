"""The description of the API (`/openapi.json`): who may make each call, and every status that it may have."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from sentinel.policy.thresholds import ACTIONS
from sentinel.transport.access.scopes import MEANING, SAFE_METHODS, Scope, needed_scope
from sentinel.transport.http.addresses import address_below
from sentinel.transport.http.replies import JSON, NDJSON

_KEY = "key"
_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"status": {"type": "integer"}, "error": {"type": "string"}, "path": {"type": "string"}},
    "required": ["status", "error"],
}
_MEANING = {
    400: "The request, or what it asks for, cannot be taken as it is",
    401: "The key is missing, wrong, expired or revoked",
    403: "The key lacks the scope; or another host, or a page of others asks",
    404: "Nothing is there under that name",
    408: "The head or the body took too long to arrive",
    409: "It does not fit what is stored or in force",
    413: "The body is too large",
    415: "The body is of another type, or encoded",
    422: "A value cannot be accepted; `path` names it",
    429: "Too many: `retry-after` says when to come again",
    431: "The head is too large",
    503: "Not ready, or too much waits, or too many connect; the text says whether anything was stored",
}
_ALWAYS = (400, 408, 431, 503)  # what no reader of HTTP can read, or waits for; one connection too many
_GUARDED = (401, 403, 429)
_WRITES = (413, 415)
_MORE: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("post", "/v1/score"): (409, 422),
    ("post", "/predict"): (422,),
    ("post", "/v1/outcomes"): (404, 409, 422),
    ("get", "/v1/decisions"): (422,),
    ("get", "/v1/decisions/{transaction_id}"): (404, 422),
    ("post", "/admin/erase"): (409, 422),
    ("get", "/admin/audit"): (404, 422),
    ("get", "/admin/shadow/report"): (404,),
}

_TEXT, _NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}
_PAGE = {"limit": {"type": "integer", "minimum": 1, "maximum": 500}}
_ASKED: Mapping[str, dict[str, Any]] = {  # by path: what may be asked in a query, which no signature says
    "/v1/decisions": {
        "from": _TEXT, "to": _TEXT, "action": {"enum": [str(one) for one in ACTIONS]}, "model": _TEXT,
        "degraded": {"type": "boolean"}, **_PAGE, "cursor": _TEXT,
    },
    "/admin/audit": {**_PAGE, "cursor": _NUMBER},
}  # fmt: skip
_ID_OF_ANSWER = "$response.body#/transaction_id"
_DECISION: dict[str, Any] = {
    "operationRef": "#/paths/~1v1~1decisions~1{transaction_id}/get",
    "parameters": {"transaction_id": _ID_OF_ANSWER},
}
_OUTCOME: dict[str, Any] = {
    "operationRef": "#/paths/~1v1~1outcomes/post",
    "requestBody": {"transaction_id": _ID_OF_ANSWER, "is_fraud": True},
}
_LINKS: Mapping[str, dict[str, Any]] = {  # by path: where an answer leads
    "/v1/score": {"decision": _DECISION, "outcome": _OUTCOME},
    "/v1/outcomes": {"decision": _DECISION, "outcome": _OUTCOME},
    "/v1/decisions/{transaction_id}": {"outcome": _OUTCOME},
}


def describe(app: FastAPI, prefix: str) -> None:
    """Have the application describe itself so; its addresses begin with `prefix`."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(made(), prefix)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(description: dict[str, Any], prefix: str) -> dict[str, Any]:
    scopes = "; ".join(f"`{scope}`: {meaning}" for scope, meaning in MEANING.items())
    components = description.setdefault("components", {})
    components["schemas"] = {"Error": _ERROR}
    components["securitySchemes"] = {
        _KEY: {"type": "http", "scheme": "bearer", "description": f"A key of `sentinel keys create`. Scopes: {scopes}"}
    }
    for path, calls in description["paths"].items():
        for method, call in calls.items():
            _describe_call(call, method, path)
    description["paths"] = {address_below(prefix, path): calls for path, calls in description["paths"].items()}
    return description


def _describe_call(call: dict[str, Any], method: str, path: str) -> None:
    scope = needed_scope(method.upper(), path)
    statuses = {*_ALWAYS, *_more(method, path)}
    if method.upper() not in SAFE_METHODS:
        statuses |= {*_WRITES}
    if scope is not None:
        statuses |= {*_GUARDED}
        call["security"] = [{_KEY: [str(scope)]}]
        call["description"] = f"{call.get('description', '')}\n\n{_scope_line(scope)}".strip()
    else:
        statuses |= {403}  # another host
    if NDJSON in call.get("requestBody", {}).get("content", {}):
        call["responses"]["200"]["content"][NDJSON] = {"schema": {"type": "string"}}
    plain = path.replace(":path", "")
    call.setdefault("parameters", []).extend(
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in _ASKED.get(plain, {}).items()
    )
    if plain in _LINKS:
        call["responses"]["200"]["links"] = _LINKS[plain]
    found = {status: one for status, one in call["responses"].items() if status != "422"}
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    errors = {str(one): {"description": _MEANING[one], "content": error} for one in sorted(statuses)}
    call["responses"] = found | errors


def _scope_line(scope: Scope) -> str:
    return f"Needs the scope `{scope}`."


def _more(method: str, path: str) -> tuple[int, ...]:
    known = _MORE.get((method, path.replace(":path", "")))
    if known is not None:
        return known
    return (409,) if path.startswith("/admin") and method.upper() not in SAFE_METHODS else ()
