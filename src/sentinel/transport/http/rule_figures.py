"""Figures of rules over HTTP: how often each held by day, what became of that, and how often it was right."""

from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response

from sentinel.errors import InvalidInput
from sentinel.events.times import clock_us, iso
from sentinel.policy.sample import DAY_US
from sentinel.record.views import RuleHits, View
from sentinel.transport.http.api import Api
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import ok

MOST_DAYS = 92


class OfRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule held for in some days, in force or as a shadow.

    - `hits`: by day.  `shadow_hits`: those of all days in which it decided nothing.
    - `reviewed`, `blocked`: what was decided of them, and `of_reviewed`, `of_blocked` which share of all such that is.
    - `judged`, `frauds`, `precision`: of how many of them the outcome is known, how many were fraud, and the share.
    """

    name: str
    hits: list[int]
    shadow_hits: int
    reviewed: int
    blocked: int
    of_reviewed: float | None
    of_blocked: float | None
    judged: int
    frauds: int
    precision: float | None


class RuleFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the newest days (UTC, by when they were decided; the last is today), and as of when the view is."""

    days: list[str]
    as_of: str
    rules: list[OfRule]


def figures_of(view: View, days: int, now_us: int) -> RuleFigures:
    """The figures of so many days, up to now."""
    today = now_us // DAY_US
    begins = [(today - ago) * DAY_US for ago in range(days - 1, -1, -1)]
    by_day = [view.rule_hits_between(one, one + DAY_US) for one in begins]
    alarms = view.alarms_between(begins[0], begins[-1] + DAY_US)
    names = sorted({one.rule for found in by_day for one in found})
    return RuleFigures(
        days=[iso(one)[:10] for one in begins],
        as_of=iso(view.position.projected_at_us),
        rules=[_of_rule(name, [[one for one in found if one.rule == name] for found in by_day], alarms)
               for name in names],
    )  # fmt: skip


def _of_rule(name: str, by_day: list[list[RuleHits]], alarms: dict[str, int]) -> OfRule:
    found = [one for day in by_day for one in day]
    reviewed, blocked = sum(one.reviewed for one in found), sum(one.blocked for one in found)
    judged, frauds = sum(one.judged for one in found), sum(one.frauds for one in found)
    return OfRule(
        name=name,
        hits=[sum(one.hits for one in day) for day in by_day],
        shadow_hits=sum(one.hits for one in found if one.shadow),
        reviewed=reviewed,
        blocked=blocked,
        of_reviewed=_share(reviewed, alarms.get("review", 0)),
        of_blocked=_share(blocked, alarms.get("block", 0)),
        judged=judged,
        frauds=frauds,
        precision=_share(frauds, judged),
    )


def _share(part: int, of: int) -> float | None:
    return part / of if of else None


def _days(request: Request) -> int:
    days = whole_number(request.query_params.get("days", "7"), "days")
    if not 1 <= days <= MOST_DAYS:
        raise InvalidInput(f"Expected 1 to {MOST_DAYS}, got {days}", "$.days")
    return days


def add_rule_figures(app: FastAPI, api: Api) -> None:
    """The call `/v1/rules/figures`."""

    @app.get("/v1/rules/figures", tags=["rules"])
    def figures(request: Request) -> Response:
        """How often each rule held by day, and what became of it, in the newest `days` (7, at most 92; UTC)."""
        days, view = _days(request), api.view.open()
        try:
            found: Any = figures_of(view, days, clock_us())
        finally:
            view.close()
        return ok(found)
