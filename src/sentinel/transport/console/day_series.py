"""Days: what Live draws of a week or a month, from the sums of each day that the view keeps."""

from collections import Counter
from collections.abc import Sequence

from sentinel.events.times import SECOND_US
from sentinel.record.views import Summed, View
from sentinel.transport.console.words import ACTIONS

DAY_S = 86_400
KEPT_DAYS = 30
Series = dict[str, list[float | None]]
_NOT_BY_DAY = ("degraded", "p50", "p99", "p999")


def days_of(view: View, now_us: int) -> Series:
    """The last 30 days in UTC: two queries of sums, however many decisions they are of."""
    end = now_us // SECOND_US // DAY_S + 1
    begin = view.sums_begin()
    since = end if begin is None else begin.received_us // SECOND_US // DAY_S
    return series_of_days(view.summed_by_day("all", (end - KEPT_DAYS, end), 0), since, now_us)


def series_of_days(sums: Sequence[Summed], since: int, now_us: int) -> Series:
    """A list for each thing that is drawn, a point a day: how many decisions it had, today so far.

    None before the day `since`, of which nothing is counted, and of what days do not keep: latencies.
    """
    counts: Counter[tuple[int, str]] = Counter()
    for one in sums:
        if one.day is not None:
            counts[one.day, one.action] += one.decisions
    today = now_us // SECOND_US // DAY_S
    found: Series = {name: [] for name in ("at", "rate", *ACTIONS, *_NOT_BY_DAY)}
    for day in range(today - KEPT_DAYS + 1, today + 1):
        known = [None if day < since else float(counts[day, one]) for one in ACTIONS]
        found["at"].append(float(day * DAY_S))
        found["rate"].append(None if day < since else sum(one or 0.0 for one in known))
        for name, n in zip(ACTIONS, known, strict=True):
            found[name].append(n)
        for name in _NOT_BY_DAY:
            found[name].append(None)
    return found


def last_of(series: Series, days: int) -> Series:
    """The newest days of a series."""
    return {name: values[-days:] for name, values in series.items()}
