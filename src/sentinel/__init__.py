"""Sentinel decides, in the moment of a transaction, whether to approve, review or block it.

Everything that a detector file needs is imported from here.
"""

from importlib.metadata import PackageNotFoundError, version

from sentinel.detector import Detector, Training
from sentinel.events.reference_tables.declaration import LookupTable
from sentinel.events.schema import Schema
from sentinel.features.conditions import Where, col
from sentinel.features.definitions import (
    Feature,
    category,
    cosine,
    count,
    day_of_week,
    difference,
    distance_since_last,
    distinct,
    entropy,
    field,
    fraud_count,
    fraud_rate,
    hour_of_day,
    is_first,
    is_night,
    is_round,
    is_weekend,
    last,
    maximum,
    mean,
    minimum,
    ratio,
    seconds_between,
    seconds_since,
    seconds_since_last,
    session_count,
    session_seconds,
    session_total,
    share,
    sine,
    speed_since_last,
    std,
    time_of_day,
    top_share,
    total,
    zscore,
)
from sentinel.learner import CatBoost, LightGBM, LogisticRegression, RandomForest, XGBoost
from sentinel.policy.costs import Costs
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fallback import Fallback, Rule
from sentinel.policy.holdout import Holdout
from sentinel.policy.policies import CostGrid, LeastLoss, LegitimateQuantile, Policy, ReviewCapacity

try:
    __version__ = version("sentinel-fraud")
except PackageNotFoundError:  # its folder is on the path, and nobody installed it
    __version__ = "0.0"
__all__ = [
    "CatBoost", "CostGrid", "Costs", "Detector", "FailPolicy", "Fallback", "Feature", "Holdout",
    "LeastLoss", "LegitimateQuantile", "LightGBM", "LogisticRegression", "LookupTable", "Policy", "RandomForest",
    "ReviewCapacity", "Rule", "Schema", "Training", "Where", "XGBoost",
    "category", "col", "cosine", "count", "day_of_week", "difference", "distance_since_last", "distinct", "entropy",
    "field", "fraud_count", "fraud_rate", "hour_of_day", "is_first", "is_night", "is_round", "is_weekend", "last",
    "maximum", "mean", "minimum", "ratio", "seconds_between", "seconds_since", "seconds_since_last", "session_count",
    "session_seconds", "session_total", "share", "sine", "speed_since_last", "std", "time_of_day", "top_share", "total",
    "zscore",
]  # fmt: skip
