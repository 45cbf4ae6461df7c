"""The counters as Prometheus reads them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from sentinel.telemetry.counters import Counters, Histogram, Slot, Stage, Totals

_ALONE = (
    ("sentinel_requests", "Transactions that asked for a decision", Slot.REQUESTS),
    ("sentinel_errors", "Transactions that got no decision", Slot.ERRORS),
    ("sentinel_breaker_openings", "Times the circuit breaker opened", Slot.BREAKER_OPENINGS),
    ("sentinel_held_out", "Approved to learn what they are, and not blocked", Slot.HELD_OUT),
    ("sentinel_fronts_refused", "Answers in the topic that were not taken for a front's", Slot.REFUSED_OF_FRONTS),
    ("sentinel_log_writes", "Batches that were made durable", Slot.LOG_WRITES),
    ("sentinel_model_swaps", "Changes of the champion", Slot.SWAPS),
)
_LABELLED = (
    (
        "sentinel_decisions",
        "Decisions by what happens to the transaction",
        "decision",
        {"allow": Slot.APPROVE, "challenge": Slot.CHALLENGE, "review": Slot.REVIEW, "block": Slot.BLOCK},
    ),
    (
        "sentinel_actions",
        "The same, in the words of /v1/score",
        "action",
        {"approve": Slot.APPROVE, "challenge": Slot.CHALLENGE, "review": Slot.REVIEW, "block": Slot.BLOCK},
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
        "Decisions in the place of the model, by reason",
        "reason",
        {
            "breaker_open": Slot.SHED_BREAKER_OPEN,
            "model_slow": Slot.SHED_MODEL_SLOW,
            "model_failed": Slot.SHED_MODEL_FAILED,
            "overload": Slot.SHED_OVERLOAD,
        },
    ),
    (
        "sentinel_on_fault_decisions",
        "Decisions in the place of the model, by what decided",
        "answer",
        {
            "rules": Slot.ON_FAULT_RULES,
            "approve": Slot.ON_FAULT_APPROVE,
            "challenge": Slot.ON_FAULT_CHALLENGE,
            "review": Slot.ON_FAULT_REVIEW,
            "block": Slot.ON_FAULT_BLOCK,
        },
    ),
    (
        "sentinel_shadow",
        "Transactions handed to the shadow model",
        "result",
        {"scored": Slot.SHADOW_SCORED, "dropped": Slot.SHADOW_DROPPED, "failed": Slot.SHADOW_FAILED},
    ),
    (
        "sentinel_requests_refused",
        "Requests that were not let in, by reason",
        "reason",
        {
            "no_key": Slot.REFUSED_NO_KEY,
            "wrong_key": Slot.REFUSED_WRONG_KEY,
            "forbidden": Slot.REFUSED_FORBIDDEN,
            "rate": Slot.REFUSED_RATE,
        },
    ),
)
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


def model_info(role: str, version: str, detector: str) -> Gauge:
    """That a version is loaded as champion, challenger or shadow: always 1, the labels say which."""
    labels = {"role": role, "version": version, "detector": detector}
    return Gauge("sentinel_model_info", "The models that are loaded", 1, labels)


def render(counters: Counters, gauges: Iterable[Gauge] = ()) -> tuple[bytes, str]:
    """Everything in the text format 0.0.4, and its media type."""
    return generate_latest(_Totals(counters.totals(), gauges)), CONTENT_TYPE_PLAIN_0_0_4


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
        yield from self._histograms()
        yield from _families([*self._states(), *self._gauges])

    def _states(self) -> Iterator[Gauge]:
        for name, text, slot in _STATES:
            yield Gauge(name, text, self._totals[slot])
        for slot in Slot:
            if slot.name.startswith("EXPERIMENT_"):
                _, variant, what = slot.name.split("_")
                labels = {"variant": variant, "what": what.lower()}
                yield Gauge(
                    "sentinel_experiment_vectors", "Vectors of the experiment that runs", self._totals[slot], labels
                )

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
