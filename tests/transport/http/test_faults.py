"""Faults of ours: the client hears of them in the shape of all errors, and nothing of what is inside."""

import asyncio
import json
from concurrent.futures import Future

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from sentinel.errors import StorageProblem
from sentinel.record.revoking import TakenBack
from sentinel.transport.http import revocations
from sentinel.transport.http.replies import STATUS
from sentinel.transport.http.routes import tell_faults


async def break_down(_request):
    raise ZeroDivisionError("the secret of 4111111111111111")


def answer_of(app):
    """The response to GET /, and what was raised behind it."""
    sent, raised = [], None

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1"}
    try:
        asyncio.run(app(scope, receive, send))
    except ZeroDivisionError as error:
        raised = error
    return sent[0], json.loads(sent[1]["body"]), raised


def test_a_fault_inside_is_a_500_like_all_errors_and_tells_nothing():
    app = Starlette(routes=[Route("/", break_down)])
    tell_faults(app)
    begun, body, raised = answer_of(app)
    assert (begun["status"], body["status"]) == (500, 500)
    assert (b"content-type", b"application/json") in begun["headers"]
    assert "the server's log says" in body["error"]
    assert "secret" not in str(body)
    assert raised is not None, "which is how the log has it"


def test_a_server_that_is_too_busy_to_take_back_outcomes_says_to_run_it_again(monkeypatch):
    monkeypatch.setattr(revocations, "_PATIENCE_S", 0.05)
    never: Future[TakenBack] = Future()
    with pytest.raises(StorageProblem, match="run the revocation again"):
        revocations._result_of(never)
    assert STATUS[StorageProblem] == 503
