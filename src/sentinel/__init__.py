"""Sentinel decides, in the moment of a transaction, whether to approve, review or block it.

Everything that a detector file needs is imported from here.
"""

from sentinel.detector import Detector, Training
from sentinel.events.schema import Schema
from sentinel.features.definitions import (
    Feature,
    category,
    count,
    day_of_week,
    distance_since_last,
    distinct,
    field,
    fraud_count,
    fraud_rate,
    hour_of_day,
    is_night,
    is_weekend,
    last,
    maximum,
    mean,
    minimum,
    ratio,
    seconds_since_last,
    session_count,
    session_seconds,
    session_total,
    speed_since_last,
    std,
    total,
)
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fallback import Condition, Fallback, Rule
from sentinel.policy.thresholds import Policy

__version__ = "0.1.0"
__all__ = [
    "Condition", "Detector", "FailPolicy", "Fallback", "Feature", "Policy", "Rule", "Schema", "Training", "category",
    "count", "day_of_week", "distance_since_last", "distinct", "field", "fraud_count", "fraud_rate", "hour_of_day",
    "is_night", "is_weekend", "last", "maximum", "mean", "minimum", "ratio", "seconds_since_last", "session_count",
    "session_seconds", "session_total", "speed_since_last", "std", "total",
]  # fmt: skip
