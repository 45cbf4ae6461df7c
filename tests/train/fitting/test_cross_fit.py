"""What speaks against a training beside its ranking: thresholds that go wrong on the next fold, ties."""

import numpy as np
import pytest

from sentinel.train.fitting.cross_fit import tied_share, unsteadiness

RNG = np.random.default_rng(3)
LABELS = [(np.arange(1_000) % 50 == 0).astype(np.int8)] * 3
STEADY = [RNG.normal(-3, 1, 1_000) for _ in range(3)]


def test_models_on_one_scale_are_steady():
    assert unsteadiness(STEADY, LABELS) == 0.0


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_model_on_another_scale_is_not(moved):
    shifted = [one + 10 * (n == moved) for n, one in enumerate(STEADY)]
    assert unsteadiness(shifted, LABELS) == 1.0


def test_frauds_that_score_high_do_not_count():
    assert unsteadiness([np.where(LABELS[0] == 1, 50.0, one) for one in STEADY], LABELS) == 0.0


def test_one_fold_tells_nothing():
    assert unsteadiness(STEADY[:1], LABELS[:1]) == 0.0


def test_ties_among_the_highest_are_counted_and_others_are_not():
    scores = np.linspace(0, 0.5, 1_000).astype(np.float32)
    assert tied_share(scores) == 0.0
    scores[:900] = 0.1
    assert tied_share(scores) == 0.0
    scores[-5:] = 0.9
    assert tied_share(scores) == 0.5
    scores[-10:] = 0.9
    assert tied_share(scores) == 1.0
