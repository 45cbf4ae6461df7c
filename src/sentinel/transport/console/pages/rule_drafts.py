"""Drafts of rules: what they change, what they would have done, and how they come in force and out of it."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Form, Request, Response

from sentinel.errors import InvalidInput
from sentinel.events.times import bound_us, clock_us, iso
from sentinel.policy.rules.book import text_of
from sentinel.policy.sample import DAY_US
from sentinel.transport.console.books import differences, draft_of, drafts, in_force
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Server
from sentinel.transport.console.trials import Trial, Trials
from sentinel.transport.people.people import People

_Note = Annotated[str, Form(max_length=500)]
_Moment = Annotated[str, Form(max_length=40)]
_Number = Annotated[int, Form(ge=0)]
USUAL_DAYS = 28
_LATER = 100  # drafts that are looked at for later editions


def draft_pages(server: Server, people: People) -> APIRouter:
    """`/rules/drafts/{number}`, its backtests, publishing and taking back."""
    router, trials = APIRouter(), Trials(server)

    @router.get("/rules/drafts/{number}")
    def draft(request: Request, number: int) -> Response:
        one, now = draft_of(server, number), in_force(server)
        later = [other for other in drafts(server, _LATER) if other["after"] == number]
        trial, today = trials.newest_of(number), clock_us() // DAY_US * DAY_US
        values = {
            "one": one, "text": text_of(one.book), "in_force": now, "later": later,
            "changed": differences(server, number), "usual_from": iso(today - USUAL_DAYS * DAY_US)[:10], "trial": trial,
            **_drawn(trial, trials),
        }  # fmt: skip
        return page(request, "rule_draft.html", values)

    @router.post("/rules/drafts/{number}/backtest")
    def backtest(request: Request, number: int, since: _Moment = "", until: _Moment = "") -> Response:
        asked = {name: iso(bound_us(one.strip(), f"$.{name}"))
                 for name, one in (("from", since), ("until", until)) if one.strip()}  # fmt: skip
        people.note(by_person(request, "backtest rules", f"draft {number}"), clock_us())
        trial = trials.begin(number, msgspec.to_builtins(draft_of(server, number).book), asked)
        return part(request, "rule_trial.html", _drawn(trial, trials) | {"trial": trial})

    @router.get("/rules/trials/{trial_id}")
    def trial(request: Request, trial_id: str) -> Response:
        found = trials.named(trial_id)
        return part(request, "rule_trial.html", _drawn(found, trials) | {"trial": found})

    @router.post("/rules/publish")
    def publish(request: Request, draft: _Number, seen: _Number, note: _Note = "") -> Response:
        if not note.strip():
            raise InvalidInput("Say why, in a few words: whoever looks at it later will want to know", "$.note")
        people.note(by_person(request, "publish rules", f"draft {draft}"), clock_us())
        body: dict[str, Any] = {"draft": draft, "note": note, "in_force": seen}
        tried = trials.newest_of(draft)
        if tried is not None and tried.found is not None:
            body["bands"] = {one["name"]: one["band"] for one in tried.found["rules"] if one["band"] is not None}
        server.tell("/v1/rules/apply", body, request.state.session.person.name)
        return Response(status_code=200, headers={"hx-redirect": "/rules"})

    @router.post("/rules/rollback")
    def rollback(request: Request, seen: _Number, note: _Note = "") -> Response:
        people.note(by_person(request, "roll rules back", f"from draft {seen}"), clock_us())
        body = {"note": note.strip() or f"back from draft {seen}", "in_force": seen}
        server.tell("/v1/rules/rollback", body, request.state.session.person.name)
        return Response(status_code=200, headers={"hx-redirect": "/rules"})

    return router


def _drawn(trial: Trial | None, trials: Trials) -> dict[str, Any]:
    """What the part of a backtest shows: how far it is, or what came of it."""
    if trial is None or trial.runs:
        return {"progress": trials.progress() if trial is not None else None, "found": None, "plot": None}
    found = trial.found
    if found is None:
        return {"progress": None, "found": None, "plot": None}
    was, new = found["was"]["days"], found["would_be"]["days"]
    plot = {
        "days": [one["date"] for one in was],
        "review": {"was": [one["review"] for one in was], "would": [one["review"] for one in new]},
        "block": {"was": [one["block"] for one in was], "would": [one["block"] for one in new]},
        "rules": {one["name"]: one["by_day"] for one in found["rules"][:8]},
    }
    return {"progress": None, "found": found, "plot": plot}
