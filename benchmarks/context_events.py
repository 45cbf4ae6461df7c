"""Context events: the preset `payments` against the same detector with features of logins and changes of passwords.

Both learn from the same simulated payments and are measured on the same test part. The difference of their average
precisions has a paired interval: every resample draws the same transactions for both.
"""

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from report import publish
from sentinel import Detector, count, distinct, seconds_since
from sentinel.detectors.payments import detector as payments
from sentinel.events.context_files import with_context_of_frame
from sentinel.events.files import History, history_of_frame
from sentinel.simulate.payments import simulate_all
from sentinel.train.figures.evaluate import recall_at_fpr
from sentinel.train.fitting.fit import code_columns, fit
from sentinel.train.rows.dataset import build_dataset, parts_of

TRANSACTIONS, SEED, REPLICATES = 250_000, 42, 1_000
WITH_CONTEXT = msgspec.structs.replace(
    payments,
    features=(
        *payments.features,
        seconds_since("password_change", by="card_id"),
        seconds_since("login", by="card_id"),
        count(event="login", by="card_id", over="1h"),
        count(event="login", by="card_id", over="24h"),
        count(event="password_change", by="card_id", over="24h"),
        count(event="password_change", by="card_id", over="30d"),
        distinct("device_id", by="card_id", over="24h", event="login"),
        distinct("device_id", by="card_id", over="30d", event="login"),
    ),
)


def main() -> None:
    """Print both average precisions, their difference with its interval, and what is caught by pattern."""
    made = simulate_all(TRANSACTIONS, SEED)
    history = history_of_frame(made.payments.drop("fraud_pattern"), payments.schema)
    history = with_context_of_frame(history, made.events, payments.schema)
    plain, labels = scores_of(payments, history)
    context, _ = scores_of(WITH_CONTEXT, history)
    differences = paired_differences(plain, context, labels)
    low, high = np.percentile(differences, [2.5, 97.5])
    patterns = made.payments["fraud_pattern"][-len(labels) :]
    publish(
        "context_events",
        f"{TRANSACTIONS:,} simulated payments, seed {SEED}, measured on the last part by time; the interval is of "
        f"{REPLICATES:,} resamples of the transactions, the same for both",
        {
            "context_events": len(made.events),
            "test_transactions": len(labels),
            "test_frauds": int(labels.sum()),
            "average_precision_payments_alone": round(weighted_precision(plain, labels), 4),
            "average_precision_with_context": round(weighted_precision(context, labels), 4),
            "difference": round(weighted_precision(context, labels) - weighted_precision(plain, labels), 4),
            "difference_95_low": round(float(low), 4),
            "difference_95_high": round(float(high), 4),
            "interval_excludes_zero": bool(low > 0),
            "recall_at_1pct_fpr_by_pattern": by_pattern(plain, context, labels, patterns),
        },
    )


def scores_of(detector: Detector, history: History) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """The scores of the test part by a model that learned from the rest, and the labels."""
    data = build_dataset(detector, history, lambda _done, _of: None)
    schema, frame = detector.schema, history.frame
    labels = frame[schema.label].fill_null(-1).to_numpy().astype(np.int8)
    test = parts_of(detector.training, frame[schema.time].to_numpy(), labels)[2]
    assert len(data.test) == len(test), "every simulated payment has a label"
    fitted = fit(data.train, data.validation, detector.training, code_columns(data.plan))
    return fitted.predict(data.test.rows), data.test.labels


def paired_differences(
    one: NDArray[np.float32], other: NDArray[np.float32], labels: NDArray[np.int8]
) -> NDArray[np.float64]:
    """By how much the average precision of the other is above that of the one, by resample."""
    rng = np.random.default_rng(SEED)
    found = []
    for _ in range(REPLICATES):
        weights = rng.poisson(1.0, len(labels))
        found.append(weighted_precision(other, labels, weights) - weighted_precision(one, labels, weights))
    return np.array(found)


def weighted_precision(
    scores: NDArray[np.float32], labels: NDArray[np.int8], weights: NDArray[np.int64] | None = None
) -> float:
    """The average precision where each transaction counts as often as its weight says; ties are one step."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    counted = (np.ones(len(order), np.int64) if weights is None else weights)[order]
    hits, total = np.cumsum(counted * (labels[order] == 1))[ends], np.cumsum(counted)[ends]
    return float(np.sum(hits / np.maximum(total, 1) * np.diff(hits, prepend=0)) / max(hits[-1], 1))


def by_pattern(
    plain: NDArray[np.float32], context: NDArray[np.float32], labels: NDArray[np.int8], patterns: pl.Series
) -> dict[str, list[float]]:
    """By fraud pattern, which share is caught without and with context, at a false alarm for 100 legitimate ones."""
    found = {}
    for name in sorted(patterns.drop_nulls().unique()):
        where = ((patterns == name).fill_null(value=False) | patterns.is_null()).to_numpy()
        found[name] = [round(recall_at_fpr(scores[where], labels[where], 0.01), 3) for scores in (plain, context)]
    return found


if __name__ == "__main__":
    main()
