"""Seven numbers that the caller has computed, by the contract of Sentinel-Stream: for callers with own windows.

Nothing is counted here: `hour_of_day` is a number like the others. Without an id and a time both are assigned.
"""

from sentinel.detector import Detector, Training
from sentinel.events.schema import Schema
from sentinel.features.definitions import field
from sentinel.policy.fallback import VELOCITY_RULES, Fallback
from sentinel.policy.thresholds import Policy

MOST = 1e9
"""Above any day's payments; the contract itself names no greatest value."""

NUMBERS = (
    "hour_of_day", "days_since_last_txn", "txn_count_24h", "distinct_merchants_24h", "avg_amount_7d", "channel_online",
)  # fmt: skip

detector = Detector(
    schema=Schema(
        numbers=NUMBERS,
        optional=("transaction_id", "event_time"),
        rounded=("amount",),
        ranges=dict.fromkeys(NUMBERS, (0.0, MOST)) | {"hour_of_day": (0.0, 23.0), "channel_online": (0.0, 1.0)},
    ),
    features=(field("amount"), *(field(name) for name in NUMBERS)),
    policy=Policy(review_at_fpr=0.01, block_at_fpr=None),
    fallback=Fallback(rules=VELOCITY_RULES, block_at=None),
    training=Training(
        trees=200,
        patience=25,
        max_depth=6,
        learning_rate=0.08,
        colsample_bytree=0.9,
    ),
)
