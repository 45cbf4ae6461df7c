"""The counters as Prometheus reads them, and as one JSON object."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from sentinel.telemetry.counters import Counters, Histogram, Slot, Stage, Totals

_ALONE = (
    ("sentinel_requests", "Transactions that asked for a decision", Slot.REQUESTS),
    ("sentinel_errors", "Transactions that got no decision", Slot.ERRORS),
    ("sentinel_breaker_openings", "Times the circuit breaker opened", Slot.BREAKER_OPENINGS),
    ("sentinel_log_writes", "Batches that were made durable", Slot.LOG_WRITES),
    ("sentinel_model_swaps", "Changes of the champion", Slot.SWAPS),
)
_LABELLED = (
    (
        "sentinel_decisions",
        "Decisions by what happens to the transaction",
        "decision",
        {"allow": Slot.APPROVE, "review": Slot.REVIEW, "block": Slot.BLOCK},
    ),
    (
        "sentinel_cache",
        "Decisions found in the cache, and not",
        "result",
        {"hit": Slot.CACHE_HITS, "miss": Slot.CACHE_MISSES},
    ),
    (
        "sentinel_variant_predictions",
        "Scores by model: A is the champion, B the challenger",
        "variant",
        {"A": Slot.PREDICTIONS_A, "B": Slot.PREDICTIONS_B},
    ),
    (
        "sentinel_variant_blocks",
        "Blocked transactions by the model that scored them",
        "variant",
        {"A": Slot.BLOCKS_A, "B": Slot.BLOCKS_B},
    ),
    (
        "sentinel_shed_decisions",
        "Decisions by the fallback instead of the model, by reason",
        "reason",
        {
            "breaker_open": Slot.SHED_BREAKER_OPEN,
            "model_slow": Slot.SHED_MODEL_SLOW,
            "model_failed": Slot.SHED_MODEL_FAILED,
            "overload": Slot.SHED_OVERLOAD,
        },
    ),
    (
        "sentinel_shadow",
        "Transactions handed to the shadow model",
        "result",
        {"scored": Slot.SHADOW_SCORED, "dropped": Slot.SHADOW_DROPPED, "failed": Slot.SHADOW_FAILED},
    ),
)
_EXPERIMENT = {
    what: (Slot[f"EXPERIMENT_A_{what}"], Slot[f"EXPERIMENT_B_{what}"])
    for what in ("DECISIONS", "REVIEWS", "BLOCKS", "ERRORS", "LATE")
}
_STATES = (
    ("sentinel_queue_length", "Transactions that wait for a decision", Slot.QUEUE_LENGTH),
    ("sentinel_cache_size", "Entries of the cache", Slot.CACHE_SIZE),
    ("sentinel_breaker_state", "0 closed, 1 half open, 2 open; of several workers the worst", Slot.BREAKER_STATE),
    ("sentinel_drift_detected", "1 while the transactions differ from what the model knows", Slot.DRIFT_DETECTED),
    ("sentinel_drifted_features", "Features that differ from what the model knows", Slot.DRIFTED_FEATURES),
)


class Gauge(NamedTuple):
    """A value that no counter knows; those of one name stand together and have the same labels."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = {}


class Facts(NamedTuple):
    """What the JSON shows besides the counts. `split_percent` is the challenger's share of the transactions."""

    ab_active: bool
    split_percent: int
    baseline_locked: bool
    uptime_s: float
    threshold: float


def model_info(role: str, version: str, detector: str) -> Gauge:
    """That a version is loaded as champion, challenger or shadow: always 1, the labels say which."""
    labels = {"role": role, "version": version, "detector": detector}
    return Gauge("sentinel_model_info", "The models that are loaded", 1, labels)


def render(counters: Counters, gauges: Iterable[Gauge] = ()) -> tuple[bytes, str]:
    """Everything in the text format 0.0.4, and its media type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Totals(counters.totals(), gauges))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def snapshot(counters: Counters, facts: Facts) -> dict[str, Any]:
    """The main figures by name. Shares are between 0 and 1; what has no divisor yet is 0."""
    totals = counters.totals()
    batches, hits, misses = totals.batches, totals[Slot.CACHE_HITS], totals[Slot.CACHE_MISSES]
    return {
        "total_requests": totals[Slot.REQUESTS],
        "allow": totals[Slot.APPROVE],
        "block": totals[Slot.BLOCK],
        "errors": totals[Slot.ERRORS],
        "batches_run": batches.total,
        "avg_batch_size": _share(batches.sum, batches.total),
        "cache_hits": hits,
        "cache_misses": misses,
        "cache_hit_rate": _share(hits, hits + misses),
        "cache_size": totals[Slot.CACHE_SIZE],
        "predictions_a": totals[Slot.PREDICTIONS_A],
        "predictions_b": totals[Slot.PREDICTIONS_B],
        "ab_active": facts.ab_active,
        "split_percent": facts.split_percent,
        "drift_detected": totals[Slot.DRIFT_DETECTED] > 0,
        "baseline_locked": facts.baseline_locked,
        "uptime_seconds": facts.uptime_s,
        "avg_rps": _share(totals[Slot.REQUESTS], facts.uptime_s),
        "threshold": facts.threshold,
    }


class _Totals(Collector):
    """One reading, as a collector of the client library."""

    def __init__(self, totals: Totals, gauges: Iterable[Gauge]) -> None:
        self._totals = totals
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        totals = self._totals
        for name, text, slot in _ALONE:
            yield CounterMetricFamily(name, text, totals[slot])
        for name, text, label, slots in _LABELLED:
            counter = CounterMetricFamily(name, text, labels=[label])
            for value, slot in slots.items():
                counter.add_metric([value], totals[slot])
            yield counter
        for name, text, slot in _STATES:
            yield GaugeMetricFamily(name, text, totals[slot])
        experiment = GaugeMetricFamily(
            "sentinel_experiment_vectors", "Vectors of the experiment that runs", labels=["variant", "what"]
        )
        for what, of_variants in _EXPERIMENT.items():
            for variant, found in zip("AB", of_variants, strict=True):
                experiment.add_metric([variant, what.lower()], totals[found])
        yield experiment
        yield from self._histograms()
        yield from _families(self._gauges)

    def _histograms(self) -> Iterator[Metric]:
        totals = self._totals
        whole = HistogramMetricFamily("sentinel_latency_microseconds", "From arrival to the decision")
        whole.add_metric([], *_buckets(totals.latency(Stage.TOTAL)))
        yield whole
        parts = HistogramMetricFamily(
            "sentinel_stage_latency_microseconds", "What the parts of a decision take", labels=["stage"]
        )
        for stage in Stage:
            if stage is not Stage.TOTAL:
                parts.add_metric([stage.name.lower()], *_buckets(totals.latency(stage)))
        yield parts
        sizes = HistogramMetricFamily("sentinel_batch_size", "Rows that went through the model together")
        sizes.add_metric([], *_buckets(totals.batches))
        yield sizes


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Counts at or below each bound, as Prometheus has them, and the sum of the values."""
    names = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(histogram.values)), strict=True)), histogram.sum


def _families(gauges: Iterable[Gauge]) -> Iterator[Metric]:
    """Gauges of one name together, in the order in which the names come first."""
    families: dict[str, GaugeMetricFamily] = {}
    for gauge in gauges:
        if gauge.name not in families:
            families[gauge.name] = GaugeMetricFamily(gauge.name, gauge.help, labels=list(gauge.labels))
        families[gauge.name].add_metric(list(gauge.labels.values()), gauge.value)
    yield from families.values()


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
