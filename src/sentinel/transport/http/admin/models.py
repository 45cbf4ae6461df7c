"""Admin calls: the champion, its thresholds, and the rules in its place."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import DeploymentRefused, UnknownVersion
from sentinel.events.card_numbers import quoted
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.policy.policies import AnyPolicy
from sentinel.policy.thresholds import Action, Share, Thresholds
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.bodies import REASON, VERSION, read_as, shown_body
from sentinel.transport.http.replies import ok


class ReloadBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a version; without one it is the newest of the home folder.

    `forced_because` promotes a model that has not passed the gate, and is kept in the audit.
    """

    version: VERSION | None = None
    forced_because: REASON | None = None


class ThresholdsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds of a variant; with none of them those of the bundle count again."""

    variant: Annotated[str, msgspec.Meta(max_length=64)] = "a"
    review: Share | None = None
    block: Share | None = None
    challenge: Share | None = None


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
        return ok({**shown, "versions": await run_in_threadpool(registry.versions)})

    def _path(version: str | None) -> str | None:
        return str(registry.folder / version) if version else None

    @router.post("/reload", openapi_extra=shown_body(ReloadBody, required=False))
    async def reload(request: Request) -> Response:
        """Make a version the champion without interrupting traffic: the newest there is, unless the body names one.

        409 while an experiment runs, or where the home folder has a promotion policy that the version has not passed,
        unless `forced_because` says why it is promoted all the same; 400 when it is not there or cannot be loaded.
        """
        asked = await read_as(request, ReloadBody)
        wanted = asked.version or await run_in_threadpool(_newest, registry)
        return _shown(await changes.promote(request, wanted, forced=asked.forced_because is not None))

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
        """Decide by other thresholds; empty for those of the bundle. They go when the model does.

        409 where SENTINEL_RULES_NEED_TWO is set: they are part of a draft of rules then.
        """
        asked = await read_as(request, ThresholdsBody)
        if changes.api.settings.rules_need_two:
            raise DeploymentRefused(
                "thresholds need two people (SENTINEL_RULES_NEED_TWO): write them down with POST /v1/rules/drafts, and "
                "somebody else applies the draft"
            )
        if asked.variant not in ("a", "b"):
            raise UnknownVersion(f"variant is {quoted(asked.variant)}; give a, the champion, or b, the challenger")
        chosen = thresholds_asked(changes, asked)
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


def thresholds_asked(changes: Changes, asked: ThresholdsBody) -> Thresholds | None:
    """Those of a body, None for those of the bundle. Raises UnknownVersion where they cannot be."""
    chosen = _chosen(asked)
    if asked.challenge is not None or asked.block is not None:
        _check_declared(changes, asked)
    return chosen


def _chosen(asked: ThresholdsBody) -> Thresholds | None:
    if asked.review is None:
        if asked.block is not None or asked.challenge is not None:
            raise UnknownVersion("give review as well: the probability from which a transaction is reviewed")
        return None
    if asked.block is not None and asked.block < asked.review:
        raise UnknownVersion(f"block ({asked.block}) must be at least review ({asked.review})")
    if asked.challenge is not None and asked.challenge > asked.review:
        raise UnknownVersion(f"challenge ({asked.challenge}) must be at most review ({asked.review})")
    return Thresholds(asked.review, asked.block, asked.challenge)


def _check_declared(changes: Changes, asked: ThresholdsBody) -> None:
    """Raise UnknownVersion where the variant's detector never challenges or blocks: its callers know no such answer."""
    lineup = changes.api.predictor.lineup
    if lineup is None:
        raise UnknownVersion("no model is loaded yet; ask again in a moment")
    contender = lineup.champion if asked.variant == "a" else lineup.challenger
    if contender is None:
        return
    policy = contender.bundle.manifest.policy
    if asked.block is not None and policy and Action.BLOCK not in msgspec.convert(policy, AnyPolicy).actions:
        raise UnknownVersion(
            f"{contender.version} never blocks, so its callers do not know that answer: leave block out, or declare it "
            "in the detector's policy and train anew"
        )
    if asked.challenge is not None and contender.bundle.thresholds.challenge is None:
        raise UnknownVersion(
            f"{contender.version} never challenges, so its callers do not know that answer: leave challenge out, or "
            "declare it in the detector's policy and train anew"
        )


def _newest(registry: Registry) -> str:
    versions = registry.versions()
    if not versions:
        raise UnknownVersion(f"there is no model in {registry.at} yet; run `sentinel train`")
    return versions[-1]
