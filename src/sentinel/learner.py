"""What can be learned with: one record for each learner, with its settings under its library's own names."""

from typing import Literal, TypeAlias

import msgspec

from sentinel.errors import InvalidDefinition

Imbalance: TypeAlias = Literal["none", "class_weight", "smote", "undersample"]


def _check_counts(learner: msgspec.Struct) -> None:
    for name in ("trees", "patience"):
        if getattr(learner, name, 1) < 1:
            raise InvalidDefinition(
                f"{type(learner).__name__}: {name} is {getattr(learner, name)}; it has to be 1 at least"
            )


class XGBoost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="name", tag="xgboost"):
    """Boosted trees of XGBoost: up to `trees`, fewer where `eval_metric` has not improved for `patience` of them."""

    trees: int = 600
    patience: int = 50
    eval_metric: str = "logloss"
    max_depth: int = 4
    learning_rate: float = 0.05
    subsample: float = 0.8
    colsample_bytree: float = 0.5
    min_child_weight: float = 1.0
    reg_lambda: float = 1.0
    gamma: float = 0.0
    scale_pos_weight: float = 1.0
    tree_method: str = "hist"
    max_bin: int = 256

    def __post_init__(self) -> None:
        _check_counts(self)


class LightGBM(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="name", tag="lightgbm"):
    """Boosted trees of LightGBM, which grow leaf by leaf; `trees`, `patience` and `eval_metric` as of XGBoost."""

    trees: int = 600
    patience: int = 50
    eval_metric: str = "binary_logloss"
    num_leaves: int = 31
    max_depth: int = -1
    learning_rate: float = 0.05
    subsample: float = 0.9
    colsample_bytree: float = 0.8
    min_child_samples: int = 20
    min_child_weight: float = 0.001
    reg_lambda: float = 1.0
    max_bin: int = 255

    def __post_init__(self) -> None:
        _check_counts(self)


class CatBoost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="name", tag="catboost"):
    """Boosted symmetric trees of CatBoost; `trees`, `patience` and `eval_metric` as of XGBoost."""

    trees: int = 600
    patience: int = 50
    eval_metric: str = "Logloss"
    depth: int = 6
    learning_rate: float = 0.05
    subsample: float = 0.8
    rsm: float = 1.0
    l2_leaf_reg: float = 3.0
    random_strength: float = 1.0
    border_count: int = 254

    def __post_init__(self) -> None:
        _check_counts(self)


class RandomForest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="name", tag="random_forest"
):
    """The random forest of scikit-learn: the mean of `trees` trees, each of a resample of the rows."""

    trees: int = 200
    max_depth: int | None = 12
    min_samples_leaf: int = 3
    max_features: float | Literal["sqrt", "log2"] = "sqrt"
    max_samples: float | None = None

    def __post_init__(self) -> None:
        _check_counts(self)


class LogisticRegression(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="name", tag="logistic_regression"
):
    """The logistic regression of scikit-learn: `C` is the inverse of its L2 penalty."""

    C: float = 1.0
    max_iter: int = 100

    def __post_init__(self) -> None:
        if not self.C > 0:
            raise InvalidDefinition(f"LogisticRegression: C is {self.C}; it has to be above 0")


Learner: TypeAlias = XGBoost | LightGBM | CatBoost | RandomForest | LogisticRegression

LEARNERS: dict[str, type[Learner]] = {
    str(one.__struct_config__.tag): one for one in (XGBoost, LightGBM, CatBoost, RandomForest, LogisticRegression)
}
"""By the name that stands in a manifest and after `--learner`."""
