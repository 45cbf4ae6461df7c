"""The JSON figures."""

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from sentinel.policy.deployment import Deployment, Experiment
from sentinel.policy.thresholds import Thresholds
from sentinel.telemetry.counters import Counters, Slot
from sentinel.transport.http import metrics
from sentinel.transport.http.tellers import Tellers

RUNNING = Deployment(champion="v1", experiment=Experiment("e", "v2", 20.0, "2026-01-01T00:00:00+00:00"))
LINEUP = SimpleNamespace(champion=SimpleNamespace(thresholds=Thresholds(0.41, 0.9)))


@pytest.fixture
def figures_of(monkeypatch):
    """The figures of a server with these counters, so many seconds after its start."""

    def shown(counters, running_s=0.0):
        rollout, predictor = SimpleNamespace(deployment=RUNNING), SimpleNamespace(lineup=LINEUP)
        watch = SimpleNamespace(settle=lambda: None, counters=counters, rollout=rollout, predictor=predictor)
        now_s = [100.0]
        monkeypatch.setattr(metrics.time, "monotonic", lambda: now_s[0])
        found = metrics.Metrics(Path("unused"), watch, Tellers(1, 1))
        now_s[0] += running_s
        return found.figures()

    return shown


def test_the_figures_come_in_their_order(figures_of):
    assert list(figures_of(Counters())) == [
        "total_requests", "allow", "block", "errors", "batches_run", "avg_batch_size", "cache_hits", "cache_misses",
        "cache_hit_rate", "cache_size", "predictions_a", "predictions_b", "ab_active", "split_percent",
        "drift_detected", "baseline_locked", "uptime_seconds", "avg_rps", "threshold", "approve", "review",
        "challenge",
    ]  # fmt: skip


def test_the_figures_say_what_the_counters_say(figures_of):
    counters = Counters()
    counters.add(Slot.REQUESTS, 10)
    counters.add(Slot.CACHE_HITS, 1)
    counters.add(Slot.CACHE_MISSES, 3)
    for slot, n in ((Slot.APPROVE, 5), (Slot.CHALLENGE, 1), (Slot.REVIEW, 3), (Slot.BLOCK, 2)):
        counters.add(slot, n)
    counters.observe_batch(2)
    counters.observe_batch(1)
    counters.set(Slot.DRIFT_DETECTED, 1)
    figures = figures_of(counters, running_s=4.0)
    assert (figures["approve"], figures["review"], figures["block"], figures["allow"]) == (5, 3, 2, 5)
    assert figures["challenge"] == 1
    assert figures["avg_rps"] == 2.5
    assert figures["cache_hit_rate"] == 0.25
    assert figures["avg_batch_size"] == 1.5
    assert figures["drift_detected"] is True
    assert figures["threshold"] == 0.41
    assert (figures["ab_active"], figures["split_percent"], figures["baseline_locked"]) == (True, 20, True)
    assert msgspec.json.decode(msgspec.json.encode(figures)) == figures


def test_a_server_that_has_just_begun_divides_by_nothing(figures_of):
    figures = figures_of(Counters())
    assert figures["avg_rps"] == figures["cache_hit_rate"] == figures["avg_batch_size"] == 0.0
    assert figures["drift_detected"] is False
