"""Admin calls: experiments."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response

from sentinel.events.card_numbers import masked
from sentinel.policy.deployment import Percent
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.bodies import REASON, VERSION, read_as, shown_body
from sentinel.transport.http.replies import ok


class SetupBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the challenger."""

    candidate_version: VERSION


class SplitBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of the traffic that the challenger decides."""

    percent: Percent


class PromoteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a challenger that has not passed the gate is promoted; kept in the audit."""

    forced_because: REASON | None = None


class AbortBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; may be left out."""

    reason: Annotated[str, msgspec.Meta(max_length=256)] = "asked to"


def add_experiments(router: APIRouter, changes: Changes) -> None:
    """A challenger that decides for a share of the cards."""

    @router.post("/ab/setup", openapi_extra=shown_body(SetupBody))
    async def setup(request: Request) -> Response:
        """Load a challenger; it decides nothing until it gets a share with `/admin/ab/split`."""
        wanted = (await read_as(request, SetupBody)).candidate_version
        _, after = await changes.bring_in(
            request, wanted, lambda deployment: deployment.with_experiment(wanted), beside_champion=True
        )
        assert after.experiment is not None  # noqa: S101 - just made
        return ok({"status": "ok", "candidate_version": wanted, "experiment": after.experiment.id})

    @router.post("/ab/split", openapi_extra=shown_body(SplitBody))
    async def split(request: Request) -> Response:
        """Have the challenger decide for this percentage of the cards; a card keeps its variant."""
        percent = (await read_as(request, SplitBody)).percent
        await changes.make(request, lambda deployment: deployment.with_split(percent))
        return ok({"status": "ok", "split_percent": percent})

    @router.post("/ab/promote", openapi_extra=shown_body(PromoteBody, required=False))
    async def promote(request: Request) -> Response:
        """The challenger becomes the champion.

        409 where the home folder has a promotion policy that it has not passed, unless `forced_because` says why it is
        promoted all the same.
        """
        forced = (await read_as(request, PromoteBody)).forced_because is not None
        before, after = await changes.promote_challenger(request, forced=forced)
        return ok({"status": "ok", "promoted_to_a": after.champion, "old_a_version": before.champion})

    @router.post("/ab/abort", openapi_extra=shown_body(AbortBody))
    async def abort(request: Request) -> Response:
        """The champion decides alone again."""
        reason = masked((await read_as(request, AbortBody)).reason)
        _, after = await changes.make(request, lambda deployment: deployment.aborted(reason))
        return ok({"status": "ok", "aborted_version": after.ended.version if after.ended else None})

    @router.get("/ab/status")
    async def status() -> Response:
        """Counts by variant, differences that are real however often one looks, and how the last one ended."""
        return ok(await changes.watch.experiment_status())

    @router.get("/ab/trail")
    async def trail() -> Response:
        """How the intervals of the comparison narrowed since the experiment began, at up to 120 points, for a plot.

        Of transactions; vectors of `/predict` are in the comparison of `/admin/ab/status` alone. Empty without one.
        """
        return ok(await changes.watch.experiment_trail())
