"""Seven numbers that the caller has computed, by the contract of Sentinel-Stream: for callers with own windows.

Nothing is counted here: `hour_of_day` is a number like the others. Without an id and a time both are assigned.
"""

from sentinel import Detector, Fallback, Policy, Rule, Schema, Training, XGBoost, field

MOST = 1e9
"""Above any day's payments; the contract itself names no greatest value."""

NUMBERS = (
    "hour_of_day", "days_since_last_txn", "txn_count_24h", "distinct_merchants_24h", "avg_amount_7d", "channel_online",
)  # fmt: skip

RULES = (
    Rule("amount > 2500", 0.18, "large amount"),
    Rule("amount > 8000", 0.15, "very large amount"),
    Rule("txn_count_24h > 15", 0.22, "many payments within a day"),
    Rule(
        "distinct_merchants_24h > 8 and txn_count_24h > 8",
        0.12,
        "many merchants within a day",
    ),
    Rule(
        "days_since_last_txn < 0.05 and amount > 200",
        0.15,
        "soon after the last payment, and no small amount",
    ),
    Rule("channel_online >= 0.5 and amount > 1500", 0.08, "large amount online"),
)
"""The rules Sentinel-Stream published for its seven fields; all of them together give 0.95."""

detector = Detector(
    schema=Schema(
        numbers=NUMBERS,
        optional=("transaction_id", "event_time"),
        rounded=("amount",),
        ranges=dict.fromkeys(NUMBERS, (0.0, MOST)) | {"hour_of_day": (0.0, 23.0), "channel_online": (0.0, 1.0)},
    ),
    features=(field("amount"), *(field(name) for name in NUMBERS)),
    policy=Policy(review_at_fpr=0.01, block_at_fpr=None),
    fallback=Fallback(rules=RULES, block_at=None),
    training=Training(
        learner=XGBoost(
            trees=200,
            patience=25,
            max_depth=6,
            learning_rate=0.08,
            colsample_bytree=0.9,
        ),
    ),
)
