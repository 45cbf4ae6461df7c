"""Drift: whether the rows of today still look like the rows the model was trained on.

`Reference` is the training distribution, small enough to be stored with the model. `DriftMonitor` keeps the
last rows that were served and compares them with it, column by column, the model's score included:

- mean: shift of the mean of clipped values; the threshold is Bernstein's inequality for bounded values
  (Boucheron, Lugosi, Massart: Concentration Inequalities, 2013, 2.8), which holds for any skewness.
- psi: population stability index. Under no drift it follows (1/n + 1/m) chi2 with k - 1 degrees of freedom
  (Yurdakul: Statistical Properties of Population Stability Index, 2018); see `psi_threshold` for the far tail.
- ks: the two-sample Kolmogorov-Smirnov distance on a grid of training quantiles; the threshold is the
  Dvoretzky-Kiefer-Wolfowitz bound for two samples (Massart 1990; Wei and Dudley 2012).
- missing, other: share of missing values, and of values that were rare or absent in training; the bound is
  Hoeffding's for sampling without replacement (1963, section 6).

The budget of false alarms is divided by the evaluations of a month and by the tests of one evaluation
(Bonferroni), so it holds however much windows overlap and columns depend on each other. Rows are taken as
draws of their own: traffic whose mix changes with the hour differs from a training set that covers whole days.
"""

import math
import threading
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import InvalidDefinition
from sentinel.model.reference import (
    TESTS,
    ColumnReference,
    Kind,
    Moments,
    Reference,
    Singles,
    Statistic,
    bin_counts,
    ordered_values,
)
from sentinel.review.drift_bounds import ks_threshold, mean_threshold, pool, psi, psi_threshold, share_evidence
from sentinel.review.drift_distribution import Distribution, distribution

LEAST_PRESENT = 100  # values below which there is no mean and no distance
MONTH_S = 30 * 86_400.0


class DriftSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator may change.

    `window` rows are compared, at least `least_rows`, again after every `stride` rows (None: a fifth of the
    window) and never more often than `evaluations_per_month` allows. The floors say what is too small to
    matter: a shift of the mean in standard deviations, a PSI, a distance, a change of a share.
    """

    window: int = 5_000
    stride: int | None = None
    least_rows: int = 500
    false_alarms_per_month: float = 1.0
    evaluations_per_month: int = 43_200
    least_mean_shift: float = 0.1
    least_psi: float = 0.1
    least_ks: float = 0.05
    least_share_change: float = 0.01

    def __post_init__(self) -> None:
        if not 1 <= self.least_rows <= self.window or self.rows_between < 1:
            raise InvalidDefinition("drift: least_rows must be 1 to window, and stride at least 1")
        if not 0.0 < self.false_alarms_per_month < self.evaluations_per_month:
            raise InvalidDefinition("drift: false_alarms_per_month must be above 0 and below evaluations_per_month")

    def alpha(self, tests: int) -> float:
        """Chance of a false alarm that each test of an evaluation may take (Bonferroni)."""
        return self.false_alarms_per_month / (self.evaluations_per_month * max(tests, 1))

    @property
    def rows_between(self) -> int:
        """Rows from one evaluation to the next."""
        return max(self.window // 5, 1) if self.stride is None else self.stride


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a report; None where a number does not apply or there is too little data.

    Thresholds include the floors: the column drifted when a statistic reaches its threshold. `z_score` is the
    shift of the clipped mean in standard errors of both samples, `reasons` the statistics that alarmed.
    `feature_index` is None for the score.
    """

    feature_index: int | None
    name: str
    kind: Kind
    baseline_mean: float | None
    baseline_std: float | None
    baseline_missing_share: float
    current_mean: float | None = None
    missing_share: float | None = None
    other_share: float | None = None
    z_score: float | None = None
    z_threshold: float | None = None
    psi: float | None = None
    psi_threshold: float | None = None
    ks: float | None = None
    ks_threshold: float | None = None
    drifted: bool = False
    reasons: tuple[Statistic, ...] = ()


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation found. `enough_data` is false, and nothing alarms, below the least number of rows.

    `drift_detected` includes the score, `drifted_features` counts features only. `evaluated_at_s` is the
    caller's clock, `alpha_per_test` the chance of a false alarm that each test was given. `window` is how many rows are
    compared at most, `least_rows` how many it takes; `since_s` since when each column that drifted has, as far as this
    process has seen, by the caller's clock.
    """

    baseline_locked: bool = True
    baseline_count: int
    current_count: int
    enough_data: bool
    evaluated_at_s: float | None
    alpha_per_test: float
    drift_detected: bool
    drifted_features: int
    per_feature: tuple[ColumnDrift, ...]
    score: ColumnDrift
    window: int
    least_rows: int
    since_s: dict[str, float] = {}


class Column:
    """One column of the reference, ready to be compared with live values."""

    def __init__(self, index: int | None, base: ColumnReference) -> None:
        self._base = base
        self._edges, self._grid = (np.array(values, dtype=np.float32) for values in (base.edges, base.grid))
        self._counts, self._at_most = (np.array(rows, dtype=np.int64) for rows in (base.counts, base.at_most))
        self.blank = ColumnDrift(
            feature_index=index,
            name=base.name,
            kind=base.kind,
            baseline_mean=base.moments.mean if base.moments else None,
            baseline_std=base.moments.std if base.moments else None,
            baseline_missing_share=base.missing / base.rows,
        )

    def compare(self, values: Singles, alpha: float, floors: DriftSettings) -> ColumnDrift:
        """Test live values (n,), each test at `alpha`. The order of the rows makes no difference, to the last bit."""
        base, tested = self._base, TESTS[self._base.kind]
        ordered, missing = ordered_values(values)
        counts = bin_counts(base.kind, ordered, missing, self._edges)
        found: dict[str, Any] = {"missing_share": missing / len(values)}
        if base.moments and len(ordered):
            clipped = np.clip(ordered.astype(np.float64), base.moments.low, base.moments.high)
            found["current_mean"] = float(clipped.mean())
            if "mean" in tested and min(len(ordered), base.rows - base.missing) >= LEAST_PRESENT:
                found |= self._mean(clipped, base.moments, alpha, floors.least_mean_shift)
                found |= self._ks(ordered, alpha, floors.least_ks)
        pooled, live = pool(self._counts, counts)
        if "psi" in tested and len(pooled) > 1:
            found["psi"] = psi(live, pooled)
            found["psi_threshold"] = max(psi_threshold(alpha, len(values), pooled), floors.least_psi)
        limits = {"mean": ("z_score", "z_threshold"), "psi": ("psi", "psi_threshold"), "ks": ("ks", "ks_threshold")}
        reasons = [
            name for name, (value, limit) in limits.items() if abs(found.get(value, 0.0)) >= found.get(limit, 1.0)
        ]
        for name, place in (("missing", -1), ("other", -2)):
            if name in tested:
                x, n, y, m = int(counts[place]), len(values), base.counts[place], base.rows
                found[f"{name}_share"] = x / n
                matters = abs(x / n - y / m) >= floors.least_share_change
                if matters and share_evidence(x, n, y, m) >= math.log(2.0 / alpha):
                    reasons.append(name)
        return msgspec.structs.replace(self.blank, **found, drifted=bool(reasons), reasons=tuple(reasons))

    def _mean(self, clipped: NDArray[np.float64], base: Moments, alpha: float, floor: float) -> dict[str, float]:
        n, m = len(clipped), self._base.rows - self._base.missing
        std = math.sqrt((m * base.std**2 + n * float(clipped.var())) / (n + m))
        error = math.sqrt(1.0 / n + 1.0 / m)
        reach = max(base.high - base.mean, base.mean - base.low) / std
        z = (float(clipped.mean()) - base.mean) / (std * error)
        return {"z_score": z, "z_threshold": max(mean_threshold(alpha, n, m, reach), floor / error)}

    def _ks(self, ordered: Singles, alpha: float, floor: float) -> dict[str, float]:
        n, m = len(ordered), self._base.rows - self._base.missing
        at_most = np.searchsorted(ordered, self._grid, side="right")
        distance = float(np.abs(at_most / n - self._at_most / m).max())
        return {"ks": distance, "ks_threshold": max(ks_threshold(alpha, n, m), floor)}


class DriftMonitor:
    """Remembers the last rows and compares them with the reference when asked.

    `observe` is for the thread that serves and copies rows, no more; `report` and `reset` may be called from
    any thread. Nothing here reads a clock.
    """

    def __init__(self, reference: Reference, settings: DriftSettings | None = None) -> None:
        self.settings = settings or DriftSettings()
        self.alpha = self.settings.alpha(reference.tests)
        self.reference = reference
        self._columns = [Column(index, base) for index, base in enumerate(reference.features)]
        self._columns.append(Column(None, reference.score))
        self._ring = np.empty((self.settings.window, len(self._columns)), dtype=np.float32)
        self._ring_lock = threading.Lock()
        self._evaluation = threading.Lock()
        self._seen = 0
        self._resets = 0
        self._last: DriftReport | None = None
        self._since: dict[str, float] = {}
        self._evaluated_rows = 0
        self._evaluated_s = -math.inf

    def observe(self, rows: NDArray[Any], scores: NDArray[Any]) -> None:
        """Remember `rows` (n, F) and `scores` (n,), and forget the oldest. Raises ValueError for other shapes."""
        if rows.shape != (len(scores), len(self._columns) - 1):
            raise ValueError(f"rows {rows.shape} and {len(scores)} scores; expected (n, {len(self._columns) - 1})")
        window = self.settings.window
        rows, scores = rows[-window:], scores[-window:]
        with self._ring_lock, np.errstate(over="ignore"):
            begin = self._seen % window
            first = min(len(scores), window - begin)
            for place, part in ((begin, slice(0, first)), (0, slice(first, None))):
                kept = self._ring[place : place + len(scores[part])]
                kept[:, :-1] = rows[part]
                kept[:, -1] = scores[part]
            self._seen += len(scores)

    def report(self, now_s: float) -> DriftReport:
        """The latest evaluation, repeated when enough rows and time have passed since the one before.

        `now_s` is in seconds of a clock that never goes back. An evaluation takes some milliseconds; a window
        that is reset meanwhile is still what this call tells of, and no later one.
        """
        with self._evaluation:
            with self._ring_lock:
                current, resets, last = min(self._seen, self.settings.window), self._resets, self._last
                if not self._due(now_s, current):
                    return last or self._report([column.blank for column in self._columns], current, None)
                live = self._ring[:current].copy()
                self._evaluated_rows, self._evaluated_s = self._seen, now_s
            parts = zip(self._columns, live.T, strict=True)
            entries = [column.compare(values, self.alpha, self.settings) for column, values in parts]
            drifted = [entry.name for entry in entries if entry.drifted]
            self._since = {name: self._since.get(name, now_s) for name in drifted}
            found = self._report(entries, current, now_s)
            with self._ring_lock:
                if self._resets == resets:
                    self._last = found
            return found

    def distribution(self, name: str) -> Distribution | None:
        """How the column of a feature, or `score`, lay in training and lies in the window; None where there is none."""
        bases = [*self.reference.features, self.reference.score]
        place = next((n for n, base in enumerate(bases) if base.name == name), None)
        if place is None:
            return None
        with self._ring_lock:
            live = self._ring[: min(self._seen, self.settings.window), place].copy()
        return distribution(bases[place], live)

    def reset(self) -> None:
        """Forget the live window. The limit on evaluations a month stays in force."""
        with self._ring_lock:
            self._seen = self._evaluated_rows = 0
            self._last, self._since = None, {}
            self._resets += 1

    def _due(self, now_s: float, current: int) -> bool:
        if min(current, self.reference.score.rows) < self.settings.least_rows:
            return False
        if now_s - self._evaluated_s < MONTH_S / self.settings.evaluations_per_month:
            return False
        return self._last is None or self._seen - self._evaluated_rows >= self.settings.rows_between

    def _report(self, entries: list[ColumnDrift], current: int, now_s: float | None) -> DriftReport:
        return DriftReport(
            baseline_count=self.reference.score.rows,
            current_count=current,
            enough_data=now_s is not None,
            evaluated_at_s=now_s,
            alpha_per_test=self.alpha,
            drift_detected=any(entry.drifted for entry in entries),
            drifted_features=sum(entry.drifted for entry in entries[:-1]),
            per_feature=tuple(entries[:-1]),
            score=entries[-1],
            window=self.settings.window,
            least_rows=self.settings.least_rows,
            since_s=self._since,
        )
