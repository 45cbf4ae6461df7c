"""Admin calls: the score curve, from which anybody can say what any thresholds would do."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import InvalidInput, NotReady, Overloaded, SentinelError, UnknownVersion
from sentinel.events.card_numbers import quoted
from sentinel.events.times import bound_us, iso
from sentinel.model.bundle import read_manifest
from sentinel.policy.costs import Costs
from sentinel.policy.policies import AnyPolicy
from sentinel.policy.score_curve import ScoreCurve
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.admin.own_command import told_by
from sentinel.transport.http.replies import ok

_GOOD_S, _MOST_KEPT = 30.0, 8
_MOST_WAITING = 8
_BOUNDS = (("from", "from"), ("until", "to"))
_ASKED = ("version", "from", "until")
_TOLD = ("version", "measured_on", "days", "costs", "curve")


class ScoreCurves:
    """Makes one at a time; what was made within the last half minute is given again. From the event loop."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._turn, self._waiting = asyncio.Lock(), 0
        self._kept: dict[tuple[str, ...], tuple[float, dict[str, Any]]] = {}

    async def of(self, asked: dict[str, str]) -> dict[str, Any]:
        """The curve of a version, by default the champion's. Raises InvalidInput, UnknownVersion, NotReady.

        Overloaded where many wait for one of the log.
        """
        unknown = [name for name in asked if name not in _ASKED]
        if unknown:
            raise InvalidInput(f"Expected version, from or until, got {quoted(unknown[0])}", "$")
        version = asked.get("version") or self._changes.rollout.deployment.champion
        if version is None:
            raise NotReady("No model decides yet; train one, and ask again")
        if version not in await run_in_threadpool(self._changes.rollout.registry.versions):
            raise UnknownVersion(f"there is no {quoted(version, 80)} here; GET /admin/version has the versions")
        bounds = [f"--{name}={_moment(asked[key], key)}" for key, name in _BOUNDS if key in asked]
        if not bounds:
            return await run_in_threadpool(_of_training, self._changes.rollout.registry.path(version))
        if self._waiting >= _MOST_WAITING:
            raise Overloaded(f"{self._waiting} score curves are waited for; ask again when they are there")
        self._waiting += 1
        try:
            return await self._in_turn(version, bounds)
        finally:
            self._waiting -= 1

    async def _in_turn(self, version: str, bounds: list[str]) -> dict[str, Any]:
        async with self._turn:
            return await self._of_log((version, *bounds, f"--label-delay={self._changes.api.settings.label_delay}"))

    async def _of_log(self, key: tuple[str, ...]) -> dict[str, Any]:
        found = self._kept.get(key)
        if found is None or time.monotonic() - found[0] > _GOOD_S:
            told = await told_by(self._changes.api.settings.home, ("models", "thresholds", *key))
            sweep = msgspec.json.decode(told)
            self._kept.pop(key, None)
            self._kept[key] = found = time.monotonic(), {name: sweep[name] for name in _TOLD}
            while len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return found[1]


def _of_training(path: Path) -> dict[str, Any]:
    """The curve that a bundle brings. Raises UnknownVersion for one that cannot be read, or has none."""
    try:
        manifest = read_manifest(path)
        curve = msgspec.convert((manifest.metrics or {}).get("score_curve"), ScoreCurve)
        policy = msgspec.convert(manifest.policy, AnyPolicy) if manifest.policy else None
    except (msgspec.ValidationError, SentinelError) as error:
        raise UnknownVersion(
            f"{path.name} brings no score curve ({error}); ask for one from the log, with from"
        ) from None
    costs = policy.costs if policy else Costs()
    return {
        "version": manifest.version, "measured_on": "the test part of its history", "days": curve.days, "costs": costs,
        "curve": curve,
    }  # fmt: skip


def _moment(text: str, name: str) -> str:
    """A moment as commands read it. Raises InvalidInput."""
    return iso(bound_us(text.replace(" ", "+"), f"$.{name}"))


def add_score_curves(router: APIRouter, changes: Changes) -> None:
    """What thresholds do."""
    curves = ScoreCurves(changes)

    @router.get("/thresholds/curve")
    async def curve(request: Request) -> Response:
        """How many frauds and others, and how much money, lie at or above each score of a `version` [the champion].

        On the test part of its training; with `from` or `until` (ISO 8601) on what the log has of it, as far as
        outcomes are known. What is older than `SENTINEL_LABEL_DELAY` and nobody told of counts as legitimate. With
        `costs` it is all that is needed to say what any thresholds do: `sentinel models thresholds` says how.
        """
        return ok(await curves.of(dict(request.query_params)))
