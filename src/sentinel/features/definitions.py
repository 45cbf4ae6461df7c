"""The features a detector can declare. Each function returns plain data; nothing is computed here.

Windows are half open, (t - over, t], and count the current transaction unless `include_current=False`.
A `delay` moves the whole window into the past: (t - delay - over, t - delay]. The examples give the minutes at which
transactions of one card come, and what the feature (see `example.py`) is at each of them.
"""

import math
import sys
from pathlib import Path
from typing import TypeAlias, TypedDict, Unpack

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.times import TimeForm, duration_us
from sentinel.features.conditions import Where

_HERE = str(Path(__file__).parent)

By: TypeAlias = str | tuple[str, ...]
"""What is followed: a key of the schema, or several fields together."""


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, dict=True):
    """One column of the model's input: what to compute (`kind`), of which field, for which key, over what.

    `where` says which events count, `event` which kind of the context is counted in place of transactions.
    """

    kind: str
    name: str
    of: str | None = None
    by: By | None = None
    over: str | None = None
    delay: str | None = None
    include_current: bool = True
    gap: str | None = None
    last_hour: int | None = None
    parts: tuple["Feature", ...] = ()
    where: Where | None = None
    event: str | None = None
    timezone: str | None = None
    period: float | None = None
    to: float | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "_line", _line_outside())
        try:
            self._check_windows()
        except InvalidDefinition as error:
            raise InvalidDefinition(f"{self.line}: {self.name}: {error}") from None

    def _check_windows(self) -> None:
        for name, text in (("over", self.over), ("delay", self.delay), ("gap", self.gap)):
            if text is not None:
                _check_duration(name, text)
        if self.where is not None and not isinstance(self.where, Where):
            raise InvalidDefinition(
                f'where is {self.where!r}, which is no condition; write one with col, as in where=col("amount") > 100'
            )
        if self.timezone is not None:
            TimeForm.of(self.timezone, None, None)

    @property
    def line(self) -> str:
        """The file and line that declared it (`detector.py:12`); equality and what is written leave it out."""
        found: str = self.__dict__.get("_line", "")
        return found

    @property
    def key(self) -> tuple[str, ...]:
        """The fields that it follows; none for a feature without a key."""
        return (self.by,) if isinstance(self.by, str) else self.by or ()

    @property
    def all_parts(self) -> tuple["Feature", ...]:
        """The feature itself, and those that it is made of."""
        return (self, *(one for part in self.parts for one in part.all_parts))

    def named(self, name: str) -> "Feature":
        """The same feature under another column name."""
        return msgspec.structs.replace(self, name=name)


def _check_duration(name: str, text: object) -> None:
    if not isinstance(text, str):
        seconds = text if isinstance(text, int) and text is not True and text > 0 else 60
        raise InvalidDefinition(f'{name} is {text!r}, which is no text; write {name}="{seconds}s" for seconds, or "1h"')
    try:
        duration_us(text)
    except InvalidDefinition as error:
        raise InvalidDefinition(f"{name}: {error}") from None


def _line_outside() -> str:
    """The file and line of the nearest caller outside of this folder."""
    frame = sys._getframe(1)  # noqa: SLF001  # `inspect` would read source files
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_HERE, "<")):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def field(of: str) -> Feature:
    """A number of the transaction, as it is; an exact number in major units (12.34).

    >>> example(field("amount"), [0], amount=[12.34])
    [12.34]
    """
    return Feature(kind="field", name=of, of=of)


def category(of: str) -> Feature:
    """A text as a code learned on the training data: 0 for the most frequent value, one code for any other.

    >>> example(category("channel"), [0, 1, 2, 3], channel=["web", "chip", "web", "fax"])
    [0.0, 1.0, 0.0, 2.0]
    """
    return Feature(kind="category", name=of, of=of)


def hour_of_day(timezone: str | None = None) -> Feature:
    """Hour of the transaction, 0 to 23; of UTC, or of a time zone with its daylight saving (`Europe/Madrid`).

    >>> example(hour_of_day(), [0, 90, 1439])
    [0.0, 1.0, 23.0]
    >>> example(hour_of_day("Europe/Madrid"), [0, 90, 1439])
    [1.0, 2.0, 0.0]
    """
    return _time_part("hour_of_day", timezone)


def time_of_day(timezone: str | None = None) -> Feature:
    """Hours since midnight, with their fractions.

    >>> example(time_of_day(), [0, 90, 1439])
    [0.0, 1.5, 23.983]
    """
    return _time_part("time_of_day", timezone)


def day_of_week(timezone: str | None = None) -> Feature:
    """Day of the week, 0 for Monday to 6 for Sunday.

    >>> example(day_of_week(), [0, 1439, 1440])
    [0.0, 0.0, 1.0]
    """
    return _time_part("day_of_week", timezone)


def is_weekend(timezone: str | None = None) -> Feature:
    """1 on Saturday and Sunday.

    >>> example(is_weekend(), [0, 5 * 1440])
    [0.0, 1.0]
    """
    return _time_part("is_weekend", timezone)


def is_night(last_hour: int = 5, timezone: str | None = None) -> Feature:
    """1 from midnight to the end of `last_hour`.

    >>> example(is_night(last_hour=5), [0, 359, 360])
    [1.0, 1.0, 0.0]
    """
    if not 0 <= last_hour <= 23:
        raise InvalidDefinition(f"is_night: last_hour is {last_hour}; an hour is 0 to 23")
    return _time_part("is_night", timezone, last_hour)


def _time_part(kind: str, timezone: str | None, last_hour: int | None = None) -> Feature:
    name = kind if timezone is None else f"{kind}_{timezone.replace('/', '_')}"
    return Feature(kind=kind, name=name, timezone=timezone, last_hour=last_hour)


def sine(of: str | Feature, *, period: float) -> Feature:
    """Sine of a number that comes round after `period`: with `cosine`, 23:00 lies beside 1:00.

    >>> example(sine(time_of_day(), period=24), [0, 360, 1080])
    [0.0, 1.0, -1.0]
    """
    return _cyclic("sine", of, period)


def cosine(of: str | Feature, *, period: float) -> Feature:
    """Cosine of a number that comes round after `period`.

    >>> example(cosine(day_of_week(), period=7), [0, 1440])
    [1.0, 0.623]
    """
    return _cyclic("cosine", of, period)


def _cyclic(kind: str, of: str | Feature, period: float) -> Feature:
    part = _part(of)
    if not (period > 0 and math.isfinite(period)):
        raise InvalidDefinition(f"{kind}: the period is {period}; it is a positive number, as 24 for hours")
    return Feature(kind=kind, name=f"{kind}_{part.name}_of_{period:g}", parts=(part,), period=float(period))


def is_round(of: str, *, to: float = 10) -> Feature:
    """1 when an exact number is a whole multiple of `to`, in major units.

    >>> example(is_round("amount", to=10), [0, 1, 2], amount=[120, 125, 119.99])
    [1.0, 0.0, 0.0]
    """
    if not (to > 0 and math.isfinite(to)):
        raise InvalidDefinition(f"is_round: `to` is {to}; it is a positive number")
    return Feature(kind="is_round", name=f"is_round_{of}_to_{to:g}", of=of, to=float(to))


def _named(kind: str, of: str | None, by: By, *rest: str | None, event: str | None, where: Where | None) -> str:
    keys = by if isinstance(by, str) else "_and_".join(by)
    # what is no text or no condition is refused with the feature, by this name
    name = "_".join(str(part) for part in (kind, of, event, "by", keys, *rest) if part)
    return f"{name}_where_{where.words}" if isinstance(where, Where) else name


def _plain(by: By) -> By:
    """A key of one field is that field. Raises InvalidDefinition for what names no field."""
    if isinstance(by, str):
        return by
    if not (isinstance(by, tuple | list) and by and all(isinstance(one, str) for one in by)):
        raise InvalidDefinition(f'by is {by!r}; write a key of the schema, by="card", or several, by=("card", "shop")')
    return by[0] if len(by) == 1 else tuple(by)


def seconds_between(begin: str, end: str) -> Feature:
    """Seconds from one time of the transaction to another, such as the age of an account; missing when one is.

    Each is the time of the event, or one of the schema's further `times`.

    >>> example(seconds_between("opened", "event_time"), [0], opened=[datetime(2023, 12, 31)])
    [86400.0]
    """
    parts = tuple(Feature(kind="instant", name=name, of=name) for name in (begin, end))
    return Feature(kind="seconds_between", name=f"seconds_between_{begin}_and_{end}", parts=parts)


class Window(TypedDict, total=False):
    """What every window can be asked for.

    `delay` moves it into the past, where the feature can be delayed; `include_current=False` leaves the current
    transaction out; `where` says which events count; `event` counts a kind of the context in place of transactions.
    """

    delay: str | None
    include_current: bool
    where: Where | None
    event: str | None


def _window(
    kind: str, of: str | None, by: By, over: str, *, delay: str | None = None, include_current: bool = True,
    where: Where | None = None, event: str | None = None,
) -> Feature:  # fmt: skip
    by = _plain(by)
    before = None if include_current else "before"
    name = _named(kind, of, by, over, delay and f"delayed_{delay}", before, event=event, where=where)
    return Feature(
        kind=kind, name=name, of=of, by=by, over=over, delay=delay, include_current=include_current, where=where,
        event=event,
    )  # fmt: skip


def count(*, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """How many transactions of this key are in the window.

    >>> example(count(by="card", over="10m"), [0, 5, 10])
    [1.0, 2.0, 2.0]
    >>> example(count(by=("card", "shop"), over="10m"), [0, 5, 6], shop=["x", "y", "x"])
    [1.0, 1.0, 2.0]
    >>> example(count(by="card", over="10m", where=col("status") == "no"), [0, 5, 6], status=["no", "ok", "ok"])
    [1.0, 1.0, 1.0]
    >>> example(count(event="login", by="user", over="1h"), [0, 5, 6], event=["login", "", ""], user=["a", "a", "b"])
    [1.0, 0.0]
    """
    return _window("count", None, by, over, **window)


def total(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """Sum of an exact number over the window; 0 when it is empty.

    >>> example(total("amount", by="card", over="10m"), [0, 5, 10], amount=[10, 20, 60])
    [10.0, 30.0, 80.0]
    """
    return _window("total", of, by, over, **window)


def mean(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """Mean of an exact number over the window; missing when it is empty.

    >>> example(mean("amount", by="card", over="10m", include_current=False), [0, 5, 10], amount=[10, 20, 60])
    [nan, 10.0, 20.0]
    """
    return _window("mean", of, by, over, **window)


def std(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """Population standard deviation of an exact number over the window; missing when it is empty.

    >>> example(std("amount", by="card", over="10m"), [0, 5, 10], amount=[10, 20, 60])
    [0.0, 5.0, 20.0]
    """
    return _window("std", of, by, over, **window)


def minimum(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """Least value of an exact number in the window; missing when it is empty.

    >>> example(minimum("amount", by="card", over="10m"), [0, 5, 10], amount=[10, 20, 60])
    [10.0, 10.0, 20.0]
    """
    return _window("minimum", of, by, over, **window)


def maximum(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """Greatest value of an exact number in the window; missing when it is empty.

    >>> example(maximum("amount", by="card", over="10m"), [0, 5, 10], amount=[60, 20, 10])
    [60.0, 60.0, 20.0]
    """
    return _window("maximum", of, by, over, **window)


def distinct(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """How many different values a text takes in the window; missing values do not count.

    >>> example(distinct("shop", by="card", over="10m"), [0, 5, 10], shop=["x", "y", "y"])
    [1.0, 2.0, 1.0]
    """
    return _window("distinct", of, by, over, **window)


def is_first(of: str, *, by: By, over: str = "90d", where: Where | None = None, event: str | None = None) -> Feature:
    """1 when no earlier event in the key's window has this transaction's value of a text; missing without a value.

    >>> example(is_first("shop", by="card", over="10m"), [0, 5, 6, 15], shop=["x", "y", "x", "y"])
    [1.0, 1.0, 0.0, 1.0]
    """
    return _window("is_first", of, by, over, where=where, event=event)


def share(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """Share of the window's events that have this transaction's value of a text, among those that have one.

    Missing when this transaction has no value, or none in the window has.

    >>> example(share("shop", by="card", over="10m"), [0, 5, 6, 8], shop=["x", "y", "x", "x"])
    [1.0, 0.5, 0.667, 0.75]
    """
    return _window("share", of, by, over, **window)


def entropy(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """Entropy, in bits, of the values of a text in the window: 0 when all are one, log2(n) when n are as frequent.

    Missing when none has a value. Logarithms are taken in steps of 2^-30.

    >>> example(entropy("shop", by="card", over="10m"), [0, 5, 6, 7], shop=["x", "y", "x", "z"])
    [0.0, 1.0, 0.918, 1.5]
    """
    return _window("entropy", of, by, over, **window)


def top_share(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """Share of the most frequent value of a text in the window, among the events that have one; missing when none has.

    >>> example(top_share("shop", by="card", over="10m"), [0, 5, 6, 7], shop=["x", "y", "x", "x"])
    [1.0, 0.5, 0.667, 0.75]
    """
    return _window("top_share", of, by, over, **window)


def fraud_count(*, by: By, over: str, delay: str, where: Where | None = None) -> Feature:
    """Frauds of this key, as known now, among its transactions in the delayed window.

    >>> example(fraud_count(by="card", over="1h", delay="5m"), [0, 4, 5, 10], is_fraud=[1, 0, 0, 0])
    [0.0, 0.0, 1.0, 1.0]
    """
    return _window("fraud_count", None, by, over, delay=delay, where=where)


def fraud_rate(*, by: By, over: str, delay: str, where: Where | None = None) -> Feature:
    """Share of frauds, as known now, among the key's transactions in the delayed window; 0 when it is empty.

    >>> example(fraud_rate(by="card", over="1h", delay="5m"), [0, 4, 5, 10], is_fraud=[1, 0, 0, 0])
    [0.0, 0.0, 1.0, 0.333]
    """
    return _window("fraud_rate", None, by, over, delay=delay, where=where)


def seconds_since_last(*, by: By, where: Where | None = None) -> Feature:
    """Seconds since the key's previous transaction, or its previous one of a condition; missing on its first.

    >>> example(seconds_since_last(by="card"), [0, 5])
    [nan, 300.0]
    >>> example(seconds_since_last(by="card", where=col("amount") > 50), [0, 5, 6], amount=[60, 10, 70])
    [nan, 300.0, 360.0]
    """
    by = _plain(by)
    name = _named("seconds_since_last", None, by, event=None, where=where)
    return Feature(kind="seconds_since_last", name=name, by=by, where=where)


def seconds_since(event: str, *, by: By, where: Where | None = None) -> Feature:
    """Seconds since the key's last event of a kind of the context; missing when there was none.

    >>> example(seconds_since("login", by="user"), [0, 5, 6], event=["login", "", ""], user=["a", "a", "b"])
    [300.0, nan]
    """
    by = _plain(by)
    name = _named("seconds_since", None, by, event=event, where=where)
    return Feature(kind="seconds_since_last", name=name, by=by, where=where, event=event)


def last(of: str, *, by: By, where: Where | None = None, event: str | None = None) -> Feature:
    """Value of an exact number in the key's previous transaction, or its last event; missing on its first.

    >>> example(last("amount", by="card"), [0, 5, 10], amount=[10, 20, 60])
    [nan, 10.0, 20.0]
    """
    by = _plain(by)
    return Feature(
        kind="last", name=_named("last", of, by, event=event, where=where), of=of, by=by, where=where, event=event
    )


def distance_since_last(*, by: By) -> Feature:
    """Kilometres along the great circle from the place of the key's previous transaction.

    >>> example(distance_since_last(by="card"), [0, 30], latitude=[48.14, 52.52], longitude=[11.58, 13.4])
    [nan, 503.833]
    """
    by = _plain(by)
    return Feature(kind="distance_since_last", name=_named("km_since_last", None, by, event=None, where=None), by=by)


def speed_since_last(*, by: By) -> Feature:
    """That distance by the time between the two, in km/h; the time is taken as one second at least.

    >>> example(speed_since_last(by="card"), [0, 30], latitude=[48.14, 52.52], longitude=[11.58, 13.4])
    [nan, 1007.667]
    """
    by = _plain(by)
    return Feature(kind="speed_since_last", name=_named("kmh_since_last", None, by, event=None, where=None), by=by)


def _session(kind: str, of: str | None, by: By, gap: str) -> Feature:
    by = _plain(by)
    return Feature(kind=kind, name=_named(kind, of, by, gap, event=None, where=None), of=of, by=by, gap=gap)


def session_count(*, by: By, gap: str) -> Feature:
    """Transactions in the key's session, this one included; a pause longer than `gap` begins a new session.

    >>> example(session_count(by="card", gap="5m"), [0, 4, 10, 12])
    [1.0, 2.0, 1.0, 2.0]
    """
    return _session("session_count", None, by, gap)


def session_total(of: str, *, by: By, gap: str) -> Feature:
    """Sum of an exact number over the key's session, this transaction included.

    >>> example(session_total("amount", by="card", gap="5m"), [0, 4, 10, 12], amount=[10, 20, 60, 5])
    [10.0, 30.0, 60.0, 65.0]
    """
    return _session("session_total", of, by, gap)


def session_seconds(*, by: By, gap: str) -> Feature:
    """Seconds since the key's session began.

    >>> example(session_seconds(by="card", gap="5m"), [0, 4, 10, 12])
    [0.0, 240.0, 0.0, 120.0]
    """
    return _session("session_seconds", None, by, gap)


def ratio(of: str | Feature, *, to: str | Feature) -> Feature:
    """One feature or number by another; missing when either is missing or the divisor is 0.

    >>> example(ratio("amount", to=mean("amount", by="card", over="1h")), [0, 1], amount=[10, 30])
    [1.0, 1.5]
    """
    parts = (_part(of), _part(to))
    return Feature(kind="ratio", name=f"ratio_{parts[0].name}_to_{parts[1].name}", parts=parts)


def difference(of: str | Feature, minus: str | Feature) -> Feature:
    """One feature or number less another; missing when either is missing.

    >>> example(difference("amount", last("amount", by="card")), [0, 1], amount=[10, 30])
    [nan, 20.0]
    """
    parts = (_part(of), _part(minus))
    return Feature(kind="difference", name=f"{parts[0].name}_minus_{parts[1].name}", parts=parts)


def zscore(of: str, *, by: By, over: str, **window: Unpack[Window]) -> Feature:
    """How many standard deviations an exact number is above the window's mean; missing where that has none, or is 0.

    The current transaction is left out, unless `include_current=True`.

    >>> example(zscore("amount", by="card", over="1h"), [0, 1, 2], amount=[10, 30, 40])
    [nan, nan, 2.0]
    >>> example(zscore("amount", by="card", over="1h", event="refund"), [0, 1, 2], event=["refund", "refund", ""],
    ...         amount=[10, 30, 40])
    [2.0]
    """
    window = Window(include_current=False) | window
    centre, spread = mean(of, by=by, over=over, **window), std(of, by=by, over=over, **window)
    return ratio(difference(of, centre), to=spread).named(centre.name.replace("mean", "zscore", 1))


def _part(of: str | Feature) -> Feature:
    return field(of) if isinstance(of, str) else of
