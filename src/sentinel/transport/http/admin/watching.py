"""Admin calls: the shadow, and drift."""

from contextlib import closing
from pathlib import Path

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import NotFound
from sentinel.record.views.sqlite import FILE as VIEW_FILE
from sentinel.record.views.sqlite import SqliteView
from sentinel.review.shadow_report import ShadowReport, shadow_report
from sentinel.review.shadow_scores import FILE as SHADOW_FILE
from sentinel.review.shadow_scores import ShadowScores
from sentinel.shadow.supervisor import ShadowStatus
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.bodies import VERSION, read_as, shown_body
from sentinel.transport.http.replies import ok


class VersionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a version."""

    version: VERSION


def add_watching(router: APIRouter, changes: Changes) -> None:
    """A model that is only watched, and how the transactions drift."""
    api, watch = changes.api, changes.watch

    @router.post("/shadow/start", openapi_extra=shown_body(VersionBody))
    async def start_shadow(request: Request) -> Response:
        """Score every transaction with this version too, beside the live path; it decides nothing."""
        wanted = (await read_as(request, VersionBody)).version
        api.deciding().ready_engine()
        await changes.bring_in(
            request, wanted, lambda deployment: msgspec.structs.replace(deployment, shadow=wanted), beside_champion=True
        )
        return ok({"status": "ok", "shadow": wanted})

    @router.post("/shadow/stop")
    async def stop_shadow(request: Request) -> Response:
        """No shadow any more; what it scored stays."""
        before, _ = await changes.make(request, lambda deployment: msgspec.structs.replace(deployment, shadow=None))
        return ok({"status": "ok", "stopped": before.shadow})

    @router.get("/shadow/status")
    async def shadow_status() -> Response:
        """Whether it runs, how far it is, and what went wrong."""
        if watch.shadow is None:
            return ok(ShadowStatus())
        watch.shadow.follow(watch.rollout.deployment.shadow)  # the watch may be a second behind
        return ok(watch.shadow.status())

    @router.get("/shadow/report")
    async def shadow_report() -> Response:
        """Champion and shadow on the same transactions: agreement, scores, what it would have decided, precision."""
        api.deciding().ready_engine()
        return ok(await run_in_threadpool(_shadow_report, api.settings.home))

    @router.get("/drift")
    async def drift() -> Response:
        """Live transactions against the training history, by feature and for the score."""
        return ok(await watch.drift())

    @router.post("/drift/reset")
    async def reset_drift(request: Request) -> Response:
        """Reset the drift window."""
        await changes.note(request, {}, {"drift": "begun anew"})
        await watch.reset_drift()
        return ok({"status": "ok"})


def _shadow_report(home: Path) -> ShadowReport:
    if not (home / SHADOW_FILE).exists():
        raise NotFound("No shadow has scored anything here yet; POST /admin/shadow/start begins with one")
    with closing(ShadowScores(home / SHADOW_FILE)) as scores, closing(SqliteView(home / VIEW_FILE)) as view:
        return shadow_report(view, scores)
