"""`sentinel business`: the figures of business, from the view of a home folder."""

from contextlib import closing

from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.errors import NotFound
from sentinel.events.times import clock_us, duration_us
from sentinel.model.bundle import read_manifest
from sentinel.record.applied import HomeDeployment
from sentinel.record.views.place import ViewPlace
from sentinel.review.business import Business, asked_of, business
from sentinel.review.business_figures import Figures, money_text


def business_of(settings: Settings, given: dict[str, str | None]) -> Business:
    """What is asked of the view, as `GET /v1/business` answers it. Raises NotFound, InvalidInput, StorageProblem."""
    now_us, place = clock_us(), ViewPlace(settings.home, settings.database_url)
    asked = asked_of({name: value for name, value in given.items() if value is not None}, now_us)
    if not place.is_there:
        raise NotFound(f"There is no view in {settings.home} yet: sentinel serve makes it, or sentinel views rebuild")
    with closing(place), closing(place.open()) as view:
        delay = settings.label_delay, duration_us(settings.label_delay)
        return business(view, asked, now_us, delay, _currency(settings))


def _currency(settings: Settings) -> str | None:
    """The one that the champion's detector declares."""
    champion = HomeDeployment(settings.home).read().champion
    return None if champion is None else read_manifest(registry_of(settings).path(champion)).currency


def lines_of(found: Business) -> list[str]:
    """The figures for people."""
    one = found.total
    mature = "" if found.is_mature else f"; outcomes of days from {found.mature_until} on are still to come"
    lines = [
        (
            f"{found.begin} to before {found.end}: {one.decisions:,} decisions, {_percent(one.approval_rate)} approved"
            f" (before: {found.before.decisions:,}, {_percent(found.before.approval_rate)}){mature}"
        ),
        f"fraud: {one.frauds:,} known, {_bps(one.fraud_bps)} (before: {_bps(found.before.fraud_bps)})",
        (
            f"disturbed for nothing: {one.false_alarms:,}, {_percent(one.false_alarm_rate)}; "
            f"precision {_percent(one.precision)}"
        ),
        *_money_lines(one),
    ]
    if found.counted_since is not None:
        lines.append(f"counted since {found.counted_since}; `sentinel views rebuild` counts what is older, too")
    lines += [f"  {group.value or group.kind}: {_in_short(group.figures)}" for group in found.groups]
    lines += [f"  {period.begin}: {_in_short(period.figures)}" for period in found.periods]
    lines += [
        f"  {'shadow' if rule.is_shadow else 'rule'} {rule.rule}: held {rule.hits:,} times, "
        f"precision {_percent(rule.precision)}"
        for rule in found.rules
    ]
    return lines


def _money_lines(one: Figures) -> list[str]:
    return [
        f"money: {money_text(of.saved, of.digits, of.currency)} saved, {money_text(of.lost, of.digits, of.currency)} "
        f"lost, {_bps(of.lost_bps)} of what was approved"
        for of in one.money
    ]


def _in_short(one: Figures) -> str:
    return (
        f"{one.decisions:,} decisions, {_percent(one.approval_rate)} approved, {one.frauds:,} frauds, "
        f"{_bps(one.fraud_bps)}"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _bps(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} bp"
