"""The handbook's protocol against a second, slower reading of its text, and against the sizes it publishes."""

from datetime import date, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from sentinel.detector import Training
from sentinel.detectors.handbook import HANDBOOK_FEATURES, detector
from sentinel.errors import DataProblem
from sentinel.events.files import history_of_frame, read_history
from sentinel.events.reading import Reading
from sentinel.learner import XGBoost
from sentinel.train.handbook import TEST_FOLDS, VALIDATION_FOLDS, WEEK, Prepared, benchmark, card_precision

FOLD = date(2020, 3, 2)
DAYS = 24  # three days before the fold, and its three weeks
SMALL = msgspec.structs.replace(
    detector, features=HANDBOOK_FEATURES, training=Training(learner=XGBoost(trees=3, max_depth=2))
)


def frame(seed, n=600, cards=25):
    """A few busy cards over 24 days; a fraud in ten."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, DAYS * 86_400, n))
    start_us = int((FOLD - timedelta(days=3) - date(1970, 1, 1)).days) * 86_400_000_000
    return pl.DataFrame(
        {
            "tx_id": [str(one) for one in range(n)],
            "tx_datetime": start_us + seconds * 1_000_000,
            "tx_amount": np.rint(rng.uniform(1, 300, n) * 100) / 100,
            "customer_id": [f"c{one}" for one in rng.integers(0, cards, n)],
            "terminal_id": [f"t{one}" for one in rng.integers(0, 9, n)],
            "tx_fraud": (rng.random(n) < 0.1).astype(np.int8),
        }
    )


def prepared(rows):
    return Prepared(SMALL, history_of_frame(rows, SMALL.schema, Reading(strict=True)))


def rows_left(rows, fold):
    """Ids of the test set, card by card and day by day, as the handbook puts it in words."""
    payments = [
        (one["tx_id"], date(1970, 1, 1) + timedelta(days=one["tx_datetime"] // 86_400_000_000), one["customer_id"],
         one["tx_fraud"])
        for one in rows.iter_rows(named=True)
    ]  # fmt: skip
    left = []
    for tx_id, day, card, _ in payments:
        in_test_week = fold + timedelta(days=14) <= day < fold + timedelta(days=21)
        frauds = [when for _, when, who, fraud in payments if who == card and fraud]
        if in_test_week and not any(fold <= when <= day - timedelta(days=8) for when in frauds):
            left.append(tx_id)
    return left


@pytest.mark.parametrize("seed", range(5))
def test_cards_known_as_compromised_leave_the_test_set(seed):
    rows = frame(seed)
    expected = rows_left(rows, FOLD)
    assert rows["tx_id"].gather(prepared(rows).test_rows(FOLD)).to_list() == expected
    assert 0 < len(expected) < rows.height


@pytest.mark.parametrize(
    ("fraud_on", "test_days_left"),
    [
        (-1, [0, 1, 2, 3, 4, 5, 6]),  # before the first training day: forgotten
        (0, []),
        (6, []),  # the last training day is eight days before the first test day
        (7, [0]),  # the first day of the delay is known from the second test day on
        (12, [0, 1, 2, 3, 4, 5]),
        (13, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_fraud_is_known_eight_days_later(fraud_on, test_days_left):
    days = [fraud_on, *range(14, 21)]
    start = (FOLD - date(1970, 1, 1)).days
    rows = pl.DataFrame(
        {
            "tx_id": [str(one) for one in days],
            "tx_datetime": [(start + one) * 86_400_000_000 + 5 for one in days],
            "tx_amount": [1.0] * len(days),
            "customer_id": ["c"] * len(days),
            "terminal_id": ["t"] * len(days),
            "tx_fraud": [1, 0, 0, 0, 0, 0, 0, 0],
        }
    )
    kept = rows["tx_id"].gather(prepared(rows).test_rows(FOLD)).cast(pl.Int64)
    assert (kept - 14).to_list() == test_days_left


def test_training_ends_before_the_delay():
    rows = frame(1)
    ready = prepared(rows)
    first = (FOLD - date(1970, 1, 1)).days
    for train_days, begin in ((7, first), (9, first - 2), (None, first - 3)):
        learned = ready.day[ready.training_rows(FOLD, train_days)]
        assert (learned[0], learned[-1]) == (begin, first + 6)


def card_precision_in_words(scores, labels, days, cards, top):
    found, shares = set(), []
    for day in sorted(set(days)):
        best, compromised = {}, set()
        for score, label, when, card in zip(scores, labels, days, cards, strict=True):
            if when == day and card not in found:
                best[card] = max(score, best.get(card, score))
                compromised |= {card} if label else set()
        hits = [card for card in sorted(best, key=lambda one: (-best[one], one))[:top] if card in compromised]
        shares.append(len(hits) / top)
        found |= set(hits)
    return sum(shares) / len(shares)


@pytest.mark.parametrize("seed", range(20))
def test_card_precision_is_what_its_words_say(seed):
    rng = np.random.default_rng(seed)
    n, top = 300, int(rng.integers(1, 40))  # at most 30 cards a day: some days have fewer than `top`
    scores = rng.integers(0, 12, n).astype(np.float32) / 11  # many ties
    labels = (rng.random(n) < 0.15).astype(np.int8)
    days, cards = np.sort(rng.integers(0, 7, n)), rng.integers(0, 30, n).astype(np.uint64)
    expected = card_precision_in_words(scores.tolist(), labels.tolist(), days.tolist(), cards.tolist(), top)
    assert card_precision(scores, labels, days, cards, top) == pytest.approx(expected, abs=1e-12)
    shuffled = rng.permutation(n)
    again = card_precision(scores[shuffled], labels[shuffled], days[shuffled], cards[shuffled], top)
    assert again == pytest.approx(expected, abs=1e-12)


def test_a_card_is_found_once():
    scores, labels = np.array([0.9, 0.2, 0.9, 0.8], np.float32), np.array([1, 0, 1, 1], np.int8)
    days, cards = np.array([1, 1, 2, 2]), np.array([5, 6, 5, 6], np.uint64)
    assert card_precision(scores, labels, days, cards, 1) == 1.0  # card 5 on the first day, then card 6
    assert card_precision(scores, labels, days, cards, 2) == 0.5  # and half a list of two is empty on the second


def test_both_ways_of_training_are_tested_on_the_same_rows():
    history = history_of_frame(frame(2), SMALL.schema, Reading(strict=True))
    told = []
    results = [
        benchmark(history, SMALL, train_days=days, folds=(FOLD,), progress=lambda *done: told.append(done))
        for days in (7, None)
    ]
    week, everything = (one.folds[0] for one in results)
    assert (week.test_transactions, week.test_frauds) == (everything.test_transactions, everything.test_frauds)
    assert week.train_transactions < everything.train_transactions
    assert (week.trained_from, everything.trained_from) == ("2020-03-02", "2020-02-28")
    assert week.trees == 3
    assert results[0].average_precision == week.average_precision
    assert told == [(0, 1), (1, 1)] * 2


def test_a_history_that_misses_a_fold_says_so():
    history = history_of_frame(frame(3), SMALL.schema, Reading(strict=True))
    with pytest.raises(DataProblem, match="2018-07-25 has nothing to learn or test"):
        benchmark(history, SMALL, train_days=7, folds=TEST_FOLDS, progress=lambda *_: None)


def test_the_protocol_needs_every_label():
    history = history_of_frame(frame(3).with_columns(tx_fraud=None), SMALL.schema)
    with pytest.raises(DataProblem, match="tx_fraud on every transaction"):
        Prepared(SMALL, history)


def test_validation_ends_before_the_first_test_week_begins():
    assert max(VALIDATION_FOLDS) + timedelta(days=3 * WEEK) <= min(TEST_FOLDS) + timedelta(days=2 * WEEK)


def test_the_detector_begins_with_the_handbooks_features():
    assert detector.features[: len(HANDBOOK_FEATURES)] == HANDBOOK_FEATURES
    assert len(HANDBOOK_FEATURES) == 14


def test_the_first_fold_has_the_published_size_and_ceiling(data_dir):
    data = read_history(data_dir / "handbook_simulated.parquet", SMALL.schema, Reading(strict=True))
    ready = prepared(data.frame.filter(pl.col("tx_datetime") >= 1_532_476_800_000_000))  # 2018-07-25
    train, tested = ready.part(ready.training_rows(TEST_FOLDS[0], 7)), ready.test_rows(TEST_FOLDS[0])
    labels = ready.labels[tested]
    assert (len(train), train.frauds) == (67_240, 598)
    assert (len(tested), int(labels.sum())) == (58_264, 385)
    perfect = card_precision(labels.astype(np.float32), labels, ready.day[tested], ready.card[tested], 100)
    assert perfect == pytest.approx(0.397, abs=5e-4)
