"""A schema, a plan with every kind of feature, and streams of events for it."""

from itertools import groupby

import numpy as np
from hypothesis import strategies as st

from sentinel.events.columns import (
    FIRST_CONTEXT,
    TRANSACTION,
    EventColumns,
    Outcome,
    columns_of_outcomes,
    columns_of_transactions,
    concatenate,
)
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features.conditions import col
from sentinel.features.plan import FeaturePlan

SCHEMA = Schema(
    keys=("card", "shop"),
    categories=("channel", "status"),
    numbers=("risk",),
    exact={"points": 0},
    place=("latitude", "longitude"),
    optional=("shop", "channel", "status", "risk", "points", "latitude", "longitude"),
    negative_amounts=True,
    max_ahead="5s",
    max_late="10s",
    events={"login": ("card", "channel", "amount", "points", "status"), "refund": ("card", "shop", "amount", "points")},
)
AHEAD_US = 5_000_000
WINDOWS = tuple(
    feature
    for over in ("3s", "10s", "1m")
    for by in ("card", "shop")
    for feature in (
        f.count(by=by, over=over),
        f.count(by=by, over=over, include_current=False),
        f.count(by=by, over=over, delay="5s"),
        f.total("amount", by=by, over=over),
        f.mean("amount", by=by, over=over, include_current=False),
        f.mean("points", by=by, over=over),
        f.mean("amount", by=by, over=over, delay="7s"),
        f.std("amount", by=by, over=over),
        f.std("points", by=by, over=over, delay="2s"),
        f.minimum("amount", by=by, over=over),
        f.maximum("amount", by=by, over=over),
        f.maximum("points", by=by, over=over, include_current=False),
        f.distinct("channel", by=by, over=over),
        f.fraud_count(by=by, over=over, delay="4s"),
        f.fraud_rate(by=by, over=over, delay="10s"),
    )
)
REST = (
    f.field("amount"),
    f.field("risk"),
    f.field("points"),
    f.category("channel"),
    f.hour_of_day(),
    f.day_of_week(),
    f.is_weekend(),
    f.is_night(6),
    f.distinct("shop", by="card", over="10s"),
    f.seconds_since_last(by="card"),
    f.last("amount", by="card"),
    f.last("points", by="shop"),
    f.distance_since_last(by="card"),
    f.speed_since_last(by="shop"),
    f.session_count(by="card", gap="3s"),
    f.session_total("points", by="card", gap="3s"),
    f.session_total("amount", by="card", gap="5s"),
    f.session_seconds(by="card", gap="3s"),
    f.ratio("amount", to=f.mean("amount", by="card", over="10s")),
    f.ratio(f.count(by="card", over="3s"), to=f.count(by="card", over="1m")),
)
DECLINED = col("status") == "declined"
LARGE = (col("amount") > 1.005) | (col("points") <= -3) | col("points").is_missing()
ODD = ~(col("status").is_in("ok", "declined") & (col("risk") < 0.5)) & (col("amount") != 1)
BOTH = ("card", "shop")
COMPOSED = (
    f.count(by=BOTH, over="10s"),
    f.mean("points", by=BOTH, over="10s", delay="3s"),
    f.std("amount", by=("shop", "card"), over="1m"),
    f.fraud_rate(by=BOTH, over="10s", delay="4s"),
    f.last("amount", by=BOTH),
    f.seconds_since_last(by=("card", "status", "channel")),
    f.session_total("amount", by=BOTH, gap="5s"),
    f.distinct("channel", by=BOTH, over="1m"),
)
CONDITIONED = tuple(
    feature
    for by, where in (("card", DECLINED), ("shop", LARGE), (BOTH, ODD))
    for feature in (
        f.count(by=by, over="10s", where=where),
        f.count(by=by, over="10s", where=where, include_current=False),
        f.total("points", by=by, over="1m", delay="2s", where=where),
        f.std("amount", by=by, over="10s", where=where),
        f.minimum("amount", by=by, over="10s", where=where),
        f.maximum("points", by=by, over="10s", where=where),
        f.distinct("channel", by=by, over="1m", where=where),
        f.fraud_rate(by=by, over="1m", delay="4s", where=where),
        f.last("points", by=by, where=where),
        f.seconds_since_last(by=by, where=where),
    )
)
OF_VALUES = tuple(
    feature
    for by, of in (("card", "channel"), ("card", "shop"), ("shop", "card"))
    for feature in (
        f.is_first(of, by=by, over="10s"),
        f.is_first(of, by=by, over="1m", where=LARGE),
        f.share(of, by=by, over="10s"),
        f.share(of, by=by, over="10s", include_current=False),
        f.share(of, by=by, over="10s", delay="3s"),
        f.share(of, by=by, over="1m", delay="5s", where=LARGE),
        f.entropy(of, by=by, over="10s"),
        f.entropy(of, by=by, over="1m", include_current=False),
        f.top_share(of, by=by, over="10s"),
        f.top_share(of, by=by, over="1m", where=LARGE),
    )
)
OF_CONTEXT = (
    f.count(event="login", by="card", over="10s"),
    f.count(event="login", by="card", over="1m", delay="5s", include_current=False),
    f.count(event="login", by="card", over="1m", where=DECLINED),
    f.total("amount", event="login", by="card", over="10s"),
    f.mean("amount", event="refund", by="card", over="1m"),
    f.std("points", event="refund", by=BOTH, over="1m"),
    f.minimum("points", event="refund", by="shop", over="10s"),
    f.maximum("amount", event="refund", by="shop", over="1m", where=col("amount") >= 0),
    f.distinct("channel", event="login", by="card", over="10s"),
    f.is_first("channel", event="login", by="card", over="1m"),
    f.share("channel", event="login", by="card", over="1m"),
    f.share("channel", event="login", by="card", over="10s", delay="5s"),
    f.entropy("channel", event="login", by="card", over="1m"),
    f.top_share("channel", event="login", by="card", over="1m"),
    f.seconds_since("refund", by="card"),
    f.seconds_since("login", by="card", where=DECLINED),
    f.last("amount", event="refund", by=BOTH),
    f.count(event="login", by=("card", "channel"), over="1m"),
)
MADE = (
    f.difference("amount", f.last("amount", by="card")),
    f.zscore("amount", by="card", over="10s"),
    f.zscore("points", by="shop", over="1m", delay="2s", where=DECLINED),
    f.ratio(f.difference("points", "amount"), to=f.ratio("amount", to=f.count(by="card", over="10s"))),
    f.is_round("amount", to=0.5),
    f.is_round("points", to=3),
    f.time_of_day(),
    f.sine(f.time_of_day("America/New_York"), period=24),
    f.cosine(f.day_of_week(), period=7),
    *(part(timezone=zone) for zone in ("Europe/Madrid", "Australia/Lord_Howe") for part in (
        f.hour_of_day, f.day_of_week, f.is_weekend, f.is_night, f.time_of_day)),
)  # fmt: skip
PLAN = FeaturePlan(
    SCHEMA,
    WINDOWS + REST + COMPOSED + CONDITIONED + OF_VALUES + OF_CONTEXT + MADE,
    {"channel": ("web", "chip")},
    forget_after="75s",
)
HORIZON_US = 85_000_000

WEIRD_KEYS = ("a", "A", " ", "ключ", "🂡", "x" * 200, "0", "null", "a\x00b")
amounts = st.one_of(
    st.integers(-500, 500),
    st.sampled_from([0, 1, -1, 10**12, -(10**12), 10**12 - 1]),
).map(lambda cents: cents / 100)


STARTS = st.sampled_from([0, 1_735_689_600_000_000, 86_399_000_000])
NEVER = st.just(False)
ONE_IN_FIVE = st.integers(0, 4).map(lambda n: n == 0)
PAUSES = st.sampled_from([0, 0, 1, 999_999, 1_000_000, 2_000_000, 3_000_000, 9_000_000, 70_000_000,
                          HORIZON_US, HORIZON_US + 1])  # fmt: skip
LATE = st.sampled_from([0, 0, 0, 1, 1_000_000, 3_000_000, 10_000_000, 90_000_000])
AHEAD = st.sampled_from([0, 0, 0, 1, AHEAD_US, AHEAD_US + 1, 10_000_000, 1_800_000_000, -(10**9)])
PLACES = st.sampled_from([(None, None), (48.137154, 11.576124), (-90.0, 180.0), (0.0, 0.0)])
CONTEXTS = st.sampled_from([None, None, None, "login", "refund"])
FIELDS = st.fixed_dictionaries(
    {
        "amount": amounts,
        "points": st.one_of(st.none(), st.integers(-(10**12), 10**12)),
        "risk": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        "card": st.sampled_from(WEIRD_KEYS[:3]),
        "shop": st.sampled_from((None, *WEIRD_KEYS[3:6])),
        "channel": st.sampled_from([None, "web", "chip", "fax", "telex"]),
        "status": st.sampled_from([None, "ok", "declined", "other"]),
    }
)


@st.composite
def streams(draw, length=40, again=NEVER):
    """Transactions with ties, late ones and ones ahead of their arrival; outcomes and events of the context in between.

    `again` says whether an id is given another time.
    """
    events = []
    now = draw(STARTS)
    for i in range(draw(st.integers(1, length))):
        if events and draw(ONE_IN_FIVE):
            outcome = {"outcome": f"t{draw(st.integers(0, i))}", "fraud": draw(st.booleans()), "received": now}
            events.append(outcome)
            continue
        now += draw(PAUSES)
        time = max(now - draw(LATE) + draw(AHEAD), 0)
        (latitude, longitude), context = draw(PLACES), draw(CONTEXTS)
        who = {"context": context} if context else {"id": f"t{draw(st.integers(0, i)) if draw(again) else i}"}
        at = {"time": time, "received": now, "latitude": latitude, "longitude": longitude}
        events.append({**who, **at, **draw(FIELDS)})
    return events


def payment(i, time, received=None, **fields):
    """A transaction by hand, of card `a`; received when it happened unless said otherwise."""
    nothing = dict.fromkeys(("points", "latitude", "longitude", "risk", "shop", "channel", "status"))
    received = time if received is None else received
    return {**nothing, "id": f"t{i}", "time": time, "received": received, "amount": 1.0, "card": "a", **fields}


def as_columns(events) -> EventColumns:
    to_columns, kinds = (
        columns_of_transactions(SCHEMA),
        {name: n for n, name in enumerate(SCHEMA.events, FIRST_CONTEXT)},
    )
    parts = []
    for are_outcomes, run in groupby(events, lambda event: "outcome" in event):
        some = list(run)
        received = np.array([event["received"] for event in some], np.int64)
        if are_outcomes:
            told = [Outcome(event["outcome"], event["fraud"], 0) for event in some]
            parts.append(columns_of_outcomes(SCHEMA, told, received))
        else:
            part = to_columns([as_sent(event) for event in some], received)
            part.kinds[:] = [kinds.get(event.get("context"), TRANSACTION) for event in some]
            parts.append(part)
    return concatenate(parts)


def as_sent(event):
    values = {SCHEMA.id: event.get("id", "of the context"), SCHEMA.time: event["time"]}
    return SCHEMA.wire_type(**values, **{name: event[name] for name in SCHEMA.fields[2:]})


def same_bits(a, b) -> bool:
    a, b = np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b, np.float64)
    both_missing = np.isnan(a) & np.isnan(b)
    return a.shape == b.shape and bool(np.all((a.view(np.int64) == b.view(np.int64)) | both_missing))
