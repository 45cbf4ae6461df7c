"""The description of the API (`/openapi.json`): who may make each call, and every status that it may have."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastapi import FastAPI

from sentinel.policy.results import State
from sentinel.policy.thresholds import Action
from sentinel.review.case_store.queue import STATES
from sentinel.serve.batch import Decision
from sentinel.transport.access.scopes import MEANING, SAFE_METHODS, Scope, needed_scope
from sentinel.transport.http.addresses import address_below
from sentinel.transport.http.cases.asked import MOST_DAYS
from sentinel.transport.http.examples import Example
from sentinel.transport.http.replies import JSON, NDJSON

_KEY = "key"
_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"status": {"type": "integer"}, "error": {"type": "string"}, "path": {"type": "string"}},
    "required": ["status", "error"],
}
_OF_ANSWER, _ANSWERS = msgspec.json.schema_components((Decision,), ref_template="#/components/schemas/{name}")
_ANSWER = {
    "oneOf": [*_OF_ANSWER, {"type": "array", "items": {"oneOf": [*_OF_ANSWER, {"$ref": "#/components/schemas/Error"}]}}]
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
    ("post", "/api/v1/transactions"): (409, 422),
    ("post", "/predict"): (422,),
    ("post", "/v1/outcomes"): (404, 409, 422),
    ("post", "/v1/events"): (404, 409, 422),
    ("get", "/v1/events/{event_id}"): (404, 422),
    ("post", "/v1/tables/{name}"): (404, 422),
    ("get", "/v1/tables/{name}/{key}"): (404, 422),
    ("post", "/v1/rules/check"): (422,),
    ("post", "/v1/rules/backtest"): (409, 422),
    ("get", "/v1/rules/drafts"): (422,),
    ("post", "/v1/rules/drafts"): (409, 422),
    ("get", "/v1/rules/drafts/{number}"): (404, 422),
    ("get", "/v1/rules/diff"): (404, 422),
    ("get", "/v1/rules/figures"): (422,),
    ("get", "/v1/rules/backtest"): (),
    ("post", "/v1/lists/{name}/look-up"): (404, 422),
    ("post", "/v1/rules/apply"): (404, 409, 422),
    ("post", "/v1/rules/rollback"): (409, 422),
    ("get", "/v1/rules/history"): (422,),
    ("post", "/v1/rules/snooze"): (404, 422),
    ("get", "/v1/lists/{name}"): (404, 422),
    ("post", "/v1/lists/{name}"): (404, 409, 422),
    ("get", "/v1/lists/{name}/{value}"): (404, 422),
    ("get", "/v1/cases"): (422,),
    ("post", "/v1/cases"): (404, 409, 422),
    ("post", "/v1/cases/next"): (404, 422),
    ("get", "/v1/cases/figures"): (422,),
    ("get", "/v1/cases/{number}"): (404, 422),
    ("post", "/v1/cases/{number}/take"): (404, 409, 422),
    ("post", "/v1/cases/{number}/release"): (404, 409, 422),
    ("post", "/v1/cases/{number}/hand-over"): (404, 409, 422),
    ("post", "/v1/cases/{number}/escalate"): (404, 409, 422),
    ("post", "/v1/cases/{number}/notes"): (404, 409, 422),
    ("post", "/v1/cases/{number}/links"): (404, 409, 422),
    ("post", "/v1/cases/{number}/decide"): (404, 409, 422),
    ("post", "/v1/cases/{number}/close"): (404, 409, 422),
    ("post", "/v1/cases/{number}/reopen"): (404, 409, 422),
    ("get", "/v1/business"): (422,),
    ("get", "/v1/decisions"): (422,),
    ("post", "/v1/decisions/search"): (422,),
    ("get", "/v1/decisions/{transaction_id}"): (404, 422),
    ("post", "/v1/decisions/{transaction_id}/result"): (404, 409, 422),
    ("get", "/v1/entities/{key}/{value}"): (404, 422),
    ("get", "/predict/{transaction_id}"): (404, 409, 422),
    ("get", "/v1/features/{key}/{value}"): (404, 422),
    ("post", "/admin/erase"): (409, 422),
    ("get", "/admin/audit"): (404, 422),
    ("get", "/admin/shadow/report"): (404,),
    ("get", "/admin/drift/{feature}"): (404, 422),
    ("get", "/admin/thresholds/curve"): (422,),
    ("get", "/admin/retrainings"): (422,),
    ("get", "/admin/notifications"): (404, 422),
    ("post", "/admin/notifications/{number}/retry"): (404, 409, 422),
}

_TEXT, _NUMBER, _AMOUNT = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "number"}
_DATE = {"type": "string", "format": "date"}
_PAGE = {"limit": {"type": "integer", "minimum": 1, "maximum": 500}}
_ASKED: Mapping[str, dict[str, Any]] = {  # by path: what may be asked in a query, which no signature says
    "/v1/decisions": {
        "from": _TEXT, "to": _TEXT, "action": {"enum": [str(one) for one in Action]}, "model": _TEXT,
        "degraded": {"type": "boolean"}, "least_amount": _AMOUNT, "most_amount": _AMOUNT, "rule": _TEXT,
        "state": {"enum": [str(one) for one in State]}, **_PAGE, "cursor": _TEXT,
    },
    "/v1/cases": {
        "state": {"enum": list(STATES)}, "holder": _TEXT, "priority": _TEXT, "overdue": {"type": "boolean"},
        "transaction_id": _TEXT, **_PAGE, "cursor": _TEXT,
    },
    "/v1/cases/figures": {"days": {"type": "integer", "minimum": 1, "maximum": MOST_DAYS}},
    "/v1/business": {
        "from": _DATE, "to": _DATE, "each": {"enum": ["day", "week", "month"]}, "by": _TEXT, "value": _TEXT,
        "source": _TEXT,
    },
    "/v1/entities/{key}/{value}": {"from": _TEXT, "to": _TEXT, **_PAGE},
    "/admin/audit": {**_PAGE, "cursor": _NUMBER},
    "/admin/thresholds/curve": {"version": _TEXT, "from": _TEXT, "until": _TEXT},
    "/admin/retrainings": {"limit": {"type": "integer", "minimum": 1, "maximum": 100}},
    "/admin/notifications": _PAGE,
    "/v1/rules/drafts": {"limit": {"type": "integer", "minimum": 1, "maximum": 100}},
    "/v1/rules/figures": {"days": {"type": "integer", "minimum": 1, "maximum": 92}},
    "/v1/rules/diff": {"draft": _NUMBER, "against": _NUMBER},
    "/v1/rules/history": {"limit": {"type": "integer", "minimum": 1, "maximum": 100}},
    "/v1/lists/{name}": {**_PAGE, "cursor": _NUMBER},
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
_EVENT: dict[str, Any] = {
    "operationRef": "#/paths/~1v1~1events~1{event_id}/get",
    "parameters": {"event_id": "$response.body#/event_id"},
}
_LINKS: Mapping[str, dict[str, Any]] = {  # by path: where an answer leads
    "/v1/score": {"decision": _DECISION, "outcome": _OUTCOME},
    "/api/v1/transactions": {"decision": _DECISION, "outcome": _OUTCOME},
    "/v1/outcomes": {"decision": _DECISION, "outcome": _OUTCOME},
    "/v1/decisions/{transaction_id}": {"outcome": _OUTCOME},
    "/v1/events": {"event": _EVENT},
}


def describe(app: FastAPI, prefix: str, example: Callable[[], Example | None]) -> None:
    """Have the application describe itself so; its addresses begin with `prefix`.

    `example` is asked for anew each time, and says None while nothing decides.
    """
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(made(), prefix)
        shown = example()
        return app.openapi_schema if shown is None else _with_example(app.openapi_schema, prefix, shown)

    app.openapi = openapi  # type: ignore[method-assign]


def _described(description: dict[str, Any], prefix: str) -> dict[str, Any]:
    scopes = "; ".join(f"`{scope}`: {meaning}" for scope, meaning in MEANING.items())
    components = description.setdefault("components", {})
    components["schemas"] = {"Error": _ERROR, **_ANSWERS}
    components["securitySchemes"] = {
        _KEY: {"type": "http", "scheme": "bearer", "description": f"A key of `sentinel keys create`. Scopes: {scopes}"}
    }
    for path, calls in description["paths"].items():
        for method, call in calls.items():
            _describe_call(call, method, path)
    description["paths"] = {address_below(prefix, path): calls for path, calls in description["paths"].items()}
    return description


def _with_example(description: dict[str, Any], prefix: str, example: Example) -> dict[str, Any]:
    """The description with the transaction of the detector, what is answered to it, and what is told beside it."""
    paths, schemas = description["paths"], description["components"]["schemas"]

    def call(path: str) -> dict[str, Any]:
        shown: dict[str, Any] = paths[address_below(prefix, path)]["post"]
        return shown

    one = {"$ref": "#/components/schemas/Transaction"}
    transactions = {"oneOf": [one, {"type": "array", "items": one}]}
    bodies = {JSON: {"schema": transactions, "example": example.transaction}, NDJSON: _lines(example.transaction)}
    answered = {JSON: {"schema": _ANSWER, "example": example.answer}}
    changed = {
        "/v1/score": _with_line(_with_bodies(call("/v1/score"), bodies, answered), example.curl),
        "/api/v1/transactions": _with_bodies(call("/api/v1/transactions"), bodies, {}),
        "/predict": _with_bodies(call("/predict"), {JSON: {"example": example.vector}}, {}),
        "/v1/outcomes": _with_line(
            _with_bodies(call("/v1/outcomes"), _body(example.outcome), {}), example.outcome_curl
        ),
    }
    if example.event is None or example.event_curl is None:
        none = {"description": f"{call('/v1/events')['description']}\n\nThis detector declares no kind of events."}
        changed["/v1/events"] = call("/v1/events") | none
    else:
        changed["/v1/events"] = _with_line(
            _with_bodies(call("/v1/events"), _body(example.event), {}), example.event_curl
        )
    replaced = {address_below(prefix, path): {"post": one} for path, one in changed.items()}
    components = {**description["components"], "schemas": {**schemas, "Transaction": example.shape}}
    described = {path: {**calls, **replaced.get(path, {})} for path, calls in paths.items()}
    return {**description, "paths": described, "components": components}


def _body(example: dict[str, Any]) -> dict[str, Any]:
    return {JSON: {"example": example}, NDJSON: _lines(example)}


def _lines(example: dict[str, Any]) -> dict[str, Any]:
    return {"example": json.dumps(example) + "\n"}


def _with_line(call: dict[str, Any], curl: str) -> dict[str, Any]:
    """The call with a line for a shell that makes it."""
    return call | {"description": f"{call['description']}\n\n```\n{curl}\n```"}


def _with_bodies(call: dict[str, Any], asked: dict[str, Any], answered: dict[str, Any]) -> dict[str, Any]:
    """The call with more said of its body, and of that of its answer, by media type."""
    body, responses = call["requestBody"], call["responses"]
    return {
        **call,
        "requestBody": {**body, "content": _merged(body["content"], asked)},
        "responses": {
            **responses,
            "200": {**responses["200"], "content": _merged(responses["200"]["content"], answered)},
        },
    }


def _merged(content: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {media: {**one, **more.get(media, {})} for media, one in content.items()}


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
    call.setdefault("parameters", []).extend(
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in _ASKED.get(path, {}).items()
    )
    if path in _LINKS:
        call["responses"]["200"]["links"] = _LINKS[path]
    found = {status: one for status, one in call["responses"].items() if status != "422"}
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    errors = {str(one): {"description": _MEANING[one], "content": error} for one in sorted(statuses)}
    call["responses"] = found | errors


def _scope_line(scope: Scope) -> str:
    return f"Needs the scope `{scope}`."


def _more(method: str, path: str) -> tuple[int, ...]:
    known = _MORE.get((method, path))
    if known is not None:
        return known
    return (409,) if path.startswith("/admin") and method.upper() not in SAFE_METHODS else ()
