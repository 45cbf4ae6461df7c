"""What holds for every learner: its export is certified, whatever it learned from, and says why exactly."""

import catboost
import msgspec
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.detector import Training
from sentinel.errors import CertificateRefused, DataProblem
from sentinel.learner import LEARNERS, CatBoost, LightGBM, LogisticRegression, RandomForest, XGBoost
from sentinel.model.certificate import LIMIT, certify
from sentinel.model.contributions import paths_of
from sentinel.model.onnx_file import OnnxFile
from sentinel.model.reasons import Explainer
from sentinel.model.scorer import Scorer
from sentinel.train.fitting.fit import fit
from sentinel.train.rows.dataset import Part

SMALL = [
    XGBoost(trees=12), LightGBM(trees=12, min_child_samples=3), CatBoost(trees=12, depth=4),
    RandomForest(trees=12, min_samples_leaf=1), LogisticRegression(),
]  # fmt: skip
TREES = SMALL[:4]
N_FEATURES = 6
CODES = {4: 4}


def name_of(learner):
    return learner.__struct_config__.tag


def part_of(rows, labels):
    return Part(rows, labels.astype(np.int8), np.arange(len(rows)), rows)


def sample(seed, *, n=400, missing=0.2, frauds=60, scale=1.0, ties=3.0):
    """Numbers with ties and gaps, one that never changes, codes of a category, and labels that follow from them."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    rows[:, 1] = np.rint(rows[:, 1] * ties)
    rows[:, 2] = 1.0
    rows[:, 3] *= np.float32(scale)
    rows[:, 4] = rng.integers(0, 4, n)
    rows[rng.random(rows.shape) < missing] = np.nan
    rows[:, 5] = rng.normal(size=n)  # never missing in training
    worth = np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 1]) / ties + (rows[:, 4] == 2) + rng.normal(size=n)
    labels = np.zeros(n, np.int8)
    labels[np.argsort(-worth)[:frauds]] = 1
    return rows, labels


def learned(learner, rows, labels, **training):
    return fit(part_of(rows, labels), part_of(rows, labels), Training(learner=learner, **training), CODES)


def certified(fitted, rows):
    return certify(fitted.predict, Scorer(fitted.to_onnx(N_FEATURES)), rows, fitted.split_probes(rows))


def test_every_learner_is_tried_here():
    assert {type(one) for one in SMALL} == set(LEARNERS.values())


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
def test_a_learner_is_read_as_it_is_written(learner):
    training = Training(learner=learner)
    assert msgspec.convert(msgspec.to_builtins(training), Training) == training


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    missing=st.sampled_from([0.0, 0.01, 0.3, 0.9]),
    frauds=st.sampled_from([1, 2, 40, 199]),
    scale=st.sampled_from([1e-30, 1.0, 1e9, 1e37]),
    ties=st.sampled_from([0.5, 5.0]),
)
def test_the_export_answers_as_the_learner_does_on_every_row_and_edge(learner, seed, missing, frauds, scale, ties):
    rows, labels = sample(seed, n=200, missing=missing, frauds=frauds, scale=scale, ties=ties)
    fitted = learned(learner, rows, labels)
    found = certified(fitted, rows)
    assert found.largest <= LIMIT
    assert found.test_rows == len(rows)


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
def test_rows_that_no_training_row_was_like_are_answered_alike(learner):
    rows, labels = sample(1, n=2000, frauds=200)
    fitted = learned(learner, rows, labels)
    scorer = Scorer(fitted.to_onnx(N_FEATURES))
    rng = np.random.default_rng(0)
    strange = rng.normal(size=(500, N_FEATURES)).astype(np.float32) * np.float32(10.0) ** rng.integers(
        -38, 38, (500, 1)
    )
    strange[rng.random(strange.shape) < 0.3] = np.nan
    strange = np.vstack([strange, np.full((1, N_FEATURES), np.nan), np.zeros((1, N_FEATURES))]).astype(np.float32)
    assert np.abs(scorer.score(strange) - fitted.predict(strange)).max() <= LIMIT


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
def test_a_score_has_the_same_bits_whatever_rows_are_beside_it(learner):
    rows, labels = sample(2, n=300)
    scorer = Scorer(learned(learner, rows, labels).to_onnx(N_FEATURES))
    together = scorer.score(rows)
    assert together.tobytes() == np.concatenate([scorer.score(row[None]) for row in rows]).tobytes()
    assert together.tobytes() == np.concatenate([scorer.score(rows[i : i + 7]) for i in range(0, 300, 7)]).tobytes()


@pytest.mark.parametrize("learner", TREES, ids=name_of)
def test_our_own_trees_answer_with_the_bits_of_onnx_runtime(learner):
    rows, labels = sample(3, n=1000)
    model = learned(learner, rows, labels).to_onnx(N_FEATURES)
    ours = Scorer(model)
    assert ours.is_bounded
    assert ours.score(rows).tobytes() == Scorer(model, own_trees=False).score(rows).tobytes()


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
def test_the_same_rows_and_seed_give_the_same_bytes(learner):
    rows, labels = sample(4)
    assert learned(learner, rows, labels).to_onnx(N_FEATURES) == learned(learner, rows, labels).to_onnx(N_FEATURES)


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
def test_reasons_add_up_to_the_score(learner):
    rows, labels = sample(5, n=600)
    fitted = learned(learner, rows, labels)
    explainer = Explainer(OnnxFile(fitted.to_onnx(N_FEATURES)), [f"f{n}" for n in range(N_FEATURES)], {})
    for row, score in zip(rows[:40], fitted.predict(rows[:40]), strict=True):
        why = explainer.explain(row.astype(np.float64), most=3)
        total = why.expected + why.others + sum(one.contribution for one in why.reasons)
        shown = total if why.unit == "probability" else 1 / (1 + np.exp(-total))
        assert shown == pytest.approx(score, abs=2e-6)
        assert why.unit == ("probability" if isinstance(learner, RandomForest) else "log_odds")


@pytest.mark.parametrize("learner", TREES[:3], ids=name_of)
def test_without_a_validation_part_all_trees_are_there(learner):
    rows, labels = sample(6)
    fitted = fit(part_of(rows, labels), None, Training(learner=learner), CODES)
    assert fitted.trees_used == learner.trees


@pytest.mark.parametrize("learner", TREES[:3], ids=name_of)
def test_a_fit_that_gets_no_better_stops_and_is_cut_to_its_best(learner):
    rows, labels = sample(7)
    other = np.random.default_rng(1).permutation(labels)  # nothing to find there
    learner = msgspec.structs.replace(learner, trees=400, patience=5, learning_rate=0.3)
    told = []
    fitted = fit(
        part_of(rows, labels), part_of(rows, other), Training(learner=learner), CODES,
        lambda done, of: told.append((done, of)),
    )  # fmt: skip
    assert fitted.trees_used < 30
    assert told[-2][0] <= fitted.trees_used + 6 < 400
    assert told[-1] == (400, 400)
    assert certified(fitted, rows).largest <= LIMIT


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
def test_another_number_of_features_is_refused(learner):
    rows, labels = sample(8)
    with pytest.raises(CertificateRefused, match="trained on 6 features, not on 5"):
        learned(learner, rows, labels).to_onnx(5)


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
def test_rows_that_tell_nothing_give_one_score_or_are_refused(learner):
    rows, labels = np.ones((100, N_FEATURES), np.float32), sample(9, n=100, frauds=20)[1]
    if isinstance(learner, CatBoost):
        with pytest.raises(DataProblem, match="constant"):
            learned(learner, rows, labels)
        return
    fitted = learned(learner, rows, labels)
    assert certified(fitted, rows).largest <= LIMIT
    assert len(np.unique(fitted.predict(rows))) == 1


@pytest.mark.parametrize("learner", SMALL, ids=name_of)
def test_class_weights_raise_every_learners_scores(learner):
    rows, labels = sample(10, n=1000, frauds=40)
    plain, weighted = (
        learned(learner, rows, labels, imbalance=one).predict(rows).mean() for one in ("none", "class_weight")
    )
    assert weighted > 1.3 * plain


def values_of_the_library(learner, fitted, rows):
    """Shapley values and the expected sum, (n, features + 1)."""
    match learner:
        case XGBoost():
            return fitted.booster.predict(xgboost.DMatrix(rows), pred_contribs=True)
        case LightGBM():
            return fitted.booster.predict(rows, pred_contrib=True, num_iteration=fitted.trees_used)
        case _:
            return fitted.model.get_feature_importance(catboost.Pool(rows), type="ShapValues")


@pytest.mark.parametrize("learner", TREES[:3], ids=name_of)
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_contributions_are_those_of_the_library(learner, missing):
    rows, labels = sample(11, n=1500, frauds=150, missing=missing)
    fitted = learned(learner, rows, labels)
    wanted = values_of_the_library(learner, fitted, rows)
    paths = paths_of(OnnxFile(fitted.to_onnx(N_FEATURES)))
    assert np.abs(paths.contributions(rows) - wanted[:, :-1]).max() < 1e-5
    assert paths.expected == pytest.approx(wanted[0, -1], abs=1e-5)
