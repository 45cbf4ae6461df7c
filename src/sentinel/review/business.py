"""The business of a stretch of days: figures by day, week or month, by what is asked for, and beside those before."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import quoted
from sentinel.events.times import iso
from sentinel.policy.thresholds import Action
from sentinel.record.views import Days, Summed, View
from sentinel.record.views.counted import MISSING
from sentinel.record.views.day_sums import ALL, FIELD, MODEL, RULE, SHADOW, SOURCE, TOLD, VARIANT
from sentinel.review.business_figures import (
    ActionFigures,
    Figures,
    RuleFigures,
    action_figures,
    basis_points,
    figures_of,
    rule_figures,
)

DAY_US = 86_400_000_000
MOST_DAYS, USUAL_DAYS = 1_100, 30
CHARGEBACKS = "chargebacks"
"""The source that `sentinel outcomes import` gives, where no other one is named."""

_EPOCH = date(1970, 1, 1)
Each = Literal["day", "week", "month"]
EACH: tuple[Each, ...] = ("day", "week", "month")
NAMES = ("from", "to", "each", "by", "value", "source")
"""What may be asked."""


class Asked(msgspec.Struct, frozen=True):
    """Which days (UTC, without the last one), in steps of what, by which part, and of one value of it alone if any.

    `by` is `model`, `variant`, or `field:` and the name of a field. `source` tells of chargebacks.
    """

    days: Days
    each: Each
    by: str | None
    value: str | None
    source: str


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """The days from `begin` to before `end`. Outcomes of a period that is not mature are still to come."""

    begin: str
    end: str
    is_mature: bool
    figures: Figures


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What has one value: `kind` is `value`, or `missing` (there is none), or `other` (values that came late)."""

    value: str | None
    kind: Literal["value", "missing", "other"]
    figures: Figures


class ChargebackMonth(msgspec.Struct, frozen=True, kw_only=True):
    """Chargebacks of a month, beside what was paid in it: what was not blocked.

    `of_payments` are about payments of this month, whenever they were told; `told` came in this month, whenever was
    paid. Ratios are in basis points of the payments of the month.
    """

    month: str
    payments: int
    of_payments: int
    of_payments_bps: float | None
    told: int
    told_bps: float | None
    is_mature: bool


class Business(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, and the answer.

    - `mature_until`: outcomes of days from then on are still to come: `label_delay` has not passed.
    - `counted_since`: the view has decisions from before, which are in no figure; None where it has none.
    - `total`, `is_mature`: of all days.  `before`: of as many days before them.
    - `periods`: in the order of time, those without a decision too.  `groups`: the most decisions first.
    - `rules`: of all decisions, whatever `value` is asked for.
    - `fields`: what else `by` may be.
    """

    begin: str
    end: str
    each: Each
    by: str | None
    value: str | None
    label_delay: str
    mature_until: str
    counted_since: str | None
    is_mature: bool
    total: Figures
    before: Figures
    periods: list[Period]
    groups: list[Group]
    actions: list[ActionFigures]
    rules: list[RuleFigures]
    source: str
    sources: list[str]
    chargebacks: list[ChargebackMonth]
    fields: list[str]


def asked_of(given: Mapping[str, str], now_us: int) -> Asked:
    """What a query asks. Raises InvalidInput for what cannot be."""
    unknown = [name for name in given if name not in NAMES]
    if unknown:
        raise InvalidInput(f"There is no {quoted(unknown[0], 40)} here; give {', '.join(NAMES)}", "$")
    today = now_us // DAY_US
    end = _day(given, "to", today + 1)
    first = _day(given, "from", end - USUAL_DAYS)
    if not first < end:
        raise InvalidInput("Expected a day after `from`: `to` is the day after the last one", "$.to")
    if end - first > MOST_DAYS:
        raise InvalidInput(f"Expected at most {MOST_DAYS:,} days, got {end - first:,}", "$.from")
    each = next((one for one in EACH if one == given.get("each", "day")), None)
    if each is None:
        raise InvalidInput(f"Expected one of {', '.join(EACH)}", "$.each")
    by = given.get("by")
    if by is not None and by not in (MODEL, VARIANT) and not by.startswith(FIELD):
        raise InvalidInput("Expected model, variant, or field: and a name, as in field:country", "$.by")
    if given.get("value") is not None and by is None:
        raise InvalidInput("Expected `by` beside `value`: it says of what it is a value", "$.by")
    return Asked((first, end), each, by, given.get("value"), given.get("source", CHARGEBACKS))


def business(
    view: View, asked: Asked, now_us: int, label_delay: tuple[str, int], currency: str | None = None
) -> Business:
    """The figures. `label_delay` is how long outcomes take, as text and in microseconds.

    `currency` is that of amounts of which no field says it.

    Raises InvalidInput for a field that is not counted.
    """
    text, delay_us = label_delay
    mature_before = (now_us - delay_us) // DAY_US
    begin = view.sums_begin()
    fields = [] if begin is None else list(begin.counted.fields)
    if asked.by is not None and asked.by.startswith(FIELD) and asked.by.removeprefix(FIELD) not in fields:
        raise InvalidInput(f"Expected a field that is counted: {', '.join(fields) or 'there is none'}", "$.by")
    part, value = (ALL, None) if asked.value is None else (asked.by or ALL, f"={asked.value}")
    first, end = asked.days
    declared = None if begin is not None and begin.counted.currency is not None else currency
    found = _in_currency(view.summed_by_day(part, (first - (end - first), end), mature_before, value), declared)
    rows = [row for row in found if _of_day(row) >= first]
    rules = [
        rule_figures(view.summed_by_value(one, asked.days, mature_before), is_shadow=one == SHADOW)
        for one in (RULE, SHADOW)
    ]
    sources = {row.value or "" for row in view.summed_by_value(SOURCE, asked.days, mature_before)}
    return Business(
        begin=_text(first), end=_text(end), each=asked.each, by=asked.by, value=asked.value,
        label_delay=text, mature_until=_text(min(max(mature_before, 0), now_us // DAY_US)),
        counted_since=iso(begin.received_us) if begin is not None and begin.lacks_older else None,
        is_mature=end <= mature_before,
        total=figures_of(rows), before=figures_of(row for row in found if _of_day(row) < first),
        periods=_periods(rows, asked, mature_before),
        groups=[] if asked.by is None else _groups(
            _in_currency(view.summed_by_value(asked.by, asked.days, mature_before), declared)
        ),
        actions=action_figures(rows), rules=[*rules[0], *rules[1]],
        source=asked.source, sources=sorted(one.removeprefix("=") for one in sources),
        chargebacks=_chargebacks(view, asked, mature_before), fields=fields,
    )  # fmt: skip


def _in_currency(rows: Iterable[Summed], currency: str | None) -> list[Summed]:
    """The same sums, their money in this currency where there is money."""
    if currency is None:
        return list(rows)
    return [row._replace(unit=f"{row.unit} {currency}" if row.unit else "") for row in rows]


def _periods(rows: Iterable[Summed], asked: Asked, mature_before: int) -> list[Period]:
    by_begin: dict[int, list[Summed]] = {}
    for row in rows:
        by_begin.setdefault(_begin(_of_day(row), asked.each), []).append(row)
    first, end = asked.days
    found, at = [], _begin(first, asked.each)
    while at < end:
        following = _begin(at + {"day": 1, "week": 7, "month": 31}[asked.each], asked.each)
        found.append(
            Period(
                begin=_text(max(at, first)), end=_text(min(following, end)),
                is_mature=min(following, end) <= mature_before, figures=figures_of(by_begin.get(at, ())),
            )
        )  # fmt: skip
        at = following
    return found


def _groups(rows: Iterable[Summed]) -> list[Group]:
    by_value: dict[str, list[Summed]] = {}
    for row in rows:
        by_value.setdefault(row.value or "", []).append(row)
    found = [
        Group(
            value=value[1:] if value.startswith("=") else None,
            kind="value" if value.startswith("=") else "missing" if value == MISSING else "other",
            figures=figures_of(some),
        )
        for value, some in by_value.items()
    ]
    return sorted(found, key=lambda one: (-one.figures.decisions, one.value or ""))


def _chargebacks(view: View, asked: Asked, mature_before: int) -> list[ChargebackMonth]:
    """Whole months, whatever days of them are asked for."""
    months, at = list[Days](), _begin(asked.days[0], "month")
    while at < asked.days[1]:
        months.append((at, _begin(at + 31, "month")))
        at = months[-1][1]
    whole, source = (months[0][0], months[-1][1]), f"={asked.source}"
    paid = view.summed_by_day(ALL, whole, mature_before)
    of_payments = view.summed_by_day(SOURCE, whole, mature_before, source)
    told = view.summed_by_day(TOLD, whole, mature_before, source)
    found = []
    for month in months:
        payments = sum(row.decisions for row in _within(paid, month) if row.action != Action.BLOCK)
        of, news = (sum(row.frauds for row in _within(some, month)) for some in (of_payments, told))
        found.append(
            ChargebackMonth(
                month=_text(month[0])[:7], payments=payments, of_payments=of, told=news,
                of_payments_bps=basis_points(of, payments), told_bps=basis_points(news, payments),
                is_mature=month[1] <= mature_before,
            )
        )  # fmt: skip
    return found


def _within(rows: Iterable[Summed], days: Days) -> list[Summed]:
    return [row for row in rows if days[0] <= _of_day(row) < days[1]]


def _of_day(row: Summed) -> int:
    return row.day or 0


def _begin(day: int, each: Each) -> int:
    """The first day of the week (Monday) or the month that a day is in.

    >>> _begin(4, "week"), _begin(10, "week"), _begin(45, "month"), _begin(45, "day")
    (4, 4, 31, 45)
    """
    if each == "week":
        return day - (day + 3) % 7
    return day if each == "day" else day - (_date(day).day - 1)


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)


def _text(day: int) -> str:
    return _date(day).isoformat()


def _day(given: Mapping[str, str], name: str, otherwise: int) -> int:
    text = given.get(name)
    if text is None:
        return otherwise
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidInput(f"Expected a day such as 2026-11-30, got {quoted(text, 40)}", f"$.{name}") from None
    if not 1970 < moment.year < 2100:
        raise InvalidInput("Expected a day from 1971 to 2099", f"$.{name}")
    return (moment.date() - _EPOCH).days
