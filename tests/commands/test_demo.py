"""The live view of the demo."""

import json

import numpy as np

from sentinel.commands.demo import View
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
