"""A calibrated model and a vote are exported as one model, and certified as any other is."""

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.detector import Training
from sentinel.errors import CertificateRefused
from sentinel.learner import LEARNERS, XGBoost
from sentinel.model.bundle import OnnxFile
from sentinel.model.certificate import LIMIT, certify
from sentinel.model.contributions import paths_of
from sentinel.model.reasons import Explainer
from sentinel.model.scorer import Scorer
from sentinel.train.fitting.calibrate import Beta, calibrate
from sentinel.train.fitting.calibrated import Calibrated
from sentinel.train.fitting.fit import fit
from sentinel.train.fitting.vote import Vote, can_vote
from sentinel.train.learners.fit_rows import FitRows
from sentinel.train.learners.xgboost import fit_xgboost
from sentinel.train.rows.dataset import Part

N_FEATURES = 5


def sample(seed, n=800):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    rows[:, 1] = np.rint(rows[:, 1] * 3)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    labels = np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 1]) + rng.normal(size=n) > 2
    return rows, labels.astype(np.int8)


def model_of(seed, trees=15, **given):
    rows, labels = sample(seed)
    learned = FitRows(rows, labels, np.ones(len(rows), np.float32), {})
    learner = msgspec.structs.replace(XGBoost(trees=trees, max_depth=4), **given)
    return fit_xgboost(learner, learned, None, seed, lambda *_: None)


def certificate_of(model, rows):
    return certify(model.predict, Scorer(model.to_onnx(N_FEATURES)), rows, model.split_probes(rows))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), method=st.sampled_from(["beta", "isotonic"]), members=st.integers(1, 3))
def test_what_is_exported_is_what_was_calibrated(seed, method, members):
    models = [model_of(seed + n) for n in range(members)]
    model = models[0] if members == 1 else Vote(models)
    rows, _ = sample(seed + 500)
    fresh, labels = sample(seed + 600)
    calibrated = Calibrated(model, calibrate(method, model.log_odds(fresh), labels))
    found = certificate_of(calibrated, rows)
    assert found.largest < LIMIT
    assert found.splits > 0
    order = np.argsort(model.log_odds(rows), kind="stable")
    assert (np.diff(calibrated.log_odds(rows)[order]) >= 0).all()


def test_a_vote_is_the_mean_of_log_odds():
    models, (rows, _) = [model_of(seed) for seed in range(3)], sample(9)
    served = Scorer(Vote(models).to_onnx(N_FEATURES)).score(rows)
    by_hand = 1 / (1 + np.exp(-np.mean([model.log_odds(rows) for model in models], axis=0)))
    np.testing.assert_allclose(served, by_hand, atol=1e-6)
    assert Vote(models).trees_used == 45
    assert certificate_of(Vote(models), rows).splits == sum(certificate_of(model, rows).splits for model in models)


def test_a_vote_of_one_says_what_it_says():
    model, (rows, _) = model_of(4), sample(10)
    np.testing.assert_allclose(Vote([model]).predict(rows), model.predict(rows), atol=1e-6)


def test_a_calibrated_model_says_why_by_its_trees():
    model, (rows, _) = model_of(5), sample(11)
    calibrated = Calibrated(model, Beta(1.4, 0.8, -0.3))
    paths = [paths_of(OnnxFile(one.to_onnx(N_FEATURES))) for one in (model, calibrated)]
    np.testing.assert_array_equal(*(one.contributions(rows[:20]) for one in paths))


def test_a_calibrated_model_has_no_vote():
    model = model_of(6)
    assert can_vote(model)
    assert can_vote(Vote([model, model]))
    assert not can_vote(Calibrated(model, Beta(1, 1, 0)))


def test_another_number_of_features_is_refused():
    for model in (Vote([model_of(1), model_of(2)]), Calibrated(model_of(1), Beta(1, 1, 0))):
        with pytest.raises(CertificateRefused, match="trained on 5 features"):
            model.to_onnx(N_FEATURES + 1)


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS.keys())
@pytest.mark.parametrize("method", ["beta", "isotonic"])
def test_every_learner_is_calibrated_and_says_why(learner, method):
    rows, labels = sample(20)
    part = Part(rows, labels, np.arange(len(rows)), rows)
    small = {"trees": 12} if hasattr(learner, "trees") or "trees" in learner.__struct_fields__ else {}
    model = fit(part, None, Training(learner=learner(**small)), {})
    fresh, truth = sample(21)
    calibrated = Calibrated(model, calibrate(method, model.log_odds(fresh), truth))
    assert certificate_of(calibrated, fresh).largest < LIMIT
    said = [
        Explainer(OnnxFile(one.to_onnx(N_FEATURES)), list("abcde"), {}).explain(fresh[3]) for one in (model, calibrated)
    ]
    assert said[0] == said[1]
    assert can_vote(model) == (learner not in (LEARNERS["random_forest"], LEARNERS["logistic_regression"]))


def test_learners_of_several_kinds_vote():
    rows, labels = sample(22)
    part = Part(rows, labels, np.arange(len(rows)), rows)
    kinds = [LEARNERS[name] for name in ("xgboost", "lightgbm", "catboost")]
    vote = Vote([fit(part, None, Training(learner=kind(trees=12)), {}) for kind in kinds])
    assert certificate_of(vote, rows).largest < LIMIT
    assert vote.trees_used == 36


class Shares:
    """A model that gives probabilities and no log-odds, as a forest does: through a graph of its own."""

    trees_used = 1

    def __init__(self, model):
        self.model = model

    def predict(self, rows):
        return np.clip(self.model.predict(rows), 0.0, 1.0)

    def log_odds(self, rows):
        within = np.clip(self.predict(rows).astype(np.float64), 1e-5, 1 - 1e-5)
        return np.log(within) - np.log1p(-within)

    def to_onnx(self, n_features):
        model = onnx.load_from_string(self.model.to_onnx(n_features))
        total = model.graph.node[0].output[0]
        del model.graph.node[1:]
        model.graph.node.append(onnx.helper.make_node("Sigmoid", [total], ["fraud_probability"]))
        return model.SerializeToString()

    def split_probes(self, base_rows):
        return self.model.split_probes(base_rows)


def test_a_model_of_probabilities_is_calibrated_by_their_log_odds():
    rows, labels = sample(12)
    shares = Shares(model_of(7))
    calibrated = Calibrated(shares, calibrate("beta", shares.log_odds(rows), labels))
    assert certificate_of(calibrated, rows).largest < LIMIT
