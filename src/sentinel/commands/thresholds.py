"""The commands that look at thresholds: what each would do, and what others would have done in a stored period."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import Any

import msgspec
import numpy as np

from sentinel.commands.progress import Stage, stages
from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.errors import BundleProblem, InvalidDefinition, SentinelError
from sentinel.events.times import bound_us, duration_us, iso
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.policy.costs import Costs
from sentinel.policy.policies import AnyPolicy
from sentinel.policy.score_curve import Consequences, ScoreCurve
from sentinel.policy.thresholds import Action, Thresholds
from sentinel.record.home_reader import open_log
from sentinel.review.past_scores import Beside, PastScores, past_scores
from sentinel.review.what_if import WhatIf, what_if

MOVABLE = (Action.CHALLENGE, Action.REVIEW, Action.BLOCK)
_ROWS = 16
_LATEST_US = 4_102_444_800_000_000  # 2100, up to which times are read


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the log: what was received in [`since`, `until`), and what its silence says at `now_us`.

    What was received more than `label_delay` ago, and nobody told anything of, counts as legitimate; None: as unknown.
    """

    since: str | None = None
    until: str | None = None
    label_delay: str | None = None
    now_us: int


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What each value of one threshold does, the others giving way to it.

    `rows` are by threshold, `now` what the version's own thresholds do, and `cheapest` the row that costs least. All of
    it follows from `curve`.
    """

    version: str
    measured_on: str
    moved: Action
    costs: Costs
    days: float
    now: Consequences
    cheapest: Consequences
    rows: list[Consequences]
    curve: ScoreCurve


def sweep_thresholds(settings: Settings, version: str, moved: str, costs: str | None, period: Period) -> Sweep:
    """The sweep of a version on the test part of its training, or, with an end of the period, on what the log has.

    `costs` are `name=value` with commas between, instead of those of its policy.
    Raises InvalidDefinition, InvalidInput.
    """
    if moved not in MOVABLE:
        raise InvalidDefinition(f"--move is {moved!r}; choose one of {', '.join(MOVABLE)}")
    manifest = _manifest(settings, version)
    own, priced = _thresholds(manifest), costs_of(manifest, costs)
    if period.since is None and period.until is None:
        if period.label_delay is not None:
            raise InvalidDefinition("--label-delay is for the log: give --from or --to as well")
        curve, on = _stored_curve(manifest), "the test part of its history"
    else:
        past, (since, until) = past_of(settings, manifest, period)
        if not past.judged.any():
            raise InvalidDefinition(f"of what {version} scored from {since} to {until} no outcome is known yet")
        curve = ScoreCurve.of(past.sample(), own.begins)
        on = f"{int(past.judged.sum()):,} of {len(past.scores):,} transactions from {since} to {until}: outcomes known"
    rows = curve.sweep(own, Action(moved), priced)
    return Sweep(
        version=version,
        measured_on=on,
        moved=Action(moved),
        costs=priced,
        days=curve.days,
        now=curve.consequences(own, priced),
        cheapest=min(rows, key=lambda row: row.cost),
        rows=rows,
        curve=curve,
    )


def fewer(sweep: Sweep) -> list[Consequences]:
    """Some rows of a sweep, evenly by how many are no longer simply approved; the cheapest is among them."""
    alarms = np.array([row.challenges_a_day + row.reviews_a_day + row.blocks_a_day for row in sweep.rows])
    least = alarms[alarms > 0].min(initial=np.inf)
    wanted = np.geomspace(min(least, alarms.max()), alarms.max(), _ROWS) if alarms.max() > 0 else np.zeros(1)
    places = {int(np.argmin(np.abs(alarms - one))) for one in wanted} | {sweep.rows.index(sweep.cheapest)}
    return [sweep.rows[place] for place in sorted(places)]


def ask_what_if(
    settings: Settings,
    version: str,
    given: dict[Action, float | None],
    costs: str | None,
    period: Period,
) -> WhatIf:
    """What other thresholds would have done with what a version scored in a period; its own, where none are given.

    Of what is not given in `given` there is none: without a block nothing is blocked. Raises InvalidDefinition where
    they are in no order, InvalidInput for a period without decisions.
    """
    manifest = _manifest(settings, version)
    thresholds = _given(given) or _thresholds(manifest)
    past, said = past_of(settings, manifest, period)
    return what_if(past, version, said, thresholds, costs_of(manifest, costs))


def _given(given: dict[Action, float | None]) -> Thresholds | None:
    challenge, review, block = (given.get(action) for action in MOVABLE)
    if challenge is review is block is None:
        return None
    if review is None:
        raise InvalidDefinition("give --review as well: the probability from which a transaction is reviewed")
    order = [one for one in (challenge, review, block) if one is not None]
    if order != sorted(order) or not all(0 <= one <= 1 for one in order):
        raise InvalidDefinition("thresholds are from 0 to 1, --challenge at most --review, and that at most --block")
    return Thresholds(review, block, challenge)


def _manifest(settings: Settings, version: str) -> Manifest:
    return read_manifest(registry_of(settings).path(version))


def _thresholds(manifest: Manifest) -> Thresholds:
    return _read(manifest, manifest.thresholds, Thresholds)  # type: ignore[no-any-return]


def costs_of(manifest: Manifest, given: str | None) -> Costs:
    """The costs of a version's policy, with those that are given in their place. Raises InvalidDefinition."""
    policy = _read(manifest, manifest.policy, AnyPolicy) if manifest.policy else None
    costs: Costs = policy.costs if policy else Costs()
    if given is None:
        return costs
    changed = {}
    for part in given.split(","):
        name, _, value = part.partition("=")
        if name.strip() not in Costs.__struct_fields__:
            raise InvalidDefinition(f"--costs: there is no {name.strip()!r}; use {', '.join(Costs.__struct_fields__)}")
        try:
            changed[name.strip()] = float(value)
        except ValueError:
            raise InvalidDefinition(f"--costs: {name.strip()} is {value!r}; give a number") from None
    return msgspec.structs.replace(costs, **changed)


def _stored_curve(manifest: Manifest) -> ScoreCurve:
    found = manifest.metrics.get("score_curve") if isinstance(manifest.metrics, dict) else None
    if found is None:
        raise BundleProblem(
            f"{manifest.version} was trained before thresholds could be compared: give --from and --to, or train anew"
        )
    return _read(manifest, found, ScoreCurve)  # type: ignore[no-any-return]


def _read(manifest: Manifest, found: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(found, kind)
    except (msgspec.ValidationError, SentinelError) as error:
        raise BundleProblem(f"the manifest of {manifest.version} cannot be read: {error}; train anew") from error


def past_of(
    settings: Settings, manifest: Manifest, period: Period, beside: Beside | None = None, stage: Stage | None = None
) -> tuple[PastScores, tuple[str, str]]:
    """What a version scored in a period of the log, and the period in words; `beside` takes the same decisions.

    `stage` is told how far it is; a terminal without one.
    """
    since = 0 if period.since is None else bound_us(period.since, "--from")
    until = _LATEST_US if period.until is None else bound_us(period.until, "--to")
    if until <= since:
        raise InvalidDefinition(f"--to ({period.until}) must be later than --from ({period.since})")
    delay_us = None if period.label_delay is None else duration_us(period.label_delay)
    with closing(open_log(settings.home)) as log, stages() if stage is None else nullcontext(stage) as say:
        told: Callable[[int, int], None] = lambda done, of: say("entries", done, of)  # noqa: E731
        past = past_scores(log, manifest.version, manifest.plan.schema, (since, until), told, beside)
    if delay_us is not None:
        past = past.with_silence(period.now_us - delay_us)
    said = (iso(int(past.received_us[0])), iso(int(past.received_us[-1])))
    return past, (iso(since) if period.since else said[0], iso(until) if period.until else said[1])
