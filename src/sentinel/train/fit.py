"""Fitting: XGBoost on the training part, stopped early by the validation part."""

from collections.abc import Callable

import numpy as np
import xgboost
from numpy.typing import NDArray

from sentinel.detector import Training
from sentinel.train.dataset import Part


class _Report(xgboost.callback.TrainingCallback):
    def __init__(self, progress: Callable[[int, int], None], trees: int) -> None:
        self.progress = progress
        self.trees = trees

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: object) -> bool:
        """Report the progress; never stop the fit."""
        del model, evals_log
        self.progress(epoch + 1, self.trees)
        return False


def fit(
    train: Part, validation: Part, training: Training, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> xgboost.Booster:
    """The booster, cut to its best number of trees by `eval_metric` on the validation part."""
    booster = xgboost.train(
        parameters(training),
        training_matrix(train, training),
        num_boost_round=training.trees,
        evals=[(xgboost.DMatrix(validation.rows, validation.labels, missing=np.nan), "validation")],
        early_stopping_rounds=training.patience,
        verbose_eval=False,
        callbacks=[_Report(progress, training.trees)],
    )
    best: xgboost.Booster = booster[: booster.best_iteration + 1]
    progress(training.trees, training.trees)
    return best


def training_matrix(train: Part, training: Training) -> xgboost.DMatrix:
    """The training rows as XGBoost's matrix, every row with the same weight.

    The bins of `hist` are cut as if there were as many frauds as legitimate payments: plain quantiles separate the
    legitimate ones, and the frauds, one in a hundred or fewer, would share a bin with them.
    """
    if training.tree_method != "hist" or train.frauds == 0:
        return xgboost.DMatrix(train.rows, train.labels, missing=np.nan, nthread=training_threads())
    balance = np.where(train.labels == 1, (len(train) - train.frauds) / train.frauds, 1.0)
    matrix = xgboost.QuantileDMatrix(
        train.rows, train.labels, weight=balance, missing=np.nan, max_bin=training.max_bin, nthread=training_threads()
    )
    matrix.set_weight(np.ones(len(train), np.float32))
    return matrix


def parameters(training: Training) -> dict[str, object]:
    """The parameters of XGBoost."""
    given = {
        name: getattr(training, name)
        for name in (
            "max_depth", "learning_rate", "subsample", "colsample_bytree", "min_child_weight", "reg_lambda",
            "gamma", "scale_pos_weight", "tree_method", "eval_metric", "seed",
        )
    }  # fmt: skip
    if training.tree_method == "hist":
        given["max_bin"] = training.max_bin
    return {**given, "objective": "binary:logistic", "nthread": training_threads()}


def training_threads() -> int:
    """Threads for fitting: XGBoost's histogram sums depend on their number, so it is always the same."""
    return 2


def predict(booster: xgboost.Booster, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fraud probabilities (n,) of rows (n, features)."""
    scores: NDArray[np.float32] = booster.inplace_predict(rows, missing=np.nan)
    return scores
