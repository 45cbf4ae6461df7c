"""The features a detector can declare. Each function returns plain data; nothing is computed here.

Windows are half open, (t - over, t], and count the current transaction unless `include_current=False`.
A `delay` moves the whole window into the past: (t - delay - over, t - delay]. The examples give the minutes at which
transactions of one card come, and what the feature (see `example.py`) is at each of them.
"""

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.times import duration_us


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One column of the model's input: what to compute (`kind`), of which field, for which key, over what."""

    kind: str
    name: str
    of: str | None = None
    by: str | None = None
    over: str | None = None
    delay: str | None = None
    include_current: bool = True
    gap: str | None = None
    last_hour: int | None = None
    parts: tuple["Feature", ...] = ()

    def __post_init__(self) -> None:
        for text in (self.over, self.delay, self.gap):
            if text is not None:
                duration_us(text)

    def named(self, name: str) -> "Feature":
        """The same feature under another column name."""
        return msgspec.structs.replace(self, name=name)


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


def hour_of_day() -> Feature:
    """Hour of the transaction, UTC, 0 to 23.

    >>> example(hour_of_day(), [0, 90, 1439])
    [0.0, 1.0, 23.0]
    """
    return Feature(kind="hour_of_day", name="hour_of_day")


def day_of_week() -> Feature:
    """Day of the week, UTC, 0 for Monday to 6 for Sunday.

    >>> example(day_of_week(), [0, 1439, 1440])
    [0.0, 0.0, 1.0]
    """
    return Feature(kind="day_of_week", name="day_of_week")


def is_weekend() -> Feature:
    """1 on Saturday and Sunday, UTC.

    >>> example(is_weekend(), [0, 5 * 1440])
    [0.0, 1.0]
    """
    return Feature(kind="is_weekend", name="is_weekend")


def is_night(last_hour: int = 5) -> Feature:
    """1 from midnight to the end of `last_hour`, UTC.

    >>> example(is_night(last_hour=5), [0, 359, 360])
    [1.0, 1.0, 0.0]
    """
    if not 0 <= last_hour <= 23:
        raise InvalidDefinition(f"is_night: last_hour is {last_hour}; an hour is 0 to 23")
    return Feature(kind="is_night", name="is_night", last_hour=last_hour)


def _window(
    kind: str, of: str | None, by: str, over: str, *, delay: str | None = None, include_current: bool = True
) -> Feature:
    name = "_".join(part for part in (kind, of, "by", by, over) if part)
    if delay:
        name += f"_delayed_{delay}"
    if not include_current:
        name += "_before"
    return Feature(kind=kind, name=name, of=of, by=by, over=over, delay=delay, include_current=include_current)


def count(*, by: str, over: str, delay: str | None = None, include_current: bool = True) -> Feature:
    """How many transactions of this key are in the window.

    >>> example(count(by="card", over="10m"), [0, 5, 10])
    [1.0, 2.0, 2.0]
    """
    return _window("count", None, by, over, delay=delay, include_current=include_current)


def total(of: str, *, by: str, over: str, delay: str | None = None, include_current: bool = True) -> Feature:
    """Sum of an exact number over the window; 0 when it is empty.

    >>> example(total("amount", by="card", over="10m"), [0, 5, 10], amount=[10, 20, 60])
    [10.0, 30.0, 80.0]
    """
    return _window("total", of, by, over, delay=delay, include_current=include_current)


def mean(of: str, *, by: str, over: str, delay: str | None = None, include_current: bool = True) -> Feature:
    """Mean of an exact number over the window; missing when it is empty.

    >>> example(mean("amount", by="card", over="10m", include_current=False), [0, 5, 10], amount=[10, 20, 60])
    [nan, 10.0, 20.0]
    """
    return _window("mean", of, by, over, delay=delay, include_current=include_current)


def std(of: str, *, by: str, over: str, delay: str | None = None, include_current: bool = True) -> Feature:
    """Population standard deviation of an exact number over the window; missing when it is empty.

    >>> example(std("amount", by="card", over="10m"), [0, 5, 10], amount=[10, 20, 60])
    [0.0, 5.0, 20.0]
    """
    return _window("std", of, by, over, delay=delay, include_current=include_current)


def minimum(of: str, *, by: str, over: str, include_current: bool = True) -> Feature:
    """Least value of an exact number in the window; missing when it is empty.

    >>> example(minimum("amount", by="card", over="10m"), [0, 5, 10], amount=[10, 20, 60])
    [10.0, 10.0, 20.0]
    """
    return _window("minimum", of, by, over, include_current=include_current)


def maximum(of: str, *, by: str, over: str, include_current: bool = True) -> Feature:
    """Greatest value of an exact number in the window; missing when it is empty.

    >>> example(maximum("amount", by="card", over="10m"), [0, 5, 10], amount=[60, 20, 10])
    [60.0, 60.0, 20.0]
    """
    return _window("maximum", of, by, over, include_current=include_current)


def distinct(of: str, *, by: str, over: str, include_current: bool = True) -> Feature:
    """How many different values a text takes in the window; missing values do not count.

    >>> example(distinct("shop", by="card", over="10m"), [0, 5, 10], shop=["x", "y", "y"])
    [1.0, 2.0, 1.0]
    """
    return _window("distinct", of, by, over, include_current=include_current)


def fraud_count(*, by: str, over: str, delay: str) -> Feature:
    """Frauds of this key, as known now, among its transactions in the delayed window.

    >>> example(fraud_count(by="card", over="1h", delay="5m"), [0, 4, 5, 10], is_fraud=[1, 0, 0, 0])
    [0.0, 0.0, 1.0, 1.0]
    """
    return _window("fraud_count", None, by, over, delay=delay)


def fraud_rate(*, by: str, over: str, delay: str) -> Feature:
    """Share of frauds, as known now, among the key's transactions in the delayed window; 0 when it is empty.

    >>> example(fraud_rate(by="card", over="1h", delay="5m"), [0, 4, 5, 10], is_fraud=[1, 0, 0, 0])
    [0.0, 0.0, 1.0, 0.333]
    """
    return _window("fraud_rate", None, by, over, delay=delay)


def seconds_since_last(*, by: str) -> Feature:
    """Seconds since the key's previous transaction; missing on its first.

    >>> example(seconds_since_last(by="card"), [0, 5])
    [nan, 300.0]
    """
    return Feature(kind="seconds_since_last", name=f"seconds_since_last_by_{by}", by=by)


def last(of: str, *, by: str) -> Feature:
    """Value of an exact number in the key's previous transaction; missing on its first.

    >>> example(last("amount", by="card"), [0, 5, 10], amount=[10, 20, 60])
    [nan, 10.0, 20.0]
    """
    return Feature(kind="last", name=f"last_{of}_by_{by}", of=of, by=by)


def distance_since_last(*, by: str) -> Feature:
    """Kilometres along the great circle from the place of the key's previous transaction.

    >>> example(distance_since_last(by="card"), [0, 30], latitude=[48.14, 52.52], longitude=[11.58, 13.4])
    [nan, 503.833]
    """
    return Feature(kind="distance_since_last", name=f"km_since_last_by_{by}", by=by)


def speed_since_last(*, by: str) -> Feature:
    """That distance by the time between the two, in km/h; the time is taken as one second at least.

    >>> example(speed_since_last(by="card"), [0, 30], latitude=[48.14, 52.52], longitude=[11.58, 13.4])
    [nan, 1007.667]
    """
    return Feature(kind="speed_since_last", name=f"kmh_since_last_by_{by}", by=by)


def session_count(*, by: str, gap: str) -> Feature:
    """Transactions in the key's session, this one included; a pause longer than `gap` begins a new session.

    >>> example(session_count(by="card", gap="5m"), [0, 4, 10, 12])
    [1.0, 2.0, 1.0, 2.0]
    """
    return Feature(kind="session_count", name=f"session_count_by_{by}_{gap}", by=by, gap=gap)


def session_total(of: str, *, by: str, gap: str) -> Feature:
    """Sum of an exact number over the key's session, this transaction included.

    >>> example(session_total("amount", by="card", gap="5m"), [0, 4, 10, 12], amount=[10, 20, 60, 5])
    [10.0, 30.0, 60.0, 65.0]
    """
    return Feature(kind="session_total", name=f"session_total_{of}_by_{by}_{gap}", of=of, by=by, gap=gap)


def session_seconds(*, by: str, gap: str) -> Feature:
    """Seconds since the key's session began.

    >>> example(session_seconds(by="card", gap="5m"), [0, 4, 10, 12])
    [0.0, 240.0, 0.0, 120.0]
    """
    return Feature(kind="session_seconds", name=f"session_seconds_by_{by}_{gap}", by=by, gap=gap)


def ratio(of: str | Feature, *, to: str | Feature) -> Feature:
    """One feature or number by another; missing when either is missing or the divisor is 0.

    >>> example(ratio("amount", to=mean("amount", by="card", over="1h")), [0, 1], amount=[10, 30])
    [1.0, 1.5]
    """
    parts = tuple(field(part) if isinstance(part, str) else part for part in (of, to))
    return Feature(kind="ratio", name=f"ratio_{parts[0].name}_to_{parts[1].name}", parts=parts)
