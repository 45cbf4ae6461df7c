"""The stream benchmark: both sides compute the same features, and what is measured is what happened."""

import json
import time

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from sentinel.bench.quix.windows import advanced
from sentinel.bench.serving_workloads import SCORE_DETECTOR
from sentinel.bench.stream_load import Answered, Outlet, Payment, _matched, open_loop
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.features.store import MemoryStore
from sentinel.simulate.payments import simulate
from sentinel.train.rows.dataset import replay


def test_the_windows_of_the_other_side_are_those_of_the_kernel():
    """Counts to the last bit; sums of floats as floats are."""
    payments = simulate(3_000, seed=3).select(
        "transaction_id", "event_time", "amount", "card_id", "merchant_id", "is_fraud"
    )
    frame = history_of_frame(payments, SCORE_DETECTOR.schema).frame
    plan = SCORE_DETECTOR.plan({})
    ours = replay(MemoryStore(plan), columns_of_frame(SCORE_DETECTOR.schema, frame), lambda *_: None)
    states, theirs = {}, []
    for row in frame.iter_rows(named=True):
        features = [row["amount"]]
        for key in ("card_id", "merchant_id"):
            place = key, row[key]
            states[place], found = advanced(states.get(place, b""), row["event_time"], row["amount"])
            features += found
        theirs.append(features)
    np.testing.assert_allclose(np.array(theirs), ours, rtol=1e-9)
    counts = [1, 2, 6, 7]
    np.testing.assert_array_equal(np.array(theirs)[:, counts], np.asarray(ours)[:, counts])
    assert max(len(state) for state in states.values()) > 16 * 10, "some keys have several events"


class _Seen:
    def __init__(self, name, stored_ms):
        self._name, self._stored_ms = name, stored_ms

    def value(self):
        return json.dumps({"transaction_id": self._name, "more": 1}).encode()

    def timestamp(self):
        return 1, self._stored_ms


def test_answers_are_matched_by_id_and_what_is_missing_or_twice_is_counted():
    payments = [Payment(name, "k", b"") for name in "abcd"]
    due_ns = np.array([0, 1_000_000, 2_000_000, 3_000_000])
    seen = [
        (110_000_000, [_Seen("b", 5), _Seen("a", 4), _Seen("of another run", 1)]),
        (120_000_000, [_Seen("a", 9), _Seen("d", 9)]),
    ]
    found = _matched(payments, due_ns, seen, 100_000_000, 0.25)
    assert (found.missing, found.repeated, found.late_sends) == (1, 1, 0.25)
    assert found.latencies_ms.tolist() == [20.0, 9.0, 17.0]


def test_the_rate_is_that_between_the_first_tenth_and_the_last():
    """A slow first message and a straggler are not counted."""
    n = 1_000
    stored = np.concatenate([[0], 5_000 + np.arange(n - 2), [60_000]])
    found = Answered(np.zeros(n, np.int64), np.zeros(n, np.int64), stored, 0, 0.0)
    assert found.per_second == pytest.approx(1_000)


def test_what_is_sent_when_it_is_due_comes_back_as_late_as_it_is(service):
    servers = service("kafka").environment["SENTINEL_KAFKA"]
    client, topic = {"bootstrap.servers": servers}, f"bench-test-{time.time_ns()}"
    admin = AdminClient(client)
    admin.create_topics([NewTopic(topic, 1)])[topic].result()
    outlet = Outlet(client, topic)
    payments = [Payment(f"t{n}", "k", json.dumps({"transaction_id": f"t{n}"}).encode()) for n in range(200)]
    try:
        found = open_loop(Producer(client), topic, payments, np.arange(200) * 5_000_000, outlet)
    finally:
        outlet.close()
        admin.delete_topics([topic])[topic].result()
    assert (found.missing, found.repeated) == (0, 0)
    assert found.latencies_ms.min() >= 0, "nothing comes before it was due"
    assert len(np.unique(found.seen_ns)) > 1
