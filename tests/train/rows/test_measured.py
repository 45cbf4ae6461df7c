"""What a model is measured on, whose rows they are, how it does on parts of them, and beside another model."""

import msgspec
import numpy as np
import polars as pl
import pytest

from sentinel.detectors import load_detector
from sentinel.errors import DataProblem
from sentinel.events.files import history_of_frame
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.review.average_precision import average_precision
from sentinel.train.figures.compare import compare, shared_rows
from sentinel.train.figures.evaluate import recall_at_fpr
from sentinel.train.figures.resampling import Ranking, card_weights, numbered
from sentinel.train.figures.segments import segments
from sentinel.train.pipeline import train
from sentinel.train.rows.dataset import cards_of, parts_of
from sentinel.train.rows.measured import bundled_detector, measure, without_known_cards

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def shop(shop_detector):
    detector = load_detector(shop_detector)
    learner = msgspec.structs.replace(detector.training.learner, trees=12)
    return msgspec.structs.replace(detector, training=msgspec.structs.replace(detector.training, learner=learner))


@pytest.fixture(scope="module")
def frame(make_shop_frame):
    return make_shop_frame(8_000, seed=5)


@pytest.fixture(scope="module")
def bundles(shop, frame, tmp_path_factory):
    """Two bundles: of the first 4,000 rows, and of the first 6,000."""
    registry = Registry(tmp_path_factory.mktemp("models"))
    for n in (4_000, 6_000):
        train(shop, history_of_frame(frame[:n], shop.schema), registry, lambda *_: None)
    return [load_bundle(registry.path(one)) for one in ("v1", "v2")]


def measured(bundle, frame, delay_us=None):
    detector = bundled_detector(bundle.manifest)
    return measure(bundle, detector, history_of_frame(frame, detector.schema), lambda *_: None, delay_us)


def test_a_bundle_knows_enough_of_its_detector_to_find_its_own_test_part(shop, frame, bundles):
    known = bundled_detector(bundles[0].manifest)
    times = history_of_frame(frame[:4_000], shop.schema).frame["event_time"].to_numpy()
    assert (known.schema, known.features, known.name) == (shop.schema, shop.features, shop.name)
    labels = frame["is_fraud"][:4_000].to_numpy().astype(np.int8)
    places = parts_of(known.training, times, labels)
    assert [one.tolist() for one in places] == [one.tolist() for one in parts_of(shop.training, times, labels)]
    found = measured(bundles[0], frame[:4_000])
    assert found.frame["transaction_id"].to_list() == frame["transaction_id"][places[2]].to_list()
    metrics = bundles[0].manifest.metrics
    assert len(found.labels) == metrics["transactions"]
    assert average_precision(found.scores, found.labels) == metrics["average_precision"]["value"]
    assert len(np.unique(found.cards)) == metrics["cards"] == frame["card"][places[2]].n_unique()


def test_rows_younger_than_labels_take_are_unknown_whatever_is_said_of_them(frame, bundles):
    whole, mature = measured(bundles[0], frame), measured(bundles[0], frame, 3 * DAY_US)
    end = frame["event_time"][-1] - 3 * DAY_US
    assert mature.immature == (frame["event_time"] > end).sum()
    assert mature.time_us.max() <= end
    assert len(mature.labels) + mature.immature == len(whole.labels)
    assert mature.scores.tobytes() == whole.scores[whole.time_us <= end].tobytes()
    with pytest.raises(DataProblem, match="too young for a label"):
        measured(bundles[0], frame, 30 * DAY_US)


def test_rows_without_a_label_are_counted_and_left_out(frame, bundles):
    holes = frame.with_columns(
        is_fraud=pl.when(pl.int_range(pl.len()) % 5 == 0).then(None).otherwise(pl.col("is_fraud"))
    )
    found = measured(bundles[0], holes)
    assert found.unlabelled == sum(n % 5 == 0 for n in range(found.left_out, 8_000))
    assert set(found.labels.tolist()) == {0, 1}


def test_a_row_without_a_card_is_nobody_elses(shop):
    frame = pl.DataFrame({"card": ["a", None, "a", None]})
    assert len(np.unique(cards_of(shop.schema, frame))) == 3
    assert len(np.unique(cards_of(msgspec.structs.replace(shop.schema, keys=()), frame))) == 4


def test_cards_that_were_known_by_then_are_left_out_and_no_others(shop, frame, bundles):
    whole = measured(bundles[0], frame)
    history = history_of_frame(frame, shop.schema)
    kept = without_known_cards(whole, shop.schema, history, 2 * DAY_US)
    first: dict[str, int] = {}
    expected, asked = [], set(whole.frame["transaction_id"])
    for row in history.frame.iter_rows(named=True):
        known = first.get(row["card"])
        if row["transaction_id"] in asked and (known is None or row["event_time"] < known + 2 * DAY_US):
            expected.append(row["transaction_id"])
        if row["is_fraud"] == 1:
            first.setdefault(row["card"], row["event_time"])
    assert kept.frame["transaction_id"].to_list() == expected
    assert 0 < len(expected) < len(whole.labels)
    with pytest.raises(DataProblem, match="has no key"):
        without_known_cards(whole, msgspec.structs.replace(shop.schema, keys=()), history, DAY_US)


@pytest.mark.parametrize("by", ["channel", "amount"])
def test_segments_are_every_row_once_and_their_figures_are_their_own(shop, frame, bundles, by):
    found = measured(bundles[0], frame)
    review = bundles[0].thresholds.review
    parts = segments(found, shop.schema, by, review)
    assert sum(one.transactions for one in parts) == len(found.labels)
    assert sum(one.frauds for one in parts) == found.frauds
    assert sum(one.alarms for one in parts) == (found.scores >= review).sum()
    values = found.frame["channel"].fill_null("missing").to_numpy()
    bands = {"below 10": (0, 10), "10 to 30": (10, 30), "100 to 300": (100, 300)}
    for one in parts:
        if by == "amount" and one.value not in bands:
            continue
        low, high = bands.get(one.value, (0, 0))
        here = values == one.value if by == "channel" else (found.amounts >= low) & (found.amounts < high)
        assert one.average_precision == average_precision(found.scores[here], found.labels[here])
        assert one.recall_at_fpr == recall_at_fpr(found.scores[here], found.labels[here], 0.01)


def test_rare_values_are_one_segment_and_what_is_no_category_is_refused(shop, frame, bundles):
    found = measured(bundles[0], frame)
    assert [one.value for one in segments(found, shop.schema, "channel", 0.5, most=1)][1:] == ["all others"]
    with pytest.raises(DataProblem, match="take one of channel, amount"):
        segments(found, shop.schema, "card", 0.5)


def test_two_models_are_compared_on_what_neither_learned_from_and_by_the_same_cards(frame, bundles):
    first, second = shared_rows(*(measured(one, frame) for one in bundles))
    assert first.frame["transaction_id"].equals(second.frame["transaction_id"])
    assert first.time_us[0] > bundles[1].manifest.history.last_us
    found = compare(("v1", "v2"), (first, second), [(0.3, None), (0.3, 0.9)], fpr=0.02)
    assert found.recall_at_fpr.first == recall_at_fpr(first.scores, first.labels, 0.02)
    weights = list(card_weights(numbered(first.cards, len(first.labels))))
    by_hand = [
        Ranking(second.scores, first.labels).figures(one).average_precision
        - Ranking(first.scores, first.labels).figures(one).average_precision
        for one in weights
    ]
    low, high = np.percentile(by_hand, [2.5, 97.5])
    difference = found.average_precision.difference
    assert (difference.low, difference.high) == pytest.approx((low, high))
    assert found.block == (None, found.block[1])


def test_a_model_beside_itself_differs_in_nothing(frame, bundles):
    one = measured(bundles[0], frame)
    found = compare(("v1", "v1"), (one, one), [(0.3, None), (0.3, None)])
    for name in ("average_precision", "auc_roc", "recall_at_fpr"):
        difference = getattr(found, name).difference
        assert (difference.low, difference.value, difference.high) == (0, 0, 0)


def test_a_file_that_a_model_has_learned_whole_cannot_be_compared_on(frame, bundles):
    first, second = (measured(one, frame) for one in bundles)
    only = second.labels == 0
    with pytest.raises(DataProblem, match="two ways"):
        shared_rows(first, second.where(only))
    with pytest.raises(DataProblem, match="are frauds, of"):
        shared_rows(second.where(only), second.where(only))
