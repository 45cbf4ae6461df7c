"""Average precision against the one of scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from sentinel.review.average_precision import average_precision

rows = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60)


@given(rows.filter(lambda found: any(fraud for _, fraud in found)), st.sampled_from([np.float32, np.float64]))
def test_it_is_that_of_scikit_learn_with_ties_as_well(found, kind):
    scores, labels = np.array([score for score, _ in found], kind), np.array([fraud for _, fraud in found], np.int8)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(4)
    scores, labels = rng.integers(0, 50, 2000) / 50, (rng.random(2000) < 0.05).astype(np.int8)
    mixed = rng.permutation(2000)
    assert average_precision(scores[mixed], labels[mixed]) == average_precision(scores, labels)


def test_all_frauds_on_top_is_one_and_a_constant_is_the_share_of_frauds():
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.int8)
    assert average_precision(np.linspace(1, 0, 8), labels) == 1.0
    assert average_precision(np.full(8, 0.5), labels) == 0.25
