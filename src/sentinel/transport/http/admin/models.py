"""Admin calls: the champion, its thresholds, and the rules in its place."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response

from sentinel.errors import UnknownVersion
from sentinel.events.card_numbers import quoted
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.policy.thresholds import Share, Thresholds
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.bodies import VERSION, read_as, shown_body
from sentinel.transport.http.replies import ok


class ReloadBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a version; without one it is the newest of the home folder."""

    version: VERSION | None = None


class ThresholdsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds of a variant; with neither of them those of the bundle count again."""

    variant: Annotated[str, msgspec.Meta(max_length=64)] = "a"
    review: Share | None = None
    block: Share | None = None


class FallbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the rules decide alone."""

    only: bool


def add_models(router: APIRouter, changes: Changes) -> None:
    """Which models decide, by which thresholds, or the rules alone."""
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

    @router.post("/reload", openapi_extra=shown_body(ReloadBody, required=False))
    async def reload(request: Request) -> Response:
        """Make a version the champion without interrupting traffic: the newest there is, unless the body names one.

        409 while an experiment runs; 400 when the version is not there or cannot be loaded.
        """
        wanted = (await read_as(request, ReloadBody)).version or _newest(registry)
        return _shown(
            await changes.bring_in(
                request, wanted, lambda deployment: deployment.with_champion(wanted), beside_champion=False
            )
        )

    @router.post("/rollback")
    async def rollback(request: Request) -> Response:
        """Restore the previous champion."""
        previous = changes.rollout.read().rolled_back().champion
        assert previous is not None  # noqa: S101 - refused otherwise
        return _shown(await changes.bring_back(request, previous, lambda deployment: deployment.rolled_back()))

    def _shown(swap: tuple[Deployment, Deployment]) -> Response:
        before, after = swap
        return ok({"status": "ok", "old_version": before.champion, "new_version": after.champion})

    @router.get("/thresholds")
    async def thresholds() -> Response:
        """The thresholds in force by variant."""
        lineup = changes.api.predictor.lineup
        if lineup is None:
            return ok({})
        return ok({name: lineup.contender(name).thresholds for name in ("a", "b")[: len(lineup.contenders)]})

    @router.post("/thresholds", openapi_extra=shown_body(ThresholdsBody))
    async def set_thresholds(request: Request) -> Response:
        """Decide by other thresholds; empty for those of the bundle. They go when the model does."""
        asked = await read_as(request, ThresholdsBody)
        if asked.variant not in ("a", "b"):
            raise UnknownVersion(f"variant is {quoted(asked.variant)}; give a, the champion, or b, the challenger")
        chosen = None
        if asked.review is not None:
            if asked.block is not None and asked.block < asked.review:
                raise UnknownVersion(f"block ({asked.block}) must be at least review ({asked.review})")
            chosen = Thresholds(asked.review, asked.block)
        elif asked.block is not None:
            raise UnknownVersion("give review as well: the probability from which a transaction is not approved")
        await changes.make(request, lambda deployment: deployment.with_thresholds(chosen, asked.variant))
        return await thresholds()

    @router.post("/fallback", openapi_extra=shown_body(FallbackBody))
    async def fallback(request: Request) -> Response:
        """Have the fallback rules decide alone, or no longer."""
        only = (await read_as(request, FallbackBody)).only
        _, after = await changes.make(
            request, lambda deployment: msgspec.structs.replace(deployment, fallback_only=only)
        )
        return ok({"status": "ok", "fallback_only": after.fallback_only})


def _newest(registry: Registry) -> str:
    versions = registry.versions()
    if not versions:
        raise UnknownVersion(f"there is no model in {registry.folder} yet; run `sentinel train`")
    return versions[-1]
