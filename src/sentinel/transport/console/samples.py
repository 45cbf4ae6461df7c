"""Samples: what the server's counters say, by the second for an hour, by ten minutes for a day; series of them."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from sentinel.errors import SentinelError
from sentinel.events.times import clock_us
from sentinel.transport.client import Unreachable
from sentinel.transport.console.day_series import DAY_S, KEPT_DAYS, Series, days_of, last_of
from sentinel.transport.console.server import Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.console.words import ACTIONS

EVERY_S = 1.0
KEPT = 3_700
RANGES = {60: 1, 600: 10, 3600: 60, DAY_S: 600}
"""Seconds that a chart may show, and the seconds of one point of it."""

LONG_RANGES = {7 * DAY_S: 7, KEPT_DAYS * DAY_S: KEPT_DAYS}
"""Seconds that a chart may show of days that the view has counted, and how many days they are."""

_KEPT_COARSE = DAY_S // RANGES[DAY_S] + 2
_DAYS_EVERY_S = 60.0

QUANTILES = (0.5, 0.99, 0.999)
_PREFIX = "sentinel_"
_DRIFT_EVERY_S = 60.0
_encode = msgspec.json.encode
_LABELLED = {
    "sentinel_actions": "action", "sentinel_shed_decisions": "reason", "sentinel_cache": "result",
    "sentinel_model_info": "role",
}  # fmt: skip


class Sample(msgspec.Struct, frozen=True):
    """All counters at one moment: plain ones by name, labelled ones as `name/label`; buckets of latency, cumulated."""

    at_s: float
    values: dict[str, float]
    bounds_us: tuple[float, ...]
    buckets: tuple[float, ...]
    models: dict[str, str]

    def get(self, name: str) -> float:
        """A counter; 0 where the server has none of this name."""
        return self.values.get(name, 0.0)


def sample_of(text: str, at_s: float) -> Sample:
    """What the text of `/metrics/prom` says. Raises Unreachable for a text that no server of ours writes."""
    try:
        return _read(text, at_s)
    except (ValueError, KeyError):
        raise Unreachable(
            "What answers is no server of Sentinel, or one of another version; set SENTINEL_SERVER_URL to where one is"
        ) from None


def _read(text: str, at_s: float) -> Sample:
    values: dict[str, float] = {}
    buckets: dict[float, float] = {}
    models: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if name == "sentinel_latency_microseconds_bucket":
                buckets[float(labels["le"])] = value
            elif family.name == "sentinel_model_info":
                models[labels["role"]] = labels["version"]
                models["detector"] = labels["detector"]
            elif family.name in _LABELLED:
                values[f"{family.name.removeprefix(_PREFIX)}/{labels[_LABELLED[family.name]]}"] = value
            elif not labels:
                values[name.removeprefix(_PREFIX).removesuffix("_total")] = value
    bounds = sorted(buckets)
    return Sample(at_s, values, tuple(bounds), tuple(buckets[one] for one in bounds), models)


def quantile_us(older: Sample, newer: Sample, q: float) -> float | None:
    """The latency below which a share `q` of the decisions between two samples lay; None where there were none.

    Within a bucket it is taken as even, as Prometheus' `histogram_quantile` does; what lies above the last bound counts
    as that bound.

    >>> bounds = (100.0, 200.0, float("inf"))
    >>> older, newer = (Sample(0.0, {}, bounds, buckets, {}) for buckets in ((0, 0, 0), (5, 10, 10)))
    >>> quantile_us(older, newer, 0.5), quantile_us(older, newer, 0.9)
    (100.0, 180.0)
    """
    if older.bounds_us != newer.bounds_us or not newer.buckets:
        return None
    counts = [new - old for old, new in zip(older.buckets, newer.buckets, strict=True)]
    if counts[-1] <= 0 or min(counts) < 0:
        return None
    wanted, below, since = q * counts[-1], 0.0, 0.0
    for bound, count in zip(newer.bounds_us, counts, strict=True):
        if count >= wanted:
            if bound == float("inf"):
                return since
            return since + (bound - since) * (wanted - below) / max(count - below, 1e-9)
        since, below = bound, count
    return since


def point_of(older: Sample, newer: Sample) -> dict[str, float | None]:
    """Rates and latencies between two samples; None of all of them where the server was begun anew in between."""
    names = ["rate", *ACTIONS, "degraded", "p50", "p99", "p999"]
    spent = newer.at_s - older.at_s
    decided = {one: newer.get(f"actions/{one}") - older.get(f"actions/{one}") for one in ACTIONS}
    if spent <= 0 or min(decided.values()) < 0:
        return dict.fromkeys(names)
    shed = sum(newer.values[name] - older.get(name) for name in newer.values if name.startswith("shed_decisions/"))
    rates = [sum(decided.values()), *decided.values(), shed]
    latencies = [quantile_us(older, newer, q) for q in QUANTILES]
    in_ms = [None if one is None else round(one / 1000, 3) for one in latencies]
    return dict(zip(names, [*(round(one / spent, 3) for one in rates), *in_ms], strict=True))


def series_of(samples: Sequence[Sample], range_s: int, now_s: float) -> dict[str, list[float | None]]:
    """A list for each thing that is drawn: points of `RANGES[range_s]` seconds, as `at` says, the newest last."""
    step = RANGES[range_s]
    ends = {int(one.at_s // step): one for one in samples}  # the last one of each point
    newest = int(now_s // step)
    found: dict[str, list[float | None]] = {"at": []}
    for place in range(newest - range_s // step + 1, newest + 1):
        older, newer = ends.get(place - 1), ends.get(place)
        empty = dict.fromkeys(("rate", *ACTIONS, "degraded", "p50", "p99", "p999"))
        point = empty if older is None or newer is None else point_of(older, newer)
        found["at"].append(float(place * step))
        for name, value in point.items():
            found.setdefault(name, []).append(value)
    return found


class Samples:
    """Asks the server each second in a thread of its own, for as long as the console runs."""

    def __init__(self, server: Server, stored: Stored) -> None:
        self._server, self._stored = server, stored
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._coarse: deque[Sample] = deque(maxlen=_KEPT_COARSE)
        self._days: Series = {}
        self._days_s = float("-inf")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._told: dict[int, bytes] = {}
        self._drift: dict[str, Any] | None = None
        self._drift_s = float("-inf")
        self.problem: str | None = "the console has just begun to ask"
        self.number = 0
        """How often the server was asked; whoever waits for news looks at it."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._thread.join()

    @property
    def newest(self) -> Sample | None:
        """The newest sample, None before the first."""
        return self._samples[-1] if self._samples else None

    @property
    def drift(self) -> dict[str, Any] | None:
        """The newest report of drift; None before the first, or where the console may not ask for it."""
        return self._drift

    def news(self, range_s: int) -> bytes:
        """JSON for a page: how it is now, and what to draw. Made once a second, whoever asks."""
        found = self._told.get(range_s)
        if found is None:
            found = self._told[range_s] = _encode(self.view(range_s))
        return found

    def view(self, range_s: int) -> dict[str, Any]:
        """The same as plain values."""
        samples, now_s = list(self._samples), time.time()
        newest = samples[-1] if samples else None
        problem = self.problem
        shown: dict[str, Any] = {"problem": problem, "series": self._series(samples, range_s, now_s), "range": range_s}
        if newest is None:
            return shown | {"now": None}
        minute = _since(samples, newest, 60)
        return shown | {
            "now": point_of(_since(samples, newest, 5), newest),
            "minute": point_of(minute, newest),
            "hour": point_of(_since(samples, newest, 3600), newest),
            "hour_s": round(newest.at_s - _since(samples, newest, 3600).at_s),
            "total": sum(newest.get(f"actions/{one}") for one in ACTIONS),
            "totals": {one: newest.get(f"actions/{one}") for one in ACTIONS},
            "state": _state(minute, newest),
            "models": newest.models,
        }

    def _series(self, samples: Sequence[Sample], range_s: int, now_s: float) -> Series:
        if range_s in LONG_RANGES:
            return last_of(self._days, LONG_RANGES[range_s])
        return series_of([*self._coarse, *samples] if range_s == DAY_S else samples, range_s, now_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            self._ask()
            self._stopped.wait(max(EVERY_S - (time.monotonic() - begun), 0.05))

    def _keep(self, sample: Sample) -> None:
        """As one of the last hour, and the last one of each ten minutes for a day."""
        step = RANGES[DAY_S]
        if self._coarse and self._coarse[-1].at_s // step == sample.at_s // step:
            self._coarse.pop()
        self._coarse.append(sample)
        self._samples.append(sample)

    def _ask(self) -> None:
        try:
            text = self._server.get("/metrics/prom").body.decode(errors="replace")
            self._keep(sample_of(text, time.time()))
            self.problem = None
            if time.monotonic() - self._days_s > _DAYS_EVERY_S:
                self._days_s = time.monotonic()
                with self._stored.view() as view:
                    self._days = days_of(view, clock_us())
            if time.monotonic() - self._drift_s > _DRIFT_EVERY_S:
                self._drift_s = time.monotonic()
                self._drift = self._server.get("/admin/drift").json
        except SentinelError as error:
            if self._samples and time.time() - self._samples[-1].at_s < 3 * EVERY_S:
                return  # of the drift report, or for a moment
            self.problem = str(error)
        finally:
            self._told = {}
            self.number += 1


def _since(samples: Sequence[Sample], newest: Sample, seconds: float) -> Sample:
    """The oldest sample of the last seconds, since the server was begun."""
    found = newest
    for one in reversed(samples):
        if newest.at_s - one.at_s > seconds + 0.5 * EVERY_S or one.get("requests") > found.get("requests"):
            break
        found = one
    return found


def _state(minute: Sample, newest: Sample) -> dict[str, float | None]:
    hits, misses = (newest.get(f"cache/{one}") - minute.get(f"cache/{one}") for one in ("hit", "miss"))
    batches = newest.get("batch_size_count") - minute.get("batch_size_count")
    rows = newest.get("batch_size_sum") - minute.get("batch_size_sum")
    return {
        "breaker": newest.get("breaker_state"),
        "openings": newest.get("breaker_openings"),
        "errors": newest.get("errors"),
        "queue": newest.get("queue_length"),
        "log_bytes": newest.values.get("log_bytes"),
        "log_writable": newest.values.get("log_writable"),
        "view_lag": newest.values.get("view_lag"),
        "drifted": newest.get("drifted_features"),
        "drift": newest.get("drift_detected"),
        "keys": newest.values.get("state_keys"),
        "cache_share": hits / (hits + misses) if hits + misses else None,
        "batch": rows / batches if batches else None,
    }
