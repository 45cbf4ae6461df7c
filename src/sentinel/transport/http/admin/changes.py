"""Changes that admin calls make: checked, written to the audit with who asked, and waited for."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import (
    BundleProblem,
    DeploymentRefused,
    Forbidden,
    InvalidDefinition,
    InvalidInput,
    UnknownVersion,
)
from sentinel.events.card_numbers import quoted
from sentinel.events.reader import TransactionReader
from sentinel.model.bundle import load_warm
from sentinel.model.gate_verdicts import check_may_promote
from sentinel.model.registry import manifest_sha256
from sentinel.policy.deployment import Deployment
from sentinel.record import audit
from sentinel.record.applied import HomeDeployment
from sentinel.record.audit import By
from sentinel.record.feature_state import check_reads
from sentinel.record.rules_applying import VIA
from sentinel.record.whole_snapshots import StillKept
from sentinel.serve.lineup import check_comparable, check_fits
from sentinel.serve.watch import Watch
from sentinel.transport.access.scopes import Scope
from sentinel.transport.http.api import Api

PERSON = "x-sentinel-person"
"""The header in which the console says who it is that asks."""

_PERSON = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


class Changes:
    """Changes of the deployment, and the wait until this process is there; and the audit of all other changes."""

    def __init__(self, api: Api, watch: Watch) -> None:
        self.api = api
        self.watch = watch
        self.rollout = watch.rollout

    async def make(self, request: Request, how: Callable[[Deployment], Deployment]) -> tuple[Deployment, Deployment]:
        """The deployment before and after. Raises DeploymentRefused, BundleProblem, StorageProblem."""
        seen: list[Deployment] = []

        def noting(before: Deployment) -> Deployment:
            seen.append(before)
            return how(before)

        after = await self.rollout.change(noting, by_caller(request))
        problem = await self.rollout.reach(after.revision)
        if problem is not None:
            raise BundleProblem(problem)
        return seen[-1], after

    async def bring_in(
        self, request: Request, version: str, how: Callable[[Deployment], Deployment], *, beside_champion: bool
    ) -> tuple[Deployment, Deployment]:
        """The same for a version that may not have been loaded yet, once it is allowed and checked."""
        how(self.rollout.read())
        sha256, still_kept = await self._check(version, beside_champion=beside_champion)

        def chosen(before: Deployment) -> Deployment:
            still_kept()
            return how(before).vouching(version, sha256)

        return await self.make(request, chosen)

    async def promote(self, request: Request, version: str, *, forced: bool) -> tuple[Deployment, Deployment]:
        """The same for a version that becomes the champion, which has to have passed the gate unless it is forced."""
        before = self.rollout.read()
        before.with_champion(version)
        sha256, still_kept = await self._check(version, beside_champion=False)
        if not forced:
            await run_in_threadpool(check_may_promote, self.api.settings.home, version, sha256, before.champion)

        def chosen(now: Deployment) -> Deployment:
            if not forced and now.champion != before.champion:  # somebody was quicker
                check_may_promote(self.api.settings.home, version, sha256, now.champion)
            still_kept()
            return now.with_champion(version).vouching(version, sha256)

        return await self.make(request, chosen)

    async def promote_challenger(self, request: Request, *, forced: bool) -> tuple[Deployment, Deployment]:
        """The same for the challenger of the experiment that runs."""
        before = self.rollout.read()
        challenger = before.promoted().champion
        assert challenger is not None  # noqa: S101 - refused otherwise
        seen = await run_in_threadpool(lambda: manifest_sha256(self.rollout.registry.path(challenger)))
        before.check_is_meant(challenger, seen)
        if not forced:
            await run_in_threadpool(check_may_promote, self.api.settings.home, challenger, seen, before.champion)

        def promoted(now: Deployment) -> Deployment:
            after = now.promoted()
            if after.champion != challenger:
                raise DeploymentRefused(f"the experiment is one with {after.champion} by now, not with {challenger}")
            if not forced and now.champion != before.champion:
                check_may_promote(self.api.settings.home, challenger, seen, now.champion)
            return after

        return await self.make(request, promoted)

    async def bring_back(
        self, request: Request, version: str, how: Callable[[Deployment], Deployment]
    ) -> tuple[Deployment, Deployment]:
        """The same for a version that was chosen before: it has to be the model that it was then."""
        deployment = how(self.rollout.read())
        sha256, still_kept = await self._check(version, beside_champion=False)
        try:
            deployment.check_is_meant(version, sha256)
        except BundleProblem as error:
            raise UnknownVersion(str(error)) from None

        def chosen(before: Deployment) -> Deployment:
            still_kept()
            return how(before)

        return await self.make(request, chosen)

    async def note(self, request: Request, before: Any, after: Any) -> None:
        """Write a change that is none of the deployment to the audit. Raises StorageProblem."""
        await self.write([audit.Change.of(by_caller(request), before, after, time.time_ns() // 1000)])

    async def write(self, changes: Sequence[audit.Change]) -> None:
        """Write changes to the audit. Raises StorageProblem."""
        worker = self.api.worker
        if worker is None:
            await asyncio.to_thread(HomeDeployment(self.api.settings.home).note, changes)
            return
        for one in changes:
            worker.note(one)

    async def _check(self, version: str, *, beside_champion: bool) -> tuple[str, Callable[[], None]]:
        """The SHA-256 of its manifest, and what says by DeploymentRefused that the log has less by now than it had.

        Raises UnknownVersion unless it can be loaded with its features, and stands beside the champion if it must.
        """
        lineup, still_kept = self.api.predictor.lineup, _always
        try:
            bundle = await run_in_threadpool(load_warm, self.rollout.registry, version)
        except BundleProblem as error:
            raise UnknownVersion(str(error)) from None
        if self.api.worker is not None:
            try:
                TransactionReader(bundle.manifest.plan.schema, self.api.secrets)
            except InvalidDefinition as error:
                raise UnknownVersion(str(error)) from None
            await run_in_threadpool(check_reads, self.api.worker.log, bundle.manifest)
            log, snapshots = self.api.worker.log, self.api.settings.snapshots
            check_fits(self.rollout.read().rules, bundle)
            still_kept = (await run_in_threadpool(StillKept, log, bundle.manifest, snapshots)).check
        if beside_champion and lineup is not None:
            check_comparable(lineup.champion.bundle, bundle)
        return bundle.manifest_sha256, still_kept


def _always() -> None:
    """Of vectors nothing is kept."""


def by_caller(request: Request) -> By:
    """Who makes this call, for the audit: the key, and the person whom it speaks for, if it may.

    Raises Forbidden for a person named by a key without the scope `admin`, InvalidInput for a name that is none.
    """
    asked: bytes = getattr(request.state, "asked", b"")
    return By(
        _who(request),
        request.state.peer.address,
        f"{request.method} {request.state.path}",
        asked.decode(errors="replace"),
    )


def _who(request: Request) -> str:
    caller, person = request.state.caller, request.headers.get(PERSON)
    if person is None:
        return str(caller.name)
    if Scope.ADMIN not in caller.scopes:
        raise Forbidden(f"Only a key with the scope '{Scope.ADMIN}' speaks for a person; leave {PERSON} out")
    if not _PERSON.fullmatch(person):
        raise InvalidInput(f"Expected a person's name in the header {PERSON}, got {quoted(person, 80)}")
    return f"{person}{VIA}{caller.name}"
