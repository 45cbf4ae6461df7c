"""Features by brute force: the whole past in a list, every window summed afresh with Python's own integers."""

import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from sentinel.events import times
from sentinel.features.conditions import Where
from sentinel.features.definitions import Feature

NAN = math.nan
duration_us = cache(times.duration_us)
Event = dict[str, Any]
Group = tuple[tuple[str, ...], str | None]
"""What features follow: the fields of a key, and the event of the context that is counted, if it is one."""


@dataclass
class Key:
    """What is known of one key: its clock, when it was last heard of, and its events since it was forgotten."""

    clock: int
    heard: int = 0
    events: list[Event] = field(default_factory=list)


def replay(plan: Any, events: list[Event]) -> list[list[float]]:
    """Rows of `plan.features` for the transactions among `events`.

    An event is {"id", "time", "received", <field>: int, float, text or None}, one of the context with its name as
    "context", or {"outcome": id, "fraud": bool}, which is about the newest transaction of that id.
    """
    most_ahead = duration_us(plan.schema.max_ahead)
    horizons = horizons_of(plan)
    keys: dict[tuple[Group, tuple[Any, ...]], Key] = {}
    labels: dict[str, int] = {}
    rows, newest = [], {}
    for n, event in enumerate(events):
        if "outcome" in event:
            labels[newest.get(event["outcome"], "of nothing")] = int(event["fraud"])
            continue
        if "id" in event:
            newest[event["id"]] = f"{event['id']}, given at {n}"
            event = {**event, "id": newest[event["id"]]}
        at = event["time"] if event["time"] - event["received"] < most_ahead else event["received"] + most_ahead
        seen = {}
        for group, horizon in horizons.items():
            name = tuple(event[one] for one in group[0])
            is_counted = group[1] == event.get("context")
            if None in name or not (is_counted or "context" not in event):
                continue
            known = keys.get((group, name))
            if known is not None and event["received"] - known.heard > horizon:
                known = None
            if known is None:
                if not is_counted:
                    seen[group] = Key(at)
                    continue
                known = keys[group, name] = Key(at)
            known.clock = max(known.clock, at)
            if is_counted:
                known.heard = event["received"]
                known.events.append({**event, "at": at, "counted_at": known.clock})
            seen[group] = known
        if "context" not in event:
            rows.append([value(plan, feature, event, seen, labels) for feature in plan.features])
    return rows


def horizons_of(plan: Any) -> dict[Group, int]:
    """How long a key of each group is remembered after its last event, in microseconds."""
    reaches: dict[Group, int] = {}
    for one in all_of(plan.features):
        if one.key:
            reach = duration_us(one.over) if one.over else duration_us(plan.forget_after)
            reach += duration_us(one.delay) if one.delay else 0
            reaches[one.key, one.event] = max(reaches.get((one.key, one.event), 0), reach)
    return {group: reach + duration_us(plan.schema.max_late) for group, reach in reaches.items()}


def all_of(features: tuple[Feature, ...]) -> list[Feature]:
    return [one for feature in features for one in (feature, *all_of(feature.parts))]


def value(plan: Any, feature: Feature, event: Event, seen: dict[Group, Key], labels: dict[str, int]) -> float:
    if feature.parts:
        return combined(feature, [value(plan, part, event, seen, labels) for part in feature.parts])
    if not feature.key:
        return of_row(plan, feature, event)
    known = seen.get((feature.key, feature.event))
    if known is None:
        return NAN
    if feature.over is None:
        return since_last(plan, feature, event, known)
    return of_window(plan, feature, event, inside(plan, feature, known), labels)


def combined(feature: Feature, parts: list[float]) -> float:
    if feature.kind == "ratio":
        return NAN if parts[1] == 0 else parts[0] / parts[1]
    if feature.kind == "difference":
        return parts[0] - parts[1]
    turn = parts[0] / feature.period * (2 * math.pi)
    return math.sin(turn) if feature.kind == "sine" else math.cos(turn)


def earlier(feature: Feature, known: Key) -> list[Event]:
    """The key's events without the current transaction."""
    return known.events if feature.event else known.events[:-1]


def inside(plan: Any, feature: Feature, known: Key) -> list[Event]:
    """The key's events in (now - delay - over, now - delay], where a late one counts at the key's clock."""
    over = duration_us(feature.over or "")
    delay = duration_us(feature.delay) if feature.delay else 0
    is_of_all = feature.include_current and feature.kind != "is_first"
    return [
        one
        for one in (known.events if is_of_all else earlier(feature, known))
        if known.clock - delay - over < one["counted_at"] <= known.clock - delay
        and one["counted_at"] - one["at"] < over + delay
        and holds(plan, feature.where, one)
    ]


def holds(plan: Any, where: Where | None, event: Event) -> bool:
    if where is None:
        return True
    if where.parts:
        parts = [holds(plan, part, event) for part in where.parts]
        return {"and": all(parts), "or": any(parts), "not": not parts[0]}[where.op]
    found = event[where.of]
    if where.op == "missing" or found is None:
        return where.op == "missing" and found is None
    values: Sequence[Any] = where.values
    if where.of in plan.schema.decimals:
        scale = 10 ** plan.schema.decimals[where.of]
        found, values = Fraction(round(found * scale), scale), fractions_of(values)
    return found in values if where.op in ("==", "in") else COMPARED[where.op](found, values[0])


COMPARED = {"!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@cache
def fractions_of(values: tuple[float, ...]) -> list[Fraction]:
    """The numbers as they are written."""
    return [Fraction(str(one)) for one in values]


def of_window(plan: Any, feature: Feature, event: Event, window: list[Event], labels: dict[str, int]) -> float:
    if feature.kind == "count":
        return float(len(window))
    frauds = sum(labels.get(one["id"], 0) for one in window) if feature.event is None else 0
    if feature.kind == "fraud_count":
        return float(frauds)
    if feature.kind == "fraud_rate":
        return frauds / len(window) if window else 0.0
    values = [one[feature.of] for one in window if one[feature.of] is not None]
    if feature.of in plan.schema.texts:
        return of_texts(feature.kind, values, event[feature.of])
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


def of_texts(kind: str, values: list[str], own: str | None) -> float:
    if kind == "distinct":
        return float(len(set(values)))
    if kind == "is_first":
        return NAN if own is None else float(own not in values)
    if not values or (kind == "share" and own is None):
        return NAN
    times = Counter(values)
    if kind == "share":
        return times[own] / len(values)
    if kind == "top_share":
        return max(times.values()) / len(values)
    bits = math.log2(len(values)) - sum(n * math.log2(n) for n in times.values()) / len(values)
    found = (steps_of_log(len(values)) - sum(map(steps_of_log, times.values()))) / (len(values) * 2**30)
    assert abs(found - bits) < 1e-7
    return found


@cache
def steps_of_log(n: int) -> int:
    """N log2 n in steps of 2^-30, cut off: how often 2 goes into n, and into what squaring makes of the rest."""
    whole = n.bit_length() - 1
    rest, log = Fraction(n, 2**whole), whole
    for _ in range(30):
        rest = Fraction(int(rest * rest * 2**31), 2**31)
        log = 2 * log + int(rest >= 2)
        rest = Fraction(int(rest / 2 * 2**31), 2**31) if rest >= 2 else rest
    return n * log


def variance(whole: list[int]) -> Fraction:
    centre = Fraction(sum(whole), len(whole))
    return sum(((one - centre) ** 2 for one in whole), Fraction(0)) / len(whole)


def since_last(plan: Any, feature: Feature, event: Event, known: Key) -> float:
    if feature.gap is not None:
        return of_session(plan, feature, known.events)
    before = [one for one in earlier(feature, known) if holds(plan, feature.where, one)]
    if not before:
        return NAN
    seconds = (known.clock - before[-1]["counted_at"]) / 1e6
    if feature.kind == "seconds_since_last":
        return seconds
    if feature.kind == "last":
        previous = before[-1][feature.of]
        scale = 10 ** plan.schema.decimals[feature.of]
        return NAN if previous is None else round(previous * scale) / scale
    distance = kilometres(*(tuple(one[name] for name in plan.schema.place) for one in (before[-1], event)))
    return distance if feature.kind == "distance_since_last" else distance / (max(seconds, 1.0) / 3600)


def of_session(plan: Any, feature: Feature, mine: list[Event]) -> float:
    first = len(mine) - 1
    times = [one["counted_at"] for one in mine]
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


def of_row(plan: Any, feature: Feature, row: Event) -> float:
    if feature.kind == "field":
        return NAN if row[feature.of] is None else float(row[feature.of])
    if feature.kind == "is_round":
        scale = 10 ** plan.schema.decimals[feature.of]
        is_whole = row[feature.of] is not None and Fraction(round(row[feature.of] * scale), scale) % Fraction(
            feature.to
        )
        return NAN if row[feature.of] is None else float(is_whole == 0)
    if feature.kind == "category":
        words = plan.vocabulary[feature.of]
        if row[feature.of] is None:
            return NAN
        return float(words.index(row[feature.of]) if row[feature.of] in words else len(words))
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["time"])
    local = local.astimezone(ZoneInfo(feature.timezone or "UTC"))
    if feature.kind == "hour_of_day":
        return float(local.hour)
    if feature.kind == "is_night":
        return float(local.hour <= feature.last_hour)
    if feature.kind == "time_of_day":
        seconds = local.hour * 3600 + local.minute * 60 + local.second
        return (seconds * 1_000_000 + local.microsecond) / 3_600_000_000
    return float(local.weekday()) if feature.kind == "day_of_week" else float(local.weekday() >= 5)
