"""The training set: what is learned from, and what is only compared with."""

import numpy as np
import polars as pl
import pytest

from sentinel.detector import Detector, Training
from sentinel.errors import DataProblem
from sentinel.events.files import history_of_frame
from sentinel.events.schema import Schema
from sentinel.features.definitions import count, field, fraud_rate
from sentinel.learner import XGBoost
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.train.pipeline import train
from sentinel.train.rows.dataset import build_dataset

DETECTOR = Detector(
    schema=Schema(keys=("card",)),
    features=(field("amount"), count(by="card", over="1h"), fraud_rate(by="card", over="30d", delay="1h")),
    training=Training(learner=XGBoost(trees=5)),
)
ROWS = 3_000


def history(labels):
    return history_of_frame(
        pl.DataFrame(
            {
                "transaction_id": [f"t{n}" for n in range(ROWS)],
                "event_time": [1_700_000_000 + 600 * n for n in range(ROWS)],
                "amount": [float(n % 100) for n in range(ROWS)],
                "card": [f"c{n % 7}" for n in range(ROWS)],
                "is_fraud": labels,
            }
        ),
        DETECTOR.schema,
    )


def labels(unlabelled):
    return [None if unlabelled(n) else int(n % 50 == 0) for n in range(ROWS)]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([0] * ROWS, "all of the 3,000 labelled transactions are legitimate"),
        ([1] * ROWS, "all of the 3,000 labelled transactions are fraud"),
        ([None] * ROWS, "labelled transactions are"),
        ([1] * 9 + [0] * (ROWS - 9), "the validation part has 0 frauds among 450"),
    ],
)
def test_labels_of_one_kind_are_refused_before_the_replay(given, text):
    seen = []
    with pytest.raises(DataProblem, match=text):
        build_dataset(DETECTOR, history(given), lambda done, _of: seen.append(done))
    assert seen == []


def test_what_is_too_young_for_a_label_takes_nothing_of_the_test_parts_share():
    known = [int(n % 50 == 7) for n in range(2_000)]
    data = build_dataset(DETECTOR, history(known + [None] * 1_000), lambda *_: None)
    assert (len(data.train), len(data.validation), len(data.test)) == (1_400, 300, 300)
    assert data.transactions == 3_000
    assert len(data.test.all_rows) == 1_300


def test_rows_without_a_label_are_not_learned_from_and_are_compared_with():
    data = build_dataset(DETECTOR, history(labels(lambda n: n % 3 == 1)), lambda _done, _of: None)
    assert len(data.train) == len(data.train.rows) == 1_400
    assert len(data.train.all_rows) == 2_100
    assert len(data.validation.all_rows) == 450
    assert sorted(data.train.all_rows[:3, 0].tolist()) == [0, 1, 2]


def test_the_reference_for_drift_is_made_of_all_rows(tmp_path):
    """Only rows of small amounts have labels: what is usual is all the same what comes."""
    registry = Registry(tmp_path)
    manifest = train(DETECTOR, history(labels(lambda n: n % 100 > 60)), registry, lambda _what, _done, _of: None)
    reference = load_bundle(registry.path(manifest.version), registry.trusted).reference
    amount = reference.features[0]
    assert (amount.name, amount.rows, reference.score.rows) == ("amount", 2_072, 444)
    assert amount.moments.mean == pytest.approx(np.mean(np.arange(100)), abs=1.0)


def test_a_row_without_a_label_counts_as_legitimate_once_the_delay_has_passed():
    known = build_dataset(DETECTOR, history(labels(lambda n: n < 1_500 and n % 50 != 0)), lambda _done, _of: None)
    told = build_dataset(DETECTOR, history(labels(lambda _n: False)), lambda _done, _of: None)
    np.testing.assert_array_equal(known.train.all_rows, told.train.all_rows)
    assert told.train.all_rows[-1, 2] > 0
