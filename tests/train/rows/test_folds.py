"""Folds: what is learned from is older than what is validated on, by the delay of labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import DataProblem
from sentinel.train.rows.folds import merged, random_folds, time_folds


def history(seed, n=400):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 150, n)).astype(np.int64)
    return times, (rng.random(n) < 0.3).astype(np.int8), rng.integers(0, 30, n).astype(np.uint64)


@given(seed=st.integers(0, 500), folds=st.integers(1, 5), size=st.integers(8, 90), gap=st.integers(0, 40))
def test_a_fold_learns_from_what_is_older_by_the_gap_and_never_twice_validates(seed, folds, size, gap):
    times, labels, _ = history(seed)
    try:
        found = time_folds(times, labels, folds=folds, size=size, gap_us=gap)
    except DataProblem:
        return
    assert 1 <= len(found) <= folds
    for fold in found:
        begins = times[fold.validation[0]]
        assert np.array_equal(fold.train, np.flatnonzero(times < begins - gap))
        for rows in fold:
            assert 1 <= labels[rows].sum() < len(rows)
    rows = merged(found)
    assert len(np.unique(rows)) == len(rows)
    assert rows[-1] == len(times) - 1
    assert np.array_equal(rows, np.sort(rows))


def test_the_folds_end_with_the_history_and_stand_side_by_side():
    times = np.arange(1000, dtype=np.int64)
    labels = (times % 10 == 0).astype(np.int8)
    found = time_folds(times, labels, folds=3, size=200, gap_us=50)
    assert [(len(fold.train), fold.validation[0], fold.validation[-1]) for fold in found] == [
        (350, 400, 599), (550, 600, 799), (750, 800, 999),
    ]  # fmt: skip


def test_an_older_fold_with_too_few_frauds_is_left_out_and_the_newest_without_any_is_refused():
    times = np.arange(1000, dtype=np.int64)
    late = ((times > 700) & (times % 10 == 0)).astype(np.int8)
    assert [fold.validation[0] for fold in time_folds(times, late, folds=4, size=200)] == [800]
    with pytest.raises(DataProblem, match="1,000 transactions, 2 of them fraud, cannot"):
        time_folds(times, ((times > 0) & (times % 400 == 0)).astype(np.int8), folds=4, size=150)


@given(seed=st.integers(0, 100), folds=st.integers(1, 6), size=st.integers(20, 150))
def test_random_folds_have_each_their_share_and_validate_on_a_row_once(seed, folds, size):
    _, labels, _ = history(seed)
    found = random_folds(labels, folds=folds, size=size, seed=seed)
    assert 1 <= len(found) <= folds
    rows = merged(found)
    assert len(np.unique(rows)) == len(rows)
    for fold in found:
        assert np.array_equal(np.sort(np.concatenate(fold)), np.arange(len(labels)))
        assert labels[fold.validation].mean() == pytest.approx(labels.mean(), abs=0.05)
    again = random_folds(labels, folds=folds, size=size, seed=seed)
    assert all(np.array_equal(one.validation, other.validation) for one, other in zip(found, again, strict=True))


def test_random_folds_need_frauds_on_both_sides():
    with pytest.raises(DataProblem, match="1 frauds are too few"):
        random_folds(np.array([0, 0, 0, 1], np.int8), folds=3, size=2, seed=1)
