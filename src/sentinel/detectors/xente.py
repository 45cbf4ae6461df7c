"""Real mobile-money payments in Uganda (the Xente competition on Zindi): signed amounts, and their value."""

from sentinel.detector import Detector, Training
from sentinel.events.schema import Schema
from sentinel.features.definitions import (
    category,
    count,
    field,
    hour_of_day,
    maximum,
    mean,
    ratio,
    seconds_since_last,
    total,
)

detector = Detector(
    schema=Schema(
        time="transaction_start_time",
        negative_amounts=True,
        exact={"value": 0},
        label="fraud_result",
        keys=("customer_id", "product_id"),
        categories=("provider_id", "channel_id", "product_category", "pricing_strategy"),
    ),
    features=(
        field("amount"),
        field("value"),
        category("provider_id"),
        category("product_id"),
        category("channel_id"),
        category("product_category"),
        category("pricing_strategy"),
        hour_of_day(),
        count(by="customer_id", over="1h"),
        count(by="customer_id", over="30d"),
        total("value", by="customer_id", over="24h"),
        ratio("value", to=mean("value", by="customer_id", over="30d")),
        ratio("value", to=maximum("value", by="customer_id", over="30d", include_current=False)),
        ratio("value", to=mean("value", by="product_id", over="7d")),
        seconds_since_last(by="customer_id"),
    ),
    training=Training(trees=300, max_depth=3, learning_rate=0.05, min_child_weight=0.5, subsample=0.8),
)
