"""The watch: what it remembers of the rows that were scored."""

import numpy as np
import pytest

from sentinel.model.registry import Registry
from sentinel.policy.deployment import DeploymentRecord
from sentinel.policy.judge import Limits
from sentinel.review.drift import DriftSettings
from sentinel.serve.lineup import load_lineup
from sentinel.serve.vectors.predictor import Predictor
from sentinel.serve.vectors.score_cache import ScoreCache
from sentinel.serve.watch import Watch
from sentinel.shadow.settings import ShadowSettings
from sentinel.telemetry.counters import Counters


@pytest.fixture
def watch(shop_home, tmp_path):
    predictor = Predictor(Limits(), ScoreCache(0, 0.0), 100, Counters())
    watch = Watch(tmp_path, predictor, None, Counters(), DriftSettings(), ShadowSettings(), leads=False)
    deployment = DeploymentRecord(shop_home).read()
    watch.follow(deployment, load_lineup(deployment, Registry(shop_home / "models")))
    yield watch
    predictor.stop()


def test_rows_of_a_model_that_has_just_been_swapped_in_disturb_no_one(watch):
    watch.predictor.observe(np.zeros((3, 12), np.float32), np.zeros(3, np.float32))
    watch.predictor.observe(np.zeros((2, 5), np.float32), np.zeros(2, np.float32))
    assert watch.drift_report().current_count == 3
