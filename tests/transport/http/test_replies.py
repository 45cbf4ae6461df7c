"""How batches of answers are written: the short way for what the rules decided gives the bytes of the long one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.policy.thresholds import Thresholds
from sentinel.serve.decisions import Decision, RuledDecisions, kinds_of
from sentinel.transport.http.replies import reply_to_batch

IDS = st.text(min_size=1, max_size=12) | st.sampled_from(
    ['a","b', 'a\\","b', "ends\\", '"', '",', ',"', "\x00", "é€😀"]
)


def ruled(ids, scores, latencies_us):
    thresholds = Thresholds(0.35, 0.75)
    patterns = {
        score: Decision(
            transaction_id="", decision=thresholds.action(score), fraud_probability=score, threshold=0.35,
            thresholds=thresholds, model_version="v1", detector="shop", features_state="late", batch_size=len(ids),
            latency_us=0, replayed=False, degraded="overloaded", circuit_breaker_state="closed", variant=None,
        )
        for score in set(scores)
    }  # fmt: skip
    return RuledDecisions(ids, scores, latencies_us, patterns)


@given(st.data(), st.lists(IDS, min_size=1, max_size=8), st.booleans())
def test_ruled_decisions_are_written_as_if_one_by_one(data, ids, came_together):
    n = len(ids)
    scores = data.draw(st.lists(st.sampled_from([0.05, 0.4, 1.0]), min_size=n, max_size=n))
    latencies_us = [7] * n if came_together else data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    decisions = ruled(ids, scores, latencies_us)
    written = reply_to_batch(decisions, lines=False)
    assert written == msgspec.json.encode(list(decisions))
    assert [one["transaction_id"] for one in msgspec.json.decode(written)] == ids
    lines = reply_to_batch(decisions, lines=True).body.splitlines()
    assert [msgspec.json.decode(line, type=Decision) for line in lines] == list(decisions)


def test_ruled_decisions_are_a_sequence_of_decisions():
    decisions = ruled(["t1", "t2", "t3"], [0.05, 0.8, 0.05], [1, 2, 3])
    assert [(one.transaction_id, one.decision, one.latency_us) for one in decisions] == [
        ("t1", "approve", 1), ("t2", "block", 2), ("t3", "approve", 3)
    ]  # fmt: skip
    assert list(decisions[1:]) == list(decisions)[1:]
    assert (len(decisions), len(decisions[1:]), decisions[-1].transaction_id) == (3, 2, "t3")
    assert kinds_of(decisions) == kinds_of(list(decisions)) == {Decision}
    with pytest.raises(IndexError):
        decisions[3]
