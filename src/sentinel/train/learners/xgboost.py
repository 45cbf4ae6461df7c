"""XGBoost: boosted trees, stopped early by the validation part."""

import json
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from sentinel.errors import CertificateRefused
from sentinel.learner import XGBoost
from sentinel.train.learners.fit_rows import THREADS, FitRows, Progress
from sentinel.train.learners.fitted_trees import FittedTrees
from sentinel.train.learners.tree import Tree, leaf_alone
from sentinel.train.learners.tree_graph import Ensemble


class FittedXGBoost(FittedTrees):
    """A booster of one label with binary:logistic, with all the trees that it has: cut it first where it has more."""

    def __init__(self, booster: xgboost.Booster) -> None:
        self.booster = booster

    @property
    def trees_used(self) -> int:
        """As `Fitted`."""
        rounds: int = self.booster.num_boosted_rounds()
        return rounds

    @property
    def n_features(self) -> int:
        """As `FittedTrees`."""
        n: int = self.booster.num_features()
        return n

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Fitted`."""
        scores: NDArray[np.float32] = self.booster.inplace_predict(rows, missing=np.nan)
        return scores

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `Fitted`."""
        margins: NDArray[np.float32] = self.booster.inplace_predict(rows, predict_type="margin", missing=np.nan)
        return margins.astype(np.float64)

    def ensemble(self) -> Ensemble:
        """As `FittedTrees`."""
        trees = trees_of(self.booster)
        return Ensemble([leaf_alone(base_logit(self.booster)), *trees], sums=np.float32)


class _Report(xgboost.callback.TrainingCallback):
    def __init__(self, progress: Progress, trees: int) -> None:
        self.progress = progress
        self.trees = trees

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: object) -> bool:
        """Report the progress; never stop the fit."""
        del model, evals_log
        self.progress(epoch + 1, self.trees)
        return False


def fit_xgboost(
    learner: XGBoost, train: FitRows, validation: FitRows | None, seed: int, progress: Progress
) -> FittedXGBoost:
    """The booster, cut to its best number of trees by `eval_metric`; all of them where there is no validation part."""
    held = None if validation is None else _plain_matrix(validation)
    booster = xgboost.train(
        _parameters(learner, train, seed),
        _training_matrix(train, learner),
        num_boost_round=learner.trees,
        evals=[] if held is None else [(held, "validation")],
        early_stopping_rounds=None if held is None else learner.patience,
        verbose_eval=False,
        callbacks=[_Report(progress, learner.trees)],
    )
    progress(learner.trees, learner.trees)
    return FittedXGBoost(booster if held is None else booster[: booster.best_iteration + 1])


def _training_matrix(train: FitRows, learner: XGBoost) -> xgboost.DMatrix:
    """The training rows as XGBoost's matrix.

    The bins of `hist` are cut as if there were as many frauds as legitimate payments: plain quantiles separate the
    legitimate ones, and the frauds, one in a hundred or fewer, would share a bin with them.
    """
    if learner.tree_method != "hist" or train.frauds == 0:
        return _plain_matrix(train)
    balance = np.where(train.labels == 1, (len(train) - train.frauds) / train.frauds, 1.0)
    matrix = xgboost.QuantileDMatrix(
        train.rows, train.labels, weight=balance, missing=np.nan, max_bin=learner.max_bin, nthread=THREADS
    )
    matrix.set_weight(train.weights)
    if train.begins is not None:
        matrix.set_base_margin(train.begins)
    return matrix


def _plain_matrix(part: FitRows) -> xgboost.DMatrix:
    return xgboost.DMatrix(
        part.rows, part.labels, weight=part.weights, base_margin=part.begins, missing=np.nan, nthread=THREADS
    )


def _parameters(learner: XGBoost, train: FitRows, seed: int) -> dict[str, object]:
    given = {
        name: getattr(learner, name)
        for name in (
            "max_depth", "learning_rate", "subsample", "colsample_bytree", "min_child_weight", "reg_lambda",
            "gamma", "scale_pos_weight", "tree_method", "eval_metric",
        )
    }  # fmt: skip
    if learner.tree_method == "hist":
        given["max_bin"] = learner.max_bin
    if train.begins is not None:
        given["base_score"] = 0.5  # log-odds of 0: what it starts from is given for each row
    return {**given, "seed": seed, "objective": "binary:logistic", "nthread": THREADS}


def trees_of(booster: xgboost.Booster) -> list[Tree]:
    """All trees of the booster. Raises CertificateRefused for a booster of another kind."""
    learner = _saved(booster)["learner"]
    _refuse_others(learner)
    return [
        Tree(
            left=np.array(tree["left_children"], np.int64),
            right=np.array(tree["right_children"], np.int64),
            feature=np.array(tree["split_indices"], np.int64),
            value=np.array(tree["split_conditions"], np.float32),
            missing_left=np.array(tree["default_left"], bool),
            cover=np.array(tree["sum_hessian"], np.float32),
        )
        for tree in learner["gradient_booster"]["model"]["trees"]
    ]


def base_logit(booster: xgboost.Booster) -> float:
    """What a row's sum starts from: the answer of the booster without its trees.

    XGBoost is asked, as it clips and rounds the base score in a way of its own.
    """
    saved = _saved(booster)
    model = saved["learner"]["gradient_booster"]["model"]
    model |= {"trees": [], "tree_info": [], "iteration_indptr": [0]}
    model["gbtree_model_param"]["num_trees"] = "0"
    saved["learner"]["learner_model_param"]["boost_from_average"] = "0"  # the base score is settled
    bare = xgboost.Booster(model_file=bytearray(json.dumps(saved).encode()))
    row = np.zeros((1, booster.num_features()), np.float32)
    return float(bare.inplace_predict(row, predict_type="margin")[0])


def _saved(booster: xgboost.Booster) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads(booster.save_raw("json"))
    return saved


def _refuse_others(learner: dict[str, Any]) -> None:
    kind, model = learner["objective"]["name"], learner["gradient_booster"]
    if kind != "binary:logistic" or model["name"] != "gbtree":
        raise CertificateRefused(f"only trees with binary:logistic can be exported, not {model['name']} with {kind}")
    if learner["learner_model_param"]["num_target"] != "1":
        raise CertificateRefused("only a model of one label can be exported")
    if any(any(tree["split_type"]) for tree in model["model"]["trees"]):
        raise CertificateRefused("splits by category cannot be exported; give categories as numbers")
