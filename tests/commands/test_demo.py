"""The live view of the demo."""

import json

import numpy as np

from sentinel.commands.demo import CALM_LEAST, CALM_RATE, SHOW_SHARE, View, due_s
from sentinel.commands.live import Traffic
from sentinel.record.entries import revoked_rows

N = 4


def test_precision_and_recall_follow_what_is_taken_back(made):
    names = [f"t{n}" for n in range(N)]
    times = np.arange(N)
    view = View(None, Traffic(names, [b""] * N, times, np.array([1, 1, 0, 1]), times, ["operator"] * N), "")
    for i, action in enumerate(("block", "approve", "block", "block")):
        view.decided(i, 200, json.dumps({"fraud_probability": 0.5, "decision": action}).encode(), 1)
        view.truths[i] = view.live.labels[i]
    assert view._quality() == "0.67, 0.67 of 3 frauds known so far"
    gone = [{"id": "t1", "about": 2}, {"id": "t3", "about": 4, "left": False}, {"id": "another", "about": 9}]
    view.taken_back(revoked_rows(made.revoked_record(20, gone, "k")))
    assert view._quality() == "0.33, 1.00 of 1 frauds known so far"


def test_precision_is_of_transactions_whose_legitimate_ones_are_told_too():
    """All are alarms, half of them frauds, which are told after a day; what is legitimate after ten."""
    n, day = 100, 86_400_000_000
    labels = np.arange(n) % 2
    times = np.arange(n) * day // 5
    outcomes = times + np.where(labels == 1, day, 10 * day)
    view = View(None, Traffic([f"t{i}" for i in range(n)], [b""] * n, times, labels, outcomes, ["operator"] * n), "")
    assert view._quality() == "known 10 days after a transaction"
    for i in range(n):
        view.decided(i, 200, json.dumps({"fraud_probability": 0.5, "decision": "block"}).encode(), 1)
        told = outcomes <= view.now_us
        view.truths[told] = labels[told]
        if view.now_us >= 11 * day:
            assert abs(float(view._quality().split(",")[0]) - 0.5) <= 0.1
    assert view._quality() == "0.50, 1.00 of 25 frauds known so far"


def test_payments_go_on_calmly_once_the_show_is_over():
    n, rate = 50_000, 1_000.0
    at = due_s(n, rate, ends=False)
    gaps, show = np.diff(at), int(n * SHOW_SHARE)
    assert np.allclose(gaps[: show - 1], 1 / rate)
    calm = 1 / gaps[show:]
    assert calm.max() <= CALM_RATE + 1e-9
    assert calm.min() >= CALM_LEAST - 1e-9
    assert np.all(np.diff(calm) <= 1e-9)  # slower and slower
    assert at[-1] > 3 * 3600  # hours, though the show takes less than a minute
    assert due_s(n, rate, ends=True)[-1] < n / rate


def test_a_slow_demo_is_no_faster_once_the_show_is_over():
    assert np.all(np.diff(due_s(1_000, 0.1, ends=False)) >= 10 - 1e-6)
