"""Retrainings: which there were, step by step, and why one was refused or failed."""

from typing import Any

from fastapi import APIRouter, Request, Response

from sentinel.transport.console.drawing import page
from sentinel.transport.console.server import Server

STEPS = ("collect", "train", "gate", "register", "shadow")
_RUNS = 50


def retraining_pages(server: Server) -> APIRouter:
    """`/models/retraining`."""
    router = APIRouter()

    @router.get("/models/retraining")
    def retraining(request: Request) -> Response:
        told = server.get(f"/admin/retrainings?limit={_RUNS}").json
        runs = [_shown(one) for one in told["runs"]]
        return page(request, "retraining.html", {"told": told, "runs": runs, "steps": STEPS})

    return router


def _shown(run: dict[str, Any]) -> dict[str, Any]:
    found = {one["name"]: one for one in run["steps"]}
    judged = found.get("gate", {}).get("found", {})
    ended = run["ended"]
    word, kind = (
        ("in the shadow", "good") if ended == "shadow" else ("refused", "careful") if ended else ("not done", "info")
    )
    if run["failed"] is not None and ended is None:
        word, kind = "failed", "bad"
    return {
        "name": run["name"], "begun_at": run["begun_at"], "word": word, "kind": kind, "steps": found,
        "seconds": sum(one["seconds"] for one in run["steps"]), "failed": run["failed"], "asked": run["asked"],
        "failures": judged.get("failures", []), "compared": judged.get("compared"), "champion": judged.get("champion"),
        "version": found.get("register", {}).get("found", {}).get("version"),
        "warm": found.get("train", {}).get("found", {}).get("warm_start"),
    }  # fmt: skip
