"""A case on one page: what it is, why, all its payments, what was done; and everything that people do with it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from sentinel.errors import SentinelError
from sentinel.events.times import clock_us
from sentinel.transport.access.scopes import ROLES, Scope, opened_by
from sentinel.transport.console.case_words import as_seen, said_of, sign_in_words
from sentinel.transport.console.drawing import page
from sentinel.transport.console.feature_words import with_words, words_of
from sentinel.transport.console.pages.cases import for_person
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Server, path_of
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People

UNDO_S = 10
"""How long one may take back what was just decided with one key."""

_ACTS = {"take", "release", "hand-over", "escalate", "notes", "links", "decide", "close", "reopen"}
_ESCALATES_TO = tuple(role for role, scopes in ROLES.items() if Scope.CASES in opened_by(scopes))
_Text = Annotated[str, Form(max_length=20_000)]


def one_case_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/cases/{number}`, and the acts below it."""
    router = APIRouter()

    @router.get("/cases/{number}")
    def case(request: Request, number: int) -> Response:
        people.note(by_person(request, "look at a case", str(number)), clock_us())
        found = server.get(path_of("v1", "cases", str(number))).json
        person, now = request.state.session.person, datetime.now(UTC)
        shown = as_seen(found, now.isoformat())
        is_mine = shown["holder"] == person.name
        worst = max(found["transactions"], key=_weight) if found["transactions"] else None
        why = _why(server, stored, worst)
        values: dict[str, Any] = {
            "one": shown, "worst": worst, **why, "me": person.name, "is_mine": is_mine,
            "may_work": Scope.CASES in person.scopes, "undo_s": _undo_s(shown, person.name, now),
            "events": [{**event, "said": said_of(event)} for event in reversed(found["history"])],
            "notes": [event for event in found["history"] if event["what"] == "noted"],
            "links": [event for event in found["history"] if event["what"] == "linked"],
            "names": [one.name for one in people.everyone() if Scope.CASES in one.scopes and one.name != person.name],
            "roles": [role for role in _ESCALATES_TO if role != person.role],
            "is_work": shown["state"] not in ("decided", "closed"),
            "common": {one["case"]: _in_common(one, why["features"]) for one in found["similar"]},
            "currency": stored.currency(),
            "can_decide": shown["state"] in ("open", "reopened", "escalated") or is_mine,
        }  # fmt: skip
        return page(request, "case.html", values)

    @router.post("/cases/{number}/{act}")
    def do(
        request: Request, number: int, act: str, version: _Text = "", outcome: _Text = "", text: _Text = "",
        address: _Text = "", title: _Text = "", to: _Text = "", reason: _Text = "",
    ) -> Response:  # fmt: skip
        """What the server is asked to do with a case; then the case is shown as it is."""
        given = {
            "outcome": outcome, "text": text, "address": address, "title": title, "to": to, "reason": reason,
        }  # fmt: skip
        body = {name: value for name, value in given.items() if value} | for_person(request)
        if version.isdecimal() and act not in ("notes", "links"):
            body["version"] = int(version)
        if act not in _ACTS:
            act = "nothing"  # which the server says
        server.post(path_of("v1", "cases", str(number), act), json.dumps(body).encode())
        return Response(headers={"hx-redirect": f"/cases/{number}"})

    return router


def _weight(payment: Mapping[str, Any]) -> float:
    """The payment that a case is shown by is the one that may lose most."""
    return float(payment["fraud_probability"]) * abs(float(payment["amount"] or 0))


def _undo_s(case: Mapping[str, Any], me: str, now: datetime) -> int:
    """For how many seconds a decision of one's own may still be taken back with one key."""
    if case["decided_by"] != me or case["decided_at"] is None:
        return 0
    past_s = (now - datetime.fromisoformat(case["decided_at"])).total_seconds()
    return max(int(UNDO_S - past_s), 0)


def _in_common(similar: Mapping[str, Any], features: Mapping[str, str]) -> list[str]:
    return [sign_in_words(sign, features) for sign in similar["shared"]]


def _why(server: Server, stored: Stored, worst: Mapping[str, Any] | None) -> dict[str, Any]:
    """The decision that a case is shown by, with its reasons in words; nothing where it cannot be found any more."""
    nothing: dict[str, Any] = {"decision": None, "reasons": [], "transaction": {}, "schema": None, "features": {}}
    if worst is None:
        return nothing
    try:
        at = path_of("v1", "decisions", worst["transaction_id"]) + f"?position={worst['position']}"
        found = server.get(at).json
        manifest = stored.manifest(found["model_version"])
    except SentinelError:  # the log no longer has it, or the model is gone: the case itself is here
        return nothing
    transaction = found["transaction"] if isinstance(found["transaction"], dict) else {}
    features = {one.name: manifest.reasons.get(one.name) or words_of(one) for one in manifest.plan.features}
    return {
        "decision": found, "reasons": with_words(found["why"], manifest), "transaction": transaction,
        "schema": manifest.plan.schema, "features": features,
    }  # fmt: skip
