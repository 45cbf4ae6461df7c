"""Features by brute force: the whole past in a list, every window summed afresh with Python's own integers."""

import math
from fractions import Fraction
from typing import Any

from sentinel.events.times import duration_us
from sentinel.features.definitions import Feature

NAN = math.nan


def replay(plan: Any, events: list[dict[str, Any]]) -> list[list[float]]:
    """Rows of `plan.features` for the transactions among `events`.

    An event is {"id", "time", "received", <field>: int, float, text or None} or {"outcome": id, "fraud": bool}.
    """
    most_ahead = duration_us(plan.schema.max_ahead)
    past: list[dict[str, Any]] = []
    clocks: dict[tuple[str, Any], int] = {}
    labels: dict[str, int] = {}
    rows = []
    for event in events:
        if "outcome" in event:
            labels[event["outcome"]] = int(event["fraud"])
            continue
        at = event["time"] if event["time"] - event["received"] < most_ahead else event["received"] + most_ahead
        counted_at = {}
        for key in plan.schema.keys:
            heard = [one["received"] for one in past if one[key] == event[key]]
            is_new = not heard or event["received"] - heard[-1] > horizon(plan, key)
            counted_at[key] = at if is_new else max(clocks[key, event[key]], at)
        past.append({**event, "at": at, "counted_at": counted_at})
        rows.append([value(plan, feature, past, labels) for feature in plan.features])
        for key, now in counted_at.items():
            clocks[key, event[key]] = now
    return rows


def value(plan: Any, feature: Feature, past: list[dict[str, Any]], labels: dict[str, int]) -> float:
    if feature.kind == "ratio":
        top, bottom = (value(plan, part, past, labels) for part in feature.parts)
        return NAN if bottom == 0 else top / bottom
    if feature.by is None:
        return of_row(plan, feature, past[-1])
    if past[-1][feature.by] is None:
        return NAN
    mine = remembered([one for one in past if one[feature.by] == past[-1][feature.by]], horizon(plan, feature.by))
    if feature.over is None:
        return since_last(plan, feature, mine)
    return of_window(plan, feature, inside(feature, mine), labels)


def horizon(plan: Any, by: str) -> int:
    """How long a key is remembered after its last transaction, in microseconds."""
    return _horizon(plan.features, by, duration_us(plan.forget_after)) + duration_us(plan.schema.max_late)


_known: list[tuple[Any, str, int, int]] = []  # looked up by identity: a hash of a hundred features takes longer


def _horizon(features: tuple[Feature, ...], by: str, forget_after_us: int) -> int:
    for found in _known:
        if found[0] is features and found[1:3] == (by, forget_after_us):
            return found[3]
    mine = [part for feature in features for part in (feature, *feature.parts) if part.by == by]
    reaches = [
        duration_us(one.over) + (duration_us(one.delay) if one.delay else 0) if one.over else forget_after_us
        for one in mine
    ]
    _known.append((features, by, forget_after_us, max(reaches, default=0)))
    return _known[-1][3]


def remembered(mine: list[dict[str, Any]], horizon_us: int) -> list[dict[str, Any]]:
    """The key's events since it was last forgotten."""
    first = len(mine) - 1
    while first > 0 and mine[first]["received"] - mine[first - 1]["received"] <= horizon_us:
        first -= 1
    return mine[first:]


def inside(feature: Feature, mine: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The key's events in (now - delay - over, now - delay], where a late one counts at the key's clock."""
    over = duration_us(feature.over or "")
    delay = duration_us(feature.delay) if feature.delay else 0
    now = mine[-1]["counted_at"][feature.by]
    candidates = mine if feature.include_current else mine[:-1]
    return [
        one
        for one in candidates
        if now - delay - over < one["counted_at"][feature.by] <= now - delay
        and one["counted_at"][feature.by] - one["at"] < over + delay
    ]


def of_window(plan: Any, feature: Feature, window: list[dict[str, Any]], labels: dict[str, int]) -> float:
    if feature.kind == "count":
        return float(len(window))
    frauds = sum(labels.get(one["id"], 0) for one in window)
    if feature.kind == "fraud_count":
        return float(frauds)
    if feature.kind == "fraud_rate":
        return frauds / len(window) if window else 0.0
    values = [one[feature.of] for one in window if one[feature.of] is not None]
    if feature.kind == "distinct":
        return float(len(set(values)))
    scale = 10 ** plan.schema.decimals[feature.of]
    whole = [round(one * scale) for one in values]
    if feature.kind == "total":
        return float(sum(whole)) / scale
    if not whole:
        return NAN
    if feature.kind == "mean":
        return float(sum(whole)) / (len(whole) * scale)
    if feature.kind == "std":
        numerator = len(whole) * sum(one * one for one in whole) - sum(whole) ** 2
        assert Fraction(numerator, len(whole) ** 2) == variance(whole)
        return math.sqrt(float(numerator)) / (len(whole) * scale)
    return (min(whole) if feature.kind == "minimum" else max(whole)) / scale


def variance(whole: list[int]) -> Fraction:
    centre = Fraction(sum(whole), len(whole))
    return sum(((one - centre) ** 2 for one in whole), Fraction(0)) / len(whole)


def since_last(plan: Any, feature: Feature, mine: list[dict[str, Any]]) -> float:
    if feature.gap is not None:
        return of_session(plan, feature, mine)
    if len(mine) == 1:
        return NAN
    seconds = (mine[-1]["counted_at"][feature.by] - mine[-2]["counted_at"][feature.by]) / 1e6
    if feature.kind == "seconds_since_last":
        return seconds
    if feature.kind == "last":
        previous = mine[-2][feature.of]
        scale = 10 ** plan.schema.decimals[feature.of]
        return NAN if previous is None else round(previous * scale) / scale
    distance = kilometres(*(tuple(one[name] for name in plan.schema.place) for one in mine[-2:]))
    return distance if feature.kind == "distance_since_last" else distance / (max(seconds, 1.0) / 3600)


def of_session(plan: Any, feature: Feature, mine: list[dict[str, Any]]) -> float:
    first = len(mine) - 1
    times = [one["counted_at"][feature.by] for one in mine]
    while first > 0 and times[first] - times[first - 1] <= duration_us(feature.gap or ""):
        first -= 1
    if feature.kind == "session_count":
        return float(len(mine) - first)
    if feature.kind == "session_seconds":
        return (times[-1] - times[first]) / 1e6
    scale = 10 ** plan.schema.decimals[feature.of]
    return float(sum(round(one[feature.of] * scale) for one in mine[first:] if one[feature.of] is not None)) / scale


def kilometres(a: Any, b: Any) -> float:
    (latitude_a, longitude_a), (latitude_b, longitude_b) = a, b
    if None in (latitude_a, longitude_a, latitude_b, longitude_b):
        return NAN
    unit = math.pi / 180 / 1e6
    (phi_a, lambda_a), (phi_b, lambda_b) = ((round(x * 1e6) * unit, round(y * 1e6)) for x, y in (a, b))
    across, along = math.sin((phi_b - phi_a) / 2), math.sin((lambda_b - lambda_a) * unit / 2)
    h = across * across + math.cos(phi_a) * math.cos(phi_b) * (along * along)
    return 2 * 6371.0088 * math.asin(math.sqrt(min(h, 1.0)))


def of_row(plan: Any, feature: Feature, row: dict[str, Any]) -> float:
    if feature.kind == "field":
        return NAN if row[feature.of] is None else float(row[feature.of])
    if feature.kind == "category":
        words = plan.vocabulary[feature.of]
        if row[feature.of] is None:
            return NAN
        return float(words.index(row[feature.of]) if row[feature.of] in words else len(words))
    day, rest = divmod(row["time"], 86_400_000_000)
    if feature.kind == "hour_of_day":
        return float(rest // 3_600_000_000)
    if feature.kind == "is_night":
        return float(rest // 3_600_000_000 <= feature.last_hour)
    weekday = (day + 3) % 7
    return float(weekday) if feature.kind == "day_of_week" else float(weekday >= 5)
