"""Admin calls: the shadow, and drift."""

import time
from contextlib import closing
from pathlib import Path

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.times import SECOND_US, clock_us, duration_us, iso
from sentinel.record.views.place import ViewPlace
from sentinel.review.matured_fraud import WINDOW_DAYS, MaturedFraud, matured_fraud
from sentinel.review.shadow_report import ShadowReport, shadow_report
from sentinel.review.shadow_scores import FILE as SHADOW_FILE
from sentinel.review.shadow_scores import ShadowScores
from sentinel.shadow.supervisor import ShadowStatus
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.api import Api
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
        return ok(await run_in_threadpool(_shadow_report, api.settings.home, api.view))

    @router.get("/drift")
    async def drift() -> Response:
        """Live transactions against the training history, by feature and for the score.

        `matured_fraud` has the share of fraud among the decisions of 30 days that are older than `label_delay`, beside
        that of the training history; null where nothing is decided here. `drifting_since` says of each feature that
        moved since when it has, as far as this process has seen.
        """
        found = msgspec.to_builtins(await watch.drift())
        ago_us = clock_us() - time.monotonic_ns() // 1_000
        since = {name: iso(ago_us + round(at_s * SECOND_US)) for name, at_s in found.pop("since_s", {}).items()}
        return ok(found | {"drifting_since": since} | {"matured_fraud": await run_in_threadpool(_matured_fraud, api)})

    @router.get("/drift/{feature}")
    async def distribution(feature: str) -> Response:
        """How a feature, or `score`, lay in the training history and lies now: shares by bin, and quantiles.

        `words` says what the codes of a category stand for.
        """
        await watch.catch_up()
        found = await run_in_threadpool(watch.observers.drift_distribution, feature)
        lineup = api.predictor.lineup
        if found is None or lineup is None:
            raise NotFound(f"The model has no feature {quoted(feature)}; GET /admin/drift names all")
        words = lineup.champion.bundle.manifest.plan.vocabulary.get(feature, ())
        return ok(msgspec.to_builtins(found) | {"words": words})

    @router.post("/drift/reset")
    async def reset_drift(request: Request) -> Response:
        """Reset the drift window."""
        await changes.note(request, {}, {"drift": "begun anew"})
        await watch.reset_drift()
        return ok({"status": "ok"})


def _matured_fraud(api: Api) -> MaturedFraud | None:
    lineup = api.predictor.lineup
    if api.worker is None or lineup is None:
        return None
    until_us = clock_us() - duration_us(api.settings.label_delay)
    since_us, log = until_us - WINDOW_DAYS * 86_400 * SECOND_US, api.worker.log
    history = lineup.champion.bundle.manifest.history
    with closing(api.view.open()) as view:
        counts = view.labels_between(log.first_after(since_us), log.first_after(until_us))
    return matured_fraud(counts, history.frauds / history.transactions, iso(since_us), iso(until_us))


def _shadow_report(home: Path, place: ViewPlace) -> ShadowReport:
    if not (home / SHADOW_FILE).exists():
        raise NotFound("No shadow has scored anything here yet; POST /admin/shadow/start begins with one")
    with closing(ShadowScores(home / SHADOW_FILE)) as scores, closing(place.open()) as view:
        return shadow_report(view, scores)
