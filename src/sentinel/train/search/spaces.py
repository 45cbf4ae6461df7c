"""What is searched around for each learner: the settings that matter, between bounds that are known to be sane."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from optuna import Trial

from sentinel.learner import CatBoost, Learner, LightGBM, LogisticRegression, RandomForest, XGBoost

MOST_TREES = 600


def _xgboost(trial: Trial) -> dict[str, Any]:
    return {
        "trees": MOST_TREES,
        "max_depth": trial.suggest_int("xgboost_max_depth", 2, 8),
        "learning_rate": trial.suggest_float("xgboost_learning_rate", 0.02, 0.2, log=True),
        "subsample": trial.suggest_float("xgboost_subsample", 0.5, 1.0),
        "colsample_bytree": trial.suggest_float("xgboost_colsample_bytree", 0.2, 1.0),
        "min_child_weight": trial.suggest_float("xgboost_min_child_weight", 0.1, 20.0, log=True),
        "reg_lambda": trial.suggest_float("xgboost_reg_lambda", 0.1, 20.0, log=True),
        "gamma": trial.suggest_float("xgboost_gamma", 0.0, 3.0),
        "scale_pos_weight": trial.suggest_categorical("xgboost_scale_pos_weight", [1.0, 3.0, 10.0]),
        "max_bin": trial.suggest_categorical("xgboost_max_bin", [256, 1024]),
    }


def _lightgbm(trial: Trial) -> dict[str, Any]:
    return {
        "trees": MOST_TREES,
        "num_leaves": trial.suggest_int("lightgbm_num_leaves", 4, 64, log=True),
        "learning_rate": trial.suggest_float("lightgbm_learning_rate", 0.02, 0.2, log=True),
        "subsample": trial.suggest_float("lightgbm_subsample", 0.5, 1.0),
        "colsample_bytree": trial.suggest_float("lightgbm_colsample_bytree", 0.2, 1.0),
        "min_child_samples": trial.suggest_int("lightgbm_min_child_samples", 5, 200, log=True),
        "reg_lambda": trial.suggest_float("lightgbm_reg_lambda", 0.1, 20.0, log=True),
    }


def _catboost(trial: Trial) -> dict[str, Any]:
    return {
        "trees": MOST_TREES,
        "depth": trial.suggest_int("catboost_depth", 3, 8),
        "learning_rate": trial.suggest_float("catboost_learning_rate", 0.02, 0.2, log=True),
        "subsample": trial.suggest_float("catboost_subsample", 0.5, 1.0),
        "l2_leaf_reg": trial.suggest_float("catboost_l2_leaf_reg", 0.5, 20.0, log=True),
    }


def _random_forest(trial: Trial) -> dict[str, Any]:
    return {
        "max_depth": trial.suggest_int("random_forest_max_depth", 4, 20),
        "min_samples_leaf": trial.suggest_int("random_forest_min_samples_leaf", 1, 20, log=True),
        "max_features": trial.suggest_float("random_forest_max_features", 0.1, 0.6),
    }


def _logistic_regression(trial: Trial) -> dict[str, Any]:
    return {"C": trial.suggest_float("logistic_regression_C", 1e-4, 10.0, log=True)}


SPACES: Mapping[type[Learner], Callable[[Trial], dict[str, Any]]] = {
    XGBoost: _xgboost,
    LightGBM: _lightgbm,
    CatBoost: _catboost,
    RandomForest: _random_forest,
    LogisticRegression: _logistic_regression,
}


def proposed(trial: Trial, learner: Learner) -> Learner:
    """The learner with the settings that a trial proposes; the others stay as they are."""
    return msgspec.structs.replace(learner, **SPACES[type(learner)](trial))
