"""A shop with short windows, and two models of it with different features: each has a state of its own."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from sentinel import (
    Detector,
    Policy,
    Schema,
    Training,
    XGBoost,
    category,
    count,
    distinct,
    field,
    fraud_rate,
    maximum,
    mean,
    ratio,
    seconds_since_last,
    std,
    total,
)
from sentinel.events.files import history_of_frame
from sentinel.events.secrets import Secrets, key_of
from sentinel.model.registry import Registry
from sentinel.train.pipeline import train

START_US = 1_735_689_600_000_000
DAY_US = 86_400_000_000
END_US = START_US + 4 * DAY_US
CARDS, SHOPS = 9, 3
SECRETS = Secrets(key_of("Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"), "allow")

V1 = Detector(
    name="shop",
    schema=Schema(
        keys=("card", "shop"),
        categories=("channel", "email"),
        numbers=("risk",),
        optional=("channel", "email", "risk"),
        personal={"email": "card"},
        max_late="1h",
    ),
    features=(
        field("amount"),
        category("channel"),
        count(by="card", over="10m"),
        count(by="card", over="1d"),
        mean("amount", by="card", over="6h"),
        std("amount", by="card", over="6h"),
        maximum("amount", by="card", over="1d", include_current=False),
        ratio("amount", to=mean("amount", by="card", over="1d")),
        seconds_since_last(by="card"),
        count(by="shop", over="1h"),
        distinct("channel", by="shop", over="1d"),
        fraud_rate(by="shop", over="1d", delay="30m"),
    ),
    policy=Policy(review_at_fpr=0.1, block_at_fpr=0.05, challenge_at_fpr=0.5),
    training=Training(rare_below=2, learner=XGBoost(trees=8, patience=8, max_depth=3)),
)
V2 = msgspec.structs.replace(
    V1,
    trusts=("bank",),
    features=(
        field("amount"),
        field("risk"),
        total("amount", by="card", over="2h"),
        fraud_rate(by="card", over="1d", delay="10m"),
    ),
)


def history() -> pl.DataFrame:
    """Transactions over four days; large amounts are fraud more often."""
    rng, n = np.random.default_rng(1), 400
    amounts = np.round(rng.lognormal(3, 1, n) + 0.01, 2)
    return pl.DataFrame(
        {
            "transaction_id": [f"h{i}" for i in range(n)],
            "event_time": START_US + np.sort(rng.integers(0, END_US - START_US, n)),
            "amount": amounts,
            "card": [f"card-{one}" for one in rng.integers(0, CARDS, n)],
            "shop": [f"shop-{one}" for one in rng.integers(0, SHOPS, n)],
            "channel": [(None, "web", "chip")[one] for one in rng.integers(0, 3, n)],
            "risk": rng.normal(size=n),
            "is_fraud": rng.random(n) < np.where(amounts > 40, 0.5, 0.05),
        }
    )


EVENTS = {"login": ("card", "channel"), "email_change": ("card", "email")}
"""The context events of a shop that knows some."""


def train_models(folder: Path, events: dict[str, tuple[str, ...]] | None = None) -> None:
    """v1 and v2, in the folder `models`; of a shop with these context events."""
    for one in (V1, V2):
        detector = msgspec.structs.replace(one, schema=msgspec.structs.replace(one.schema, events=events or {}))
        train(
            detector, history_of_frame(history(), detector.schema, secrets=SECRETS), Registry(folder), lambda *_: None
        )
