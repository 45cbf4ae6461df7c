"""Admin calls: which models decide and how, while traffic runs. A change of the deployment is an entry of the log."""

import asyncio
import hmac
import ipaddress
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.config import age_us
from sentinel.errors import (
    BadBody,
    BundleProblem,
    Forbidden,
    InvalidDefinition,
    InvalidInput,
    SentinelError,
    Unauthorized,
    UnknownVersion,
)
from sentinel.events.schema import read_json
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment, Percent
from sentinel.policy.thresholds import Share, Thresholds
from sentinel.record.feature_state import check_reads
from sentinel.record.pruning import Retention
from sentinel.record.views.sqlite import FILE as VIEW_FILE
from sentinel.record.views.sqlite import SqliteView
from sentinel.record.whole_snapshots import check_kept
from sentinel.review.shadow_report import ShadowReport, shadow_report
from sentinel.review.shadow_scores import FILE as SHADOW_FILE
from sentinel.review.shadow_scores import ShadowScores
from sentinel.serve.lineup import check_comparable, load_warm
from sentinel.serve.watch import Watch
from sentinel.shadow.supervisor import ShadowStatus
from sentinel.transport.http.api import Api
from sentinel.transport.http.replies import ok, reply_to, response_of


class VersionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a version."""

    version: Annotated[str, msgspec.Meta(min_length=1)]


class ReloadBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a version; without one it is the newest of the home folder."""

    version: Annotated[str, msgspec.Meta(min_length=1)] | None = None


class SetupBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the challenger."""

    candidate_version: Annotated[str, msgspec.Meta(min_length=1)]


class SplitBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of the traffic that the challenger decides."""

    percent: Percent


class AbortBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; may be left out."""

    reason: str = "asked to"


class ThresholdsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds of a variant; with neither of them those of the bundle count again."""

    variant: str = "a"
    review: Share | None = None
    block: Share | None = None


class PruneBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the log is kept, such as 180d; the folder that segments are copied to before; whether only to look."""

    keep: str | None = None
    archive: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    dry_run: bool = False


class FallbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the rules decide alone."""

    only: bool


def admin_routes(api: Api, watch: Watch) -> APIRouter:
    """The routes under `/admin`."""

    def allowed(request: Request) -> None:
        check_caller(request, api.settings.admin_key, api.settings.cors_origins)

    router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(allowed)])
    changes = _Changes(api, watch)
    _add_models(router, changes)
    _add_experiments(router, changes, watch)
    _add_watching(router, changes, api, watch)
    _add_log(router, api, watch)
    return router


def check_caller(request: Request, key: str | None, origins: tuple[str, ...]) -> None:
    """Raise Unauthorized or Forbidden unless the caller may change things."""
    origin = request.headers.get("origin")
    if origin is not None and origin not in origins and not _is_own_page(request, origin, key):
        raise Forbidden(f"Pages of {origin} may not make admin calls; SENTINEL_CORS_ORIGINS lists those that may")
    if key is not None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), key.encode()):
            raise Unauthorized("Admin calls need the header `Authorization: Bearer <SENTINEL_ADMIN_KEY>`")
        return
    if not _is_loopback(request.client.host if request.client else ""):
        raise Forbidden("Without SENTINEL_ADMIN_KEY admin calls are answered to this machine only")


def _is_own_page(request: Request, origin: str, key: str | None) -> bool:
    """Whether a page of ours asks. Without a key only a loopback name counts: any other can be made to point here."""
    own = origin == f"{request.url.scheme}://{request.url.netloc}"
    host = request.url.hostname or ""
    return own and (key is not None or host == "localhost" or _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Changes:
    """Changes of the deployment, and the wait until this process is there."""

    def __init__(self, api: Api, watch: Watch) -> None:
        self.api = api
        self.rollout = watch.rollout

    async def make(self, how: Callable[[Deployment], Deployment]) -> tuple[Deployment, Deployment]:
        """The deployment before and after. Raises DeploymentRefused, BundleProblem, StorageProblem."""
        seen: list[Deployment] = []

        def noting(before: Deployment) -> Deployment:
            seen.append(before)
            return how(before)

        after = await self.rollout.change(noting)
        problem = await self.rollout.reach(after.revision)
        if problem is not None:
            raise BundleProblem(problem)
        return seen[-1], after

    async def bring_in(
        self, version: str, how: Callable[[Deployment], Deployment], *, beside_champion: bool
    ) -> tuple[Deployment, Deployment]:
        """The same for a version that may not have been loaded yet, once it is allowed and checked."""
        how(self.rollout.read())
        await self._check(version, beside_champion=beside_champion)
        return await self.make(how)

    async def _check(self, version: str, *, beside_champion: bool) -> None:
        """Raise UnknownVersion unless it can be loaded with its features, and stands beside the champion if it must."""
        lineup = self.api.predictor.lineup
        try:
            bundle = await run_in_threadpool(load_warm, self.rollout.registry, version)
        except BundleProblem as error:
            raise UnknownVersion(str(error)) from None
        if self.api.worker is not None:
            await run_in_threadpool(check_reads, self.api.worker.log, bundle.manifest)
            await run_in_threadpool(check_kept, self.api.worker.log, bundle.manifest, self.api.settings.snapshots)
        if beside_champion and lineup is not None:
            check_comparable(lineup.champion.bundle, bundle)


def _add_models(router: APIRouter, changes: _Changes) -> None:
    registry = changes.rollout.registry

    @router.get("/version")
    async def version() -> Response:
        """The champion, and the challenger while an experiment runs."""
        deployment = changes.rollout.deployment
        shown: dict[str, Any] = {"version_a": deployment.champion, "path_a": _path(deployment.champion)}
        if deployment.experiment:
            experiment = deployment.experiment
            shown |= {"version_b": experiment.version, "path_b": _path(experiment.version)}
            shown["split_percent"] = experiment.split_percent
        shown |= {"revision": deployment.revision, "shadow": deployment.shadow, "problem": changes.rollout.problem}
        return ok({**shown, "versions": registry.versions()})

    def _path(version: str | None) -> str | None:
        return str(registry.folder / version) if version else None

    @router.post("/reload", openapi_extra=_body(ReloadBody, required=False))
    async def reload(request: Request) -> Response:
        """Make a version the champion without interrupting traffic: the newest there is, unless the body names one.

        409 while an experiment runs; 400 when the version is not there or cannot be loaded.
        """
        wanted = (await _read(request, ReloadBody)).version or _newest(registry)
        return await _swap(wanted, lambda deployment: deployment.with_champion(wanted))

    @router.post("/rollback")
    async def rollback() -> Response:
        """Restore the previous champion."""
        previous = changes.rollout.read().rolled_back().champion
        assert previous is not None  # noqa: S101 - refused otherwise
        return await _swap(previous, lambda deployment: deployment.rolled_back())

    async def _swap(version: str, how: Callable[[Deployment], Deployment]) -> Response:
        before, after = await changes.bring_in(version, how, beside_champion=False)
        return ok({"status": "ok", "old_version": before.champion, "new_version": after.champion})

    @router.get("/thresholds")
    async def thresholds() -> Response:
        """The thresholds in force by variant."""
        lineup = changes.api.predictor.lineup
        if lineup is None:
            return ok({})
        return ok({name: lineup.contender(name).thresholds for name in ("a", "b")[: len(lineup.contenders)]})

    @router.post("/thresholds", openapi_extra=_body(ThresholdsBody))
    async def set_thresholds(request: Request) -> Response:
        """Decide by other thresholds; empty for those of the bundle. They go when the model does."""
        asked = await _read(request, ThresholdsBody)
        if asked.variant not in ("a", "b"):
            raise UnknownVersion(f"variant is {asked.variant!r}; give a, the champion, or b, the challenger")
        chosen = None
        if asked.review is not None:
            if asked.block is not None and asked.block < asked.review:
                raise UnknownVersion(f"block ({asked.block}) must be at least review ({asked.review})")
            chosen = Thresholds(asked.review, asked.block)
        elif asked.block is not None:
            raise UnknownVersion("give review as well: the probability from which a transaction is not approved")
        await changes.make(lambda deployment: deployment.with_thresholds(chosen, asked.variant))
        return await thresholds()

    @router.post("/fallback", openapi_extra=_body(FallbackBody))
    async def fallback(request: Request) -> Response:
        """Have the fallback rules decide alone, or no longer."""
        only = (await _read(request, FallbackBody)).only
        _, after = await changes.make(lambda deployment: msgspec.structs.replace(deployment, fallback_only=only))
        return ok({"status": "ok", "fallback_only": after.fallback_only})


def _newest(registry: Registry) -> str:
    versions = registry.versions()
    if not versions:
        raise UnknownVersion(f"there is no model in {registry.folder} yet; run `sentinel train`")
    return versions[-1]


def _add_experiments(router: APIRouter, changes: _Changes, watch: Watch) -> None:
    @router.post("/ab/setup", openapi_extra=_body(SetupBody))
    async def setup(request: Request) -> Response:
        """Load a challenger; it decides nothing until it gets a share with `/admin/ab/split`."""
        wanted = (await _read(request, SetupBody)).candidate_version
        _, after = await changes.bring_in(
            wanted, lambda deployment: deployment.with_experiment(wanted), beside_champion=True
        )
        assert after.experiment is not None  # noqa: S101 - just made
        return ok({"status": "ok", "candidate_version": wanted, "experiment": after.experiment.id})

    @router.post("/ab/split", openapi_extra=_body(SplitBody))
    async def split(request: Request) -> Response:
        """Have the challenger decide for this percentage of the cards; a card keeps its variant."""
        percent = (await _read(request, SplitBody)).percent
        await changes.make(lambda deployment: deployment.with_split(percent))
        return ok({"status": "ok", "split_percent": percent})

    @router.post("/ab/promote")
    async def promote() -> Response:
        """The challenger becomes the champion."""
        before, after = await changes.make(lambda deployment: deployment.promoted())
        return ok({"status": "ok", "promoted_to_a": after.champion, "old_a_version": before.champion})

    @router.post("/ab/abort", openapi_extra=_body(AbortBody))
    async def abort(request: Request) -> Response:
        """The champion decides alone again."""
        reason = (await _read(request, AbortBody)).reason
        _, after = await changes.make(lambda deployment: deployment.aborted(reason))
        return ok({"status": "ok", "aborted_version": after.ended.version if after.ended else None})

    @router.get("/ab/status")
    async def status() -> Response:
        """Counts by variant, differences that are real however often one looks, and how the last one ended."""
        return ok(await watch.experiment_status())


def _add_watching(router: APIRouter, changes: _Changes, api: Api, watch: Watch) -> None:
    @router.post("/shadow/start", openapi_extra=_body(VersionBody))
    async def start_shadow(request: Request) -> Response:
        """Score every transaction with this version too, beside the live path; it decides nothing."""
        wanted = (await _read(request, VersionBody)).version
        api.deciding().ready_engine()
        await changes.bring_in(
            wanted, lambda deployment: msgspec.structs.replace(deployment, shadow=wanted), beside_champion=True
        )
        return ok({"status": "ok", "shadow": wanted})

    @router.post("/shadow/stop")
    async def stop_shadow() -> Response:
        """No shadow any more; what it scored stays."""
        before, _ = await changes.make(lambda deployment: msgspec.structs.replace(deployment, shadow=None))
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
    async def reset_drift() -> Response:
        """Reset the drift window."""
        await watch.reset_drift()
        return ok({"status": "ok"})


def _add_log(router: APIRouter, api: Api, watch: Watch) -> None:
    @router.post("/log/prune", openapi_extra=_body(PruneBody, required=False))
    async def prune(request: Request) -> Response:
        """Remove segments of the log that are older than `keep` and needed by nobody, four at most: see `more`.

        `keep` and `archive` are those of the server unless the body has them; `dry_run` only tells what would go.
        """
        asked = await _read(request, PruneBody)
        api.deciding()
        keeper = watch.log_keeper
        assert keeper is not None  # noqa: S101 - there is one beside every worker
        retention = _retention(asked, keeper.retention)
        done = keeper.look(retention) if asked.dry_run else keeper.prune(retention)
        return ok(await asyncio.wrap_future(done))


def _retention(asked: PruneBody, usual: Retention) -> Retention:
    try:
        keep_us = usual.keep_us if asked.keep is None else age_us(asked.keep)
    except InvalidDefinition as error:
        raise BadBody(f"keep: {error}") from None
    if keep_us is None:
        raise BadBody(
            'The log is kept for ever (SENTINEL_KEEP_LOG); say how much of it to keep, as in {"keep": "180d"}'
        )
    if asked.archive is None:
        return msgspec.structs.replace(usual, keep_us=keep_us)
    if not Path(asked.archive).is_absolute():
        raise BadBody(f"archive is {asked.archive!r}; give the whole path of a folder")
    return msgspec.structs.replace(usual, keep_us=keep_us, archive=Path(asked.archive))


def _shadow_report(home: Path) -> ShadowReport:
    with closing(ShadowScores(home / SHADOW_FILE)) as scores, closing(SqliteView(home / VIEW_FILE)) as view:
        return shadow_report(view, scores)


async def _read(request: Request, kind: type[Any]) -> Any:
    """The body. Raises BadBody, for values that cannot be accepted as well: whatever is wrong here is a 400."""
    body = await request.body()
    try:
        return read_json(msgspec.json.Decoder(kind).decode, body.strip() or b"{}")
    except InvalidInput as error:
        raise BadBody(str(error)) from None


def _body(kind: type[msgspec.Struct], *, required: bool = True) -> dict[str, Any]:
    schema = msgspec.json.schema(kind)
    schema = schema.get("$defs", {}).get(kind.__name__, schema)
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def refused(_request: Request, error: Exception) -> Response:
    """A fault of an admin call as its response."""
    assert isinstance(error, SentinelError)  # noqa: S101 - registered for no other
    return response_of(reply_to(error))
