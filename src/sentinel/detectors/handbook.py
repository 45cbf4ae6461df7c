"""The simulated card data of the *Reproducible Machine Learning for Credit Card Fraud Detection* handbook.

Le Borgne, Siblini, Lebichot, Bontempi: ULB, 2022. The first fourteen features are the handbook's own, under its
names; those after them compare a payment with what its customer and terminal usually do.
"""

from sentinel.detector import Detector, Training
from sentinel.events.schema import Schema
from sentinel.features.definitions import (
    Feature,
    count,
    field,
    fraud_rate,
    is_night,
    is_weekend,
    maximum,
    mean,
    ratio,
    seconds_since_last,
    std,
)

DAYS = (1, 7, 30)


def customer(days: int) -> tuple[Feature, ...]:
    """Number and mean amount of the customer's payments, this one included."""
    return (
        count(by="customer_id", over=f"{days}d").named(f"customer_id_nb_tx_{days}day_window"),
        mean("tx_amount", by="customer_id", over=f"{days}d").named(f"customer_id_avg_amount_{days}day_window"),
    )


def terminal(days: int) -> tuple[Feature, ...]:
    """Number and share of frauds of the terminal's payments, up to a week ago: labels take a week."""
    return (
        count(by="terminal_id", over=f"{days}d", delay="7d").named(f"terminal_id_nb_tx_{days}day_window"),
        fraud_rate(by="terminal_id", over=f"{days}d", delay="7d").named(f"terminal_id_risk_{days}day_window"),
    )


HANDBOOK_FEATURES = (
    is_weekend().named("tx_during_weekend"),
    is_night(last_hour=6).named("tx_during_night"),
    *(feature for days in DAYS for feature in customer(days)),
    *(feature for days in DAYS for feature in terminal(days)),
)

ONE_WEEK = Training(tree_method="hist", trees=150, max_depth=5, max_bin=1024, min_child_weight=3, colsample_bytree=0.5)
"""For the published protocol, which learns from a week of about 67,000 transactions."""

detector = Detector(
    schema=Schema(
        id="tx_id",
        time="tx_datetime",
        amount="tx_amount",
        label="tx_fraud",
        keys=("customer_id", "terminal_id"),
    ),
    features=(
        *HANDBOOK_FEATURES,
        field("tx_amount"),
        *(ratio("tx_amount", to=mean("tx_amount", by="customer_id", over=f"{days}d")) for days in (7, 30)),
        ratio("tx_amount", to=maximum("tx_amount", by="customer_id", over="30d", include_current=False)),
        std("tx_amount", by="customer_id", over="30d"),
        seconds_since_last(by="customer_id"),
        mean("tx_amount", by="terminal_id", over="7d"),
        ratio("tx_amount", to=mean("tx_amount", by="terminal_id", over="30d")),
    ),
    training=Training(tree_method="hist"),
)
