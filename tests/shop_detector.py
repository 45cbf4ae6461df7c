"""A small detector in a file of its own, as a user would write it."""

from sentinel import (
    Detector,
    Schema,
    Training,
    XGBoost,
    category,
    count,
    field,
    fraud_rate,
    maximum,
    mean,
    ratio,
    seconds_since_last,
    std,
)

detector = Detector(
    name="shop",
    schema=Schema(
        keys=("card", "shop"),
        categories=("channel",),
        numbers=("risk",),
        optional=("channel", "risk"),
    ),
    features=(
        field("amount"),
        field("risk"),
        category("channel"),
        count(by="card", over="10m"),
        count(by="card", over="24h"),
        mean("amount", by="card", over="7d"),
        std("amount", by="card", over="7d"),
        maximum("amount", by="card", over="7d", include_current=False),
        ratio("amount", to=mean("amount", by="card", over="7d")),
        seconds_since_last(by="card"),
        count(by="shop", over="1h"),
        fraud_rate(by="shop", over="7d", delay="1d"),
    ),
    training=Training(rare_below=5, learner=XGBoost(trees=30, patience=30, max_depth=4)),
)
