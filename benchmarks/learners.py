"""Learners side by side on the European card data: what to do about few frauds, which learner, at which threshold.

These are the three tables that published comparisons on this data have, with their split (20 % test, stratified, seed
42; the validation part is a fifth of the rest, cut the same way). Nothing is chosen on the test part: a fit stops
early, and a threshold is the one of least cost, on the validation part. Where creditcard.csv is not in
SENTINEL_DATA_DIR, the script makes rows of the same shape and says so: the figures then tell of times, and of no one's
frauds.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from report import DATA, publish
from sentinel.detector import Training
from sentinel.errors import InvalidDefinition
from sentinel.learner import LEARNERS, Imbalance, Learner, XGBoost
from sentinel.model.certificate import certify
from sentinel.model.scorer import Scorer
from sentinel.review.average_precision import average_precision
from sentinel.train.fitting.fit import fit
from sentinel.train.rows.dataset import Part

ROWS, FRAUDS, SEED = 284_807, 492, 42
COLUMNS = ("Time", *(f"V{n}" for n in range(1, 29)), "Amount")
MISSED, FALSE_ALARM = 500, 50
GRID = np.linspace(0.01, 0.99, 99)
FIXED = XGBoost(trees=100, patience=100, max_depth=6, learning_rate=0.1)
IMBALANCES: tuple[Imbalance, ...] = ("none", "class_weight", "smote", "undersample")
Scores = NDArray[np.float32]


def main() -> None:
    """Print the three tables, and then all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="how many to make where the real file is not there")
    parser.add_argument("--learners", nargs="*", default=list(LEARNERS), choices=list(LEARNERS))
    asked = parser.parse_args()
    path = DATA / "creditcard.csv"
    rows, labels = read(path) if path.exists() else made(asked.rows)
    parts = split(rows, labels)
    study = [{"imbalance": one, **measured(FIXED, one, parts)} for one in IMBALANCES]
    board = [{"learner": name, **tried(LEARNERS[name](), parts)} for name in asked.learners]
    board.sort(key=lambda one: -one.get("pr_auc", 0))
    data = "creditcard.csv" if path.exists() else f"{len(labels):,} rows of its shape, made here: not the real data"
    show("imbalance, XGBoost of 100 trees", study, ("imbalance", "pr_auc", "recall", "precision", "f1", "train_s"))
    show("learners", board, ("learner", "pr_auc", "recall", "precision", "f1", "train_s", "ms_a_row", "problem"))
    named = [{"model": one.get("learner") or f"xgboost {one['imbalance']}", **one} for one in (*study, *board)]
    show("thresholds", named, ("model", "threshold", "cost_at_half", "cost", "saved"))
    publish(
        "learners",
        f"{data}; 80/20 stratified, seed {SEED}; recall, precision and F1 at 0.5; cost {MISSED} a missed fraud and "
        f"{FALSE_ALARM} a false alarm at the threshold of least cost on the validation part; one row at a time through "
        "the exported model",
        {"data": data, "imbalance": study, "learners": board},
    )


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Features and labels of the published file."""
    frame = pl.read_csv(path, infer_schema_length=None)
    return frame.select(COLUMNS).to_numpy().astype(np.float32), frame["Class"].to_numpy().astype(np.int8)


def made(n: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Rows of the file's shape: components of shrinking size, of which frauds are off in ten, some of them hardly."""
    rng = np.random.default_rng(SEED)
    labels = np.zeros(n, np.int8)
    labels[rng.choice(n, max(20, round(n * FRAUDS / ROWS)), replace=False)] = 1
    sizes = np.linspace(2, 0.3, 28)
    components = rng.standard_t(5, size=(n, 28)) * sizes
    off = rng.choice(28, 10, replace=False)
    strength = rng.gamma(4.0, 0.7, n) * labels
    components[:, off] += strength[:, None] * sizes[off] * rng.choice([-1, 1], 10)
    seconds, amounts = np.sort(rng.uniform(0, 172_792, n)), np.exp(rng.normal(3.1, 1.6, n)).round(2)
    return np.column_stack([seconds, components, amounts]).astype(np.float32), labels


def split(rows: NDArray[np.float32], labels: NDArray[np.int8]) -> tuple[Part, Part, Part]:
    """To learn from, to choose by, to report on."""
    everything = np.arange(len(labels))
    rest, test = train_test_split(everything, test_size=0.2, stratify=labels, random_state=SEED)
    train, validation = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=SEED)
    train, validation, test = (
        Part(rows[(at := np.sort(one))], labels[at], at, rows[at]) for one in (train, validation, test)
    )
    return train, validation, test


def tried(learner: Learner, parts: tuple[Part, Part, Part]) -> dict[str, Any]:
    """What a learner reaches, or why it cannot be tried here."""
    try:
        return measured(learner, "none", parts)
    except InvalidDefinition as error:  # its library is not installed
        return {"problem": str(error)}


def measured(learner: Learner, imbalance: Imbalance, parts: tuple[Part, Part, Part]) -> dict[str, Any]:
    """Fit, export, certify, and measure the exported model on the test part."""
    train, validation, test = parts
    begin = time.perf_counter()
    fitted = fit(train, validation, Training(learner=learner, imbalance=imbalance, seed=SEED), {})
    seconds = time.perf_counter() - begin
    scorer = Scorer(fitted.to_onnx(train.rows.shape[1]))
    certificate = certify(fitted.predict, scorer, test.rows, fitted.split_probes(train.rows[:2_000]))
    scores = scorer.score(test.rows)
    threshold = cheapest(scorer.score(validation.rows), validation.labels)
    at_half, at_threshold = cost(scores, test.labels, 0.5), cost(scores, test.labels, threshold)
    return {
        "trees": fitted.trees_used,
        "pr_auc": round(average_precision(scores, test.labels), 4),
        **at(scores, test.labels, 0.5),
        "train_s": round(seconds, 2),
        "ms_a_row": round(milliseconds_a_row(scorer, test.rows), 4),
        "largest_difference_of_the_export": certificate.largest,
        "threshold": round(threshold, 2),
        "cost_at_half": at_half,
        "cost": at_threshold,
        "saved": at_half - at_threshold,
    }


def at(scores: Scores, labels: NDArray[np.int8], threshold: float) -> dict[str, float]:
    """Recall, precision and their harmonic mean."""
    alarms = scores >= threshold
    caught = int(np.sum(alarms & (labels == 1)))
    recall, precision = caught / int(labels.sum()), caught / max(int(alarms.sum()), 1)
    f1 = 2 * recall * precision / max(recall + precision, 1e-12)
    return {"recall": round(recall, 4), "precision": round(precision, 4), "f1": round(f1, 4)}


def cost(scores: Scores, labels: NDArray[np.int8], threshold: float) -> int:
    """What missed frauds and false alarms cost together."""
    alarms = scores >= threshold
    return int(MISSED * np.sum(~alarms & (labels == 1)) + FALSE_ALARM * np.sum(alarms & (labels == 0)))


def cheapest(scores: Scores, labels: NDArray[np.int8]) -> float:
    """The threshold of least cost, of 99."""
    return float(min(GRID, key=lambda one: cost(scores, labels, one)))


def milliseconds_a_row(scorer: Scorer, rows: NDArray[np.float32]) -> float:
    """The mean of a thousand rows, one at a time."""
    scorer.score(rows[:1])
    begin = time.perf_counter()
    for n in range(1_000):
        scorer.score(rows[n % len(rows)][None])
    return time.perf_counter() - begin


def show(title: str, found: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """A table, to read."""
    shown = [one for one in columns if any(one in row for row in found)]
    sys.stderr.write(f"\n{title}\n" + "  ".join(f"{one:>18}" for one in shown) + "\n")
    for row in found:
        sys.stderr.write("  ".join(f"{row.get(one, '')!s:>18}" for one in shown) + "\n")


if __name__ == "__main__":
    main()
