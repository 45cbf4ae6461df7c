"""The text for Prometheus, read back by the client library's parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentinel.telemetry.counters import LATENCY_BOUNDS_US, Counters, Slot, Stage
from sentinel.telemetry.prometheus import Gauge, model_info, render


@pytest.fixture
def counters():
    """Every slot with a value of its own; latencies; two batches."""
    counters = Counters()
    for slot in Slot:
        counters.add(slot, 100 + slot)
    for microseconds in (40, 50, 51, 999, 70_000):
        counters.observe(Stage.TOTAL, microseconds)
    counters.observe(Stage.COMMIT, 300)
    counters.observe_batch(3)
    counters.observe_batch(4)
    return counters


def read(text):
    """Every sample by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_every_slot_appears_exactly_once(counters):
    samples = read(render(counters)[0])
    others = ("_bucket", "_sum", "_count", "sentinel_actions_total")  # the last has what is in others too
    plain = [value for name, value in samples.items() if not name[0].endswith(others)]
    assert sorted(plain) == [100 + slot for slot in Slot]


def test_names_and_labels_that_dashboards_know(counters):
    samples = read(render(counters)[0])
    assert samples[("sentinel_requests_total",)] == 100 + Slot.REQUESTS
    assert samples[("sentinel_errors_total",)] == 100 + Slot.ERRORS
    assert samples[("sentinel_decisions_total", ("decision", "allow"))] == 100 + Slot.APPROVE
    assert samples[("sentinel_decisions_total", ("decision", "review"))] == 100 + Slot.REVIEW
    assert samples[("sentinel_decisions_total", ("decision", "block"))] == 100 + Slot.BLOCK
    assert samples[("sentinel_decisions_total", ("decision", "challenge"))] == 100 + Slot.CHALLENGE
    for action, slot in (
        ("approve", Slot.APPROVE),
        ("challenge", Slot.CHALLENGE),
        ("review", Slot.REVIEW),
        ("block", Slot.BLOCK),
    ):
        assert samples[("sentinel_actions_total", ("action", action))] == 100 + slot
    assert samples[("sentinel_cache_total", ("result", "hit"))] == 100 + Slot.CACHE_HITS
    assert samples[("sentinel_cache_total", ("result", "miss"))] == 100 + Slot.CACHE_MISSES
    assert samples[("sentinel_variant_predictions_total", ("variant", "A"))] == 100 + Slot.PREDICTIONS_A
    assert samples[("sentinel_variant_predictions_total", ("variant", "B"))] == 100 + Slot.PREDICTIONS_B
    assert samples[("sentinel_drift_detected",)] == 100 + Slot.DRIFT_DETECTED


def test_latency_buckets_are_cumulative(counters):
    samples = read(render(counters)[0])
    name = "sentinel_latency_microseconds"
    buckets = [samples[(f"{name}_bucket", ("le", str(bound)))] for bound in LATENCY_BOUNDS_US]
    assert buckets == [2, 3, 3, 3, 4, 4, 4, 4, 4, 4]
    assert samples[(f"{name}_bucket", ("le", "+Inf"))] == samples[(f"{name}_count",)] == 5
    assert samples[(f"{name}_sum",)] == 40 + 50 + 51 + 999 + 70_000


def test_stages_and_batches_have_histograms(counters):
    samples = read(render(counters)[0])
    stage = ("stage", "commit")
    assert samples[("sentinel_stage_latency_microseconds_bucket", ("le", "250"), stage)] == 0
    assert samples[("sentinel_stage_latency_microseconds_bucket", ("le", "500"), stage)] == 1
    assert samples[("sentinel_stage_latency_microseconds_count", ("stage", "queue"))] == 0
    assert samples[("sentinel_batch_size_sum",)] == 7
    assert samples[("sentinel_batch_size_bucket", ("le", "2"))] == 0
    assert samples[("sentinel_batch_size_bucket", ("le", "4"))] == 2


def test_types_and_media_type(counters):
    text, media = render(counters)
    types = {family.name: family.type for family in text_string_to_metric_families(text.decode())}
    assert types["sentinel_requests"] == "counter"
    assert types["sentinel_latency_microseconds"] == "histogram"
    assert types["sentinel_drift_detected"] == "gauge"
    assert media.startswith("text/plain; version=0.0.4")
    assert b'sentinel_latency_microseconds_bucket{le="50"} ' in text
    assert b"_created" not in text


def test_gauges_of_one_name_stand_together():
    champion, shadow = model_info("champion", "v3", "payments"), model_info("shadow", 'v"4\n', "payments")
    uptime = Gauge("sentinel_uptime_seconds", "Since the start", 1.5)
    text, _ = render(Counters(), [champion, uptime, shadow])
    samples = read(text)
    labels = (("detector", "payments"), ("role", "shadow"), ("version", 'v"4\n'))
    assert samples[("sentinel_model_info", *labels)] == 1
    assert samples[("sentinel_uptime_seconds",)] == 1.5
    assert text.count(b"# TYPE sentinel_model_info gauge") == 1
