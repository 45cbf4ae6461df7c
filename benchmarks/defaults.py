"""The defaults of `sentinel train` on ten varied data sets: is a policy useless without a word, or the model weak?

Each detector is trained as it stands, as `sentinel train` does without options, and again with ten other settings of
XGBoost, one fit each. All are measured on the same later rows, which none of them has seen: of the simulated sets
10,000, however short their history is. The exit code is 1 where a policy is useless and no warning says so, or where
the default's average precision is more than 0.02 below the best of the ten. `--only NAME` measures one set;
with `--differences` it says what each setting in which the detector differs from XGBoost as it comes is worth there.
"""

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl

from report import DATA, publish
from sentinel.detector import Detector, Training
from sentinel.detectors import load_detector
from sentinel.events.files import History, history_of_frame, read_history
from sentinel.learner import XGBoost
from sentinel.policy.thresholds import Action
from sentinel.review.average_precision import average_precision
from sentinel.simulate.payments import simulate
from sentinel.train.figures.evaluate import Metrics, baselines, evaluate
from sentinel.train.fitting.fit import code_columns
from sentinel.train.judging.advice import advice
from sentinel.train.judging.doubts import ADVICE, BETWEEN, REVIEWS, doubts, rows_between
from sentinel.train.rows.dataset import Dataset, build_dataset
from sentinel.train.search.experiment import QUICK, Experiment, Found, Setting, explore

LATER = 10_000
MOST_BELOW = 0.02
LEAST_RECALL = 0.05
SETTINGS = (
    XGBoost(max_depth=3, learning_rate=0.1),
    XGBoost(max_depth=4, learning_rate=0.05, subsample=0.8),
    XGBoost(max_depth=6, learning_rate=0.05),
    XGBoost(max_depth=6, learning_rate=0.1, subsample=0.7, colsample_bytree=0.5),
    XGBoost(max_depth=6, learning_rate=0.03, min_child_weight=5.0),
    XGBoost(max_depth=8, learning_rate=0.05, reg_lambda=5.0),
    XGBoost(max_depth=4, learning_rate=0.05, min_child_weight=0.1, reg_lambda=0.1, max_bin=1024),
    XGBoost(max_depth=5, learning_rate=0.05, scale_pos_weight=5.0),
    XGBoost(max_depth=6, learning_rate=0.05, scale_pos_weight=20.0, gamma=1.0),
    XGBoost(max_depth=2, learning_rate=0.1, colsample_bytree=0.5),
)
SIMULATED = {
    # name: seed, rows of the history, share of fraud
    "simulated 3,000, 5 % fraud": (101, 3_000, 0.05),
    "simulated 3,000, 2 % fraud": (102, 3_000, 0.02),
    "simulated 6,000, 1 % fraud": (103, 6_000, 0.01),
    "simulated 10,000, 0.7 % fraud": (104, 10_000, 0.007),
    "simulated 20,000, 2 % fraud": (105, 20_000, 0.02),
    "simulated 40,000, 0.3 % fraud": (106, 40_000, 0.003),
    "simulated 40,000, 0.7 % fraud": (107, 40_000, 0.007),
}
WEEKS = {"handbook June": datetime(2018, 6, 4, tzinfo=UTC), "handbook August": datetime(2018, 8, 6, tzinfo=UTC)}
Made = tuple[Detector, History, float]
"""A detector, a history, and the share of it that is only measured on."""


def simulated(seed: int, rows: int, share: float) -> Made:
    """Simulated payments, and the 10,000 after them."""
    detector = load_detector("payments")
    frame = simulate(rows + LATER, seed, fraud_share=share)
    return detector, history_of_frame(frame, detector.schema), LATER / (rows + LATER)


def handbook_weeks(begin: datetime) -> Made:
    """Two weeks of the handbook's data, and the week after them."""
    detector = load_detector("handbook")
    history = read_history(DATA / "handbook_simulated.parquet", detector.schema)
    begin_us = int(begin.timestamp() * 1e6)
    frame = history.frame.filter(pl.col(detector.schema.time).is_between(begin_us, begin_us + 21 * 86_400_000_000))
    return detector, dataclasses.replace(history, frame=frame), 1 / 3


def xente() -> Made:
    """All of the Xente data; the detector's own test part."""
    detector = load_detector("xente")
    history = read_history(DATA / "xente_2018-11-15_to_2019-01-19.parquet", detector.schema)
    return detector, history, detector.training.test_share


def measured(make: Callable[[], Made]) -> dict[str, Any]:
    """The default and the best of ten on one data set."""
    detector, data, training, setting = prepared(make)
    default = explore(data, training, Experiment(), setting)
    others = [explore(data, msgspec.structs.replace(training, learner=learner), QUICK, setting) for learner in SETTINGS]
    found = [
        average_precision(one.calibrated().predict(data.test.rows), data.test.labels) for one in (default, *others)
    ]
    metrics, warnings = judged(detector, default, data)
    silent = is_useless(metrics) and not warnings
    below = max(found[1:]) - found[0]
    return {
        "history_frauds": data.train.frauds + data.validation.frauds,
        "later_frauds": data.test.frauds,
        "average_precision": round(found[0], 4),
        "best_of_ten": round(max(found[1:]), 4),
        "median_of_ten": round(float(np.median(found[1:])), 4),
        "below_best": round(below, 4),
        "trees": default.model.trees_used,
        "review_recall": round(metrics.review.recall, 3),
        "block_recall": metrics.block and round(metrics.block.recall, 3),
        "warnings": len(warnings),
        "useless_without_a_warning": silent,
        "missed": silent or below > MOST_BELOW,
    }


def prepared(make: Callable[[], Made]) -> tuple[Detector, Dataset, Training, Setting]:
    """A data set, split so that its last share is only measured on."""
    detector, history, later = make()
    own = detector.training.validation_share / (1 - detector.training.test_share)
    training = msgspec.structs.replace(detector.training, test_share=later, validation_share=own * (1 - later))
    data = build_dataset(msgspec.structs.replace(detector, training=training), history, lambda _done, _of: None)
    return detector, data, training, Setting(code_columns(data.plan), (), None, time.monotonic, lambda *_: None)


def differences(make: Callable[[], Made]) -> dict[str, Any]:
    """Average precision of the detector's own XGBoost and of XGBoost as it comes; of each with one setting swapped."""
    _, data, training, setting = prepared(make)
    own, plain = training.learner, XGBoost()
    if not isinstance(own, XGBoost):
        sys.exit("this detector does not learn with XGBoost; choose another set")

    def worth(learner: XGBoost) -> float:
        found = explore(data, msgspec.structs.replace(training, learner=learner), Experiment(), setting)
        return round(average_precision(found.calibrated().predict(data.test.rows), data.test.labels), 4)

    swapped = {}
    for name in XGBoost.__struct_fields__:
        mine, usual = getattr(own, name), getattr(plain, name)
        if mine != usual:
            swapped[name] = {
                f"own, but {usual}": worth(msgspec.structs.replace(own, **{name: usual})),
                f"as it comes, but {mine}": worth(msgspec.structs.replace(plain, **{name: mine})),
            }
    return {"own": worth(own), "as it comes": worth(plain), **swapped}


def judged(detector: Detector, found: Found, data: Dataset) -> tuple[Metrics, tuple[str, ...]]:
    """The metrics of the policy that the default comes to, and what is said against it."""
    sample = found.sample()
    thresholds = detector.policy.choose(sample)
    scores = found.calibrated().predict(data.test.rows)
    metrics = evaluate(scores, data.test.labels, thresholds, baselines(data.plan, data.test.rows))
    facts = {
        "trees_used": found.model.trees_used,
        BETWEEN: rows_between(found.scores, thresholds),
        REVIEWS: Action.REVIEW in detector.policy.actions,
        ADVICE: advice(detector.policy, sample, thresholds),
    }
    return metrics, doubts(metrics, facts)


def is_useless(metrics: Metrics) -> bool:
    """Whether next to no fraud is found, or nothing is ever reviewed."""
    block = metrics.block
    return metrics.review.recall < LEAST_RECALL or (block is not None and block.threshold == metrics.review.threshold)


def main() -> None:
    """Measure all sets, or the one that is asked for."""
    sets: dict[str, Callable[[], Made]] = {
        **{name: functools.partial(simulated, *given) for name, given in SIMULATED.items()},
        **{name: functools.partial(handbook_weeks, begin) for name, begin in WEEKS.items()},
        "xente": xente,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sets)
    parser.add_argument("--differences", action="store_true")
    given = parser.parse_args()
    only = given.only
    if given.differences:
        if only is None:
            sys.exit("--differences is of one set; say which with --only")
        publish("differences", (differences.__doc__ or "") + f" On {only}.", differences(sets[only]))
        return
    figures = {}
    for name, make in sets.items():
        if only in (None, name):
            figures[name] = measured(make)
            sys.stderr.write(f"{name}: {figures[name]}\n")
    publish("defaults", __doc__.split("\n\n")[1].replace("\n", " "), figures)
    sys.exit(any(one["missed"] for one in figures.values()))


if __name__ == "__main__":
    main()
