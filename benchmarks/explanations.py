"""What an explanation costs: the contributions of 40 features to one row's score, of 200 trees, on one core."""

import statistics
import time

import numpy as np
import xgboost

from report import publish
from sentinel.model.contributions import paths_of
from sentinel.model.onnx_file import OnnxFile
from sentinel.train.learners.xgboost import FittedXGBoost

FEATURES, TREES, DEPTH, ROWS = 40, 200, 6, 300


def main() -> None:
    """Explain rows one by one, and beside each let XGBoost do it."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(20_000, FEATURES)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    known = np.nan_to_num(rows)
    labels = known[:, 0] * known[:, 1] + known[:, 2] + rng.normal(size=len(rows)) > 1.5
    parameters = {"objective": "binary:logistic", "max_depth": DEPTH, "tree_method": "hist", "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, labels), num_boost_round=TREES)
    began_s = time.perf_counter()
    paths = paths_of(OnnxFile(FittedXGBoost(booster).to_onnx(FEATURES)))
    ready_s = time.perf_counter() - began_s
    paths.contributions(rows[:1])  # compiled
    ours, theirs, largest = [], [], 0.0
    for n in range(ROWS):
        row = rows[n : n + 1]
        matrix = xgboost.DMatrix(row)
        began_s = time.perf_counter()
        found = paths.contributions(row)
        between_s = time.perf_counter()
        wanted = booster.predict(matrix, pred_contribs=True)
        theirs.append(time.perf_counter() - between_s)
        ours.append(between_s - began_s)
        largest = max(largest, float(np.abs(found - wanted[:, :-1]).max()))
    publish(
        "explanations",
        f"{TREES} trees of depth {DEPTH}, {FEATURES} features, {ROWS} rows one by one, one core; medians",
        {
            "ms a row": round(statistics.median(ours) * 1e3, 3),
            "ms a row of XGBoost": round(statistics.median(theirs) * 1e3, 3),
            "largest difference": largest,
            "s to make the paths": round(ready_s, 3),
            "paths": len(paths.leaves),
        },
    )


if __name__ == "__main__":
    main()
