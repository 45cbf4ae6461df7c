"""Models: the versions there are side by side, what each can do, its report, and which of them decides."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response

from sentinel.errors import InvalidInput, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.times import clock_us
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.feature_words import words_of
from sentinel.transport.console.model_figures import Gates, figures_of, in_force
from sentinel.transport.console.pages.experiment import experiment_pages
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.pages.retraining import retraining_pages
from sentinel.transport.console.pages.shadow import shadow_pages
from sentinel.transport.console.pages.thresholds import threshold_pages
from sentinel.transport.console.server import Refused, Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People

MOST_VERSIONS = 50
MOST_COMPARED = 4
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)
"""What the report of a training may do: it is a file beside the bundle, and runs nothing."""

_Version = Annotated[str, Form(max_length=64)]
_Reason = Annotated[str, Form(max_length=500)]


def model_pages(server: Server, stored: Stored, people: People, gates: Gates) -> APIRouter:
    """`/models` and all below it."""
    router = APIRouter()
    router.include_router(experiment_pages(server, stored, people))
    router.include_router(shadow_pages(server))
    router.include_router(threshold_pages(server, stored, people))
    router.include_router(retraining_pages(server))

    @router.get("/models")
    def models(request: Request) -> Response:
        versions = stored.registry.versions()
        state, problem = in_force(server)
        shown = [
            figures_of(stored, one, state) | {"gate": gates.of(one)} for one in reversed(versions[-MOST_VERSIONS:])
        ]
        values = {
            "models": shown, "state": state, "problem": problem, "hidden": max(len(versions) - MOST_VERSIONS, 0),
            "most": MOST_COMPARED,
        }  # fmt: skip
        return page(request, "models.html", values)

    @router.get("/models/compare")
    def compare(request: Request, version: Annotated[list[str] | None, Query()] = None) -> Response:
        chosen = list(dict.fromkeys(version or ()))
        if not 2 <= len(chosen) <= MOST_COMPARED:
            raise InvalidInput(f"Choose two to {MOST_COMPARED} versions, on the page Models")
        state, _ = in_force(server)
        shown = [figures_of(stored, _known(stored, one), state) | {"gate": gates.of(one)} for one in chosen]
        return page(request, "model_compare.html", {"models": shown})

    @router.get("/models/{version}")
    def model(request: Request, version: str) -> Response:
        manifest = stored.manifest(_known(stored, version))
        state, _ = in_force(server)
        words = {one.name: manifest.reasons.get(one.name) or words_of(one) for one in manifest.plan.features}
        values = {
            "one": figures_of(stored, version, state), "manifest": manifest, "words": words, "gate": gates.of(version),
            "has_report": stored.registry.report_path(version).is_file(),
        }  # fmt: skip
        return page(request, "model.html", values)

    @router.get("/models/{version}/report")
    def report(version: str) -> Response:
        path = stored.registry.report_path(_known(stored, version))
        if not path.is_file():
            raise NotFound(f"There is no report of {quoted(version, 80)}; sentinel models report makes one")
        return Response(path.read_bytes(), media_type="text/html", headers={"content-security-policy": REPORT_POLICY})

    @router.post("/models/promote")
    def promote(request: Request, version: _Version = "", because: _Reason = "") -> Response:
        body = {"version": version} | ({"forced_because": because} if because.strip() else {})
        try:
            return _done(request, "promote", version, "/admin/reload", body)
        except Refused as error:
            if error.status != 409 or because.strip():
                raise
            refused = {"version": version, "said": str(error), "to": "/models/promote"}
            return part(request, "model_refused.html", refused, 409)

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


def _known(stored: Stored, version: str) -> str:
    """The version, if there is one of this name. Raises NotFound."""
    if version not in stored.registry.versions():
        raise NotFound(f"There is no model {quoted(version, 80)}; the page Models shows those there are")
    return version
