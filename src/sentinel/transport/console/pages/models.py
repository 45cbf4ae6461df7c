"""Models: the versions there are, what each can do, which of them decides, and which is only watched."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from sentinel.errors import BundleProblem, SentinelError
from sentinel.events.times import clock_us
from sentinel.transport.client import Unreachable
from sentinel.transport.console.drawing import page
from sentinel.transport.console.feature_words import words_of
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Refused, Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.console.words import number
from sentinel.transport.people.people import People

MOST_VERSIONS = 50
_Version = Annotated[str, Form(max_length=64)]
_Reason = Annotated[str, Form(max_length=500)]


def model_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/models`, one model, and what an operator does with them."""
    router = APIRouter()

    @router.get("/models")
    def models(request: Request) -> Response:
        versions = stored.registry.versions()
        state, problem = _state(server)
        shown = [_shown(stored, one, state) for one in reversed(versions[-MOST_VERSIONS:])]
        values = {"models": shown, "state": state, "problem": problem, "hidden": max(len(versions) - MOST_VERSIONS, 0)}
        return page(request, "models.html", values)

    @router.get("/models/{version}")
    def model(request: Request, version: str) -> Response:
        manifest = stored.manifest(version)
        state, _ = _state(server)
        words = {one.name: manifest.reasons.get(one.name) or words_of(one) for one in manifest.plan.features}
        values = {"one": _shown(stored, version, state), "manifest": manifest, "words": words}
        return page(request, "model.html", values)

    @router.post("/models/promote")
    def promote(request: Request, version: _Version = "", because: _Reason = "") -> Response:
        body = {"version": version} | ({"forced_because": because} if because.strip() else {})
        return _done(request, "promote", version, "/admin/reload", body)

    @router.post("/models/rollback")
    def rollback(request: Request) -> Response:
        return _done(request, "roll back", "", "/admin/rollback", {})

    @router.post("/models/shadow")
    def shadow(request: Request, version: _Version = "") -> Response:
        if version:
            return _done(request, "start the shadow", version, "/admin/shadow/start", {"version": version})
        return _done(request, "stop the shadow", "", "/admin/shadow/stop", {})

    def _done(request: Request, what: str, asked: str, path: str, body: Any) -> Response:
        """Have the server do it: it writes its own entry; ours says who it was."""
        people.note(by_person(request, what, asked), clock_us())
        server.tell(path, body)
        return Response(status_code=200, headers={"hx-redirect": "/models"})

    return router


def _state(server: Server) -> tuple[dict[str, Any], str | None]:
    """What is in force, and what is wrong with the server where it does not say."""
    try:
        version, shadow = server.get("/admin/version").json, server.get("/admin/shadow/status").json
    except SentinelError as error:
        return {"champion": None, "challenger": None, "shadow": None, "status": None, "report": None}, str(error)
    found = {
        "champion": version["version_a"], "challenger": version.get("version_b"), "shadow": version["shadow"],
        "status": shadow, "report": None,
    }  # fmt: skip
    if version["shadow"]:
        try:
            found["report"] = server.get("/admin/shadow/report").json
        except (Refused, Unreachable):
            return found, None  # it has scored nothing yet
    return found, None


def _shown(stored: Stored, version: str, state: Mapping[str, Any]) -> dict[str, Any]:
    roles = [role for role in ("champion", "challenger", "shadow") if state[role] == version]
    try:
        manifest = stored.manifest(version)
    except BundleProblem as error:
        return {"version": version, "roles": roles, "problem": str(error)}
    metrics = manifest.metrics or {}
    return {
        "version": version, "roles": roles, "problem": None, "created_at": manifest.created_at,
        "detector": manifest.detector, "features": len(manifest.plan.names), "history": manifest.history,
        "learner": str(manifest.training.get("learner", {}).get("name", "")) if manifest.training else "",
        "average_precision": _estimate(metrics.get("average_precision")), "auc": _estimate(metrics.get("auc_roc")),
        "recall": _estimate(metrics.get("recall_at_1pct_fpr")), "review": metrics.get("review") or {},
        "block": metrics.get("block"), "thresholds": manifest.thresholds, "tested": metrics.get("transactions"),
    }  # fmt: skip


def _estimate(found: Any) -> str:
    """A figure with the interval that it lies in."""
    if not isinstance(found, Mapping) or found.get("value") is None:
        return "\u2013"
    low, high = found.get("low"), found.get("high")
    return number(found["value"], 3) + (f" ({number(low, 3)} to {number(high, 3)})" if low is not None else "")
