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
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, lambertw, rel_entr

from sentinel.errors import InvalidDefinition
from sentinel.features.definitions import Feature

Kind = Literal["numeric", "categorical", "constant", "time"]
Statistic = Literal["mean", "psi", "ks", "missing", "other"]
TESTS: dict[Kind, tuple[Statistic, ...]] = {
    "numeric": ("mean", "psi", "ks", "missing"),
    "categorical": ("psi", "other", "missing"),
    "constant": ("other", "missing"),
    "time": (),
}
"""What is tested of each kind of column. Parts of the clock change within a day by nature."""

BINS, GRID = 20, 100
CLIPPED_SHARE = 0.001  # values beyond this share of a tail count as its quantile; a column then flat is constant
FREQUENT_SHARE, MOST_VALUES = 0.005, 30  # categories with a bin of their own
LEAST_EXPECTED = 10.0  # rows that each bin of the PSI expects; smaller bins are pooled
LEAST_PRESENT = 100  # values below which there is no mean and no distance
MONTH_S = 30 * 86_400.0
_TIME_PARTS = ("hour_of_day", "day_of_week", "is_weekend", "is_night")
_LARGEST = float(np.finfo(np.float32).max)

Singles = NDArray[np.float32]
Counts = NDArray[np.int64]


def kind_of(feature: Feature) -> Kind:
    """How a feature's column is to be compared, from its definition alone."""
    if feature.kind in _TIME_PARTS:
        return "time"
    return "categorical" if feature.kind == "category" else "numeric"


class Moments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clipping bounds, and mean and standard deviation of the values clipped to them."""

    low: float
    high: float
    mean: float
    std: float


class ColumnReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The training distribution of one column. Values are float32 in shortest form.

    `moments` is None where all is missing or the values are codes. `edges` are the upper ends of all numeric
    bins but the last, or the values that have a bin of their own; `counts` the rows of each bin, then of the
    rest (numeric: above the last edge) and the missing. `at_most` are the rows up to each `grid` value.
    """

    name: str
    kind: Kind
    rows: int
    missing: int
    moments: Moments | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    grid: tuple[float, ...]
    at_most: tuple[int, ...]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The training distribution of every feature and of the score; stored as JSON, about 2 kB a column."""

    features: tuple[ColumnReference, ...]
    score: ColumnReference

    @classmethod
    def learn(
        cls, names: Sequence[str], kinds: Sequence[Kind], rows: NDArray[Any], scores: NDArray[Any]
    ) -> "Reference":
        """The distribution of `rows` (n, F) and `scores` (n,); NaN is missing, an infinity the largest float32.

        Raises InvalidDefinition when names, kinds, rows and scores do not fit each other or there are no rows.
        """
        if rows.shape != (len(scores), len(names)) or len(kinds) != len(names) or len(scores) == 0:
            raise InvalidDefinition(
                f"reference: {len(names)} names, {len(kinds)} kinds, rows {rows.shape} and {len(scores)} scores do "
                "not fit; give (n, F) rows and n scores, n at least 1"
            )
        parts = zip(names, kinds, rows.T, strict=True)
        return cls(
            features=tuple(_learn_column(name, kind, values) for name, kind, values in parts),
            score=_learn_column("score", "numeric", scores),
        )

    @property
    def tests(self) -> int:
        """How many tests one evaluation makes."""
        return sum(len(TESTS[column.kind]) for column in (*self.features, self.score))


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
    caller's clock, `alpha_per_test` the chance of a false alarm that each test was given.
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


def mean_threshold(alpha: float, n: int, m: int, reach: float) -> float:
    """Bound of |z| for two samples of n and m values that lie at most `reach` standard deviations off the mean."""
    evidence = math.log(2.0 / alpha)
    slope = evidence * reach / (3.0 * min(n, m) * math.sqrt(1.0 / n + 1.0 / m))
    return slope + math.sqrt(slope * slope + 2.0 * evidence)


def ks_threshold(alpha: float, n: int, m: int) -> float:
    """Bound of the two-sample distance."""
    return math.sqrt(math.log(2.0 / alpha) / 2.0 * (1.0 / n + 1.0 / m))


def psi(live: Counts, base: Counts) -> float:
    """Population stability index of two counts over the same bins, half a row added to every bin.

    >>> round(psi(np.array([30, 70]), np.array([50, 50])), 3)
    0.166
    """
    q = (live + 0.5) / (live.sum() + 0.5 * len(live))
    p = (base + 0.5) / (base.sum() + 0.5 * len(base))
    return float(((q - p) * np.log(q / p)).sum())


def psi_threshold(alpha: float, n: int, base: Counts) -> float:
    """Bound of the PSI of n live rows against the bins of `base`, two or more.

    Far in the tail the PSI exceeds its chi2 limit, as bins that run empty weigh more than they should. The
    likelihood ratio G keeps to the limit, and in each bin the PSI is at most some multiple of G, largest where
    all of the evidence is one bin's shortfall. The bound is the quantile of chi2 times that multiple.
    """
    m = int(base.sum())
    effective = 1.0 / (1.0 / n + 1.0 / m)
    expected = effective * base / m
    limit = float(chdtri(len(base) - 1, alpha))
    evidence = np.minimum(limit, 2.0 * expected)
    # The share of its expected rows that is left in a bin when its G is `evidence`: r ln r - r + 1 = G / 2e.
    inner = np.minimum((evidence / (2.0 * expected) - 1.0) / math.e, 0.0)
    left = np.where(inner < -1e-300, np.exp(lambertw(np.minimum(inner, -1e-300), -1).real + 1.0), 0.0) * expected
    weighed = (expected - left) * np.log((expected + 0.5) / (left + 0.5))
    return limit * max(1.0, float((weighed / evidence).max())) / effective


def share_evidence(x: int, n: int, y: int, m: int) -> float:
    """Nats against x of n and y of m being draws of one population: a bound of -ln of either one-sided p-value."""
    pooled = (x + y) / (n + m)
    return max(size * float(rel_entr(q, pooled) + rel_entr(1 - q, 1 - pooled)) for q, size in ((x / n, n), (y / m, m)))


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
        ordered, missing = _ordered(values)
        counts = _bin_counts(base.kind, ordered, missing, self._edges)
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


def pool(base: Counts, live: Counts) -> tuple[Counts, Counts]:
    """Both counts with the smallest bins of `base` put together until each expects LEAST_EXPECTED rows.

    Rows of both samples count, 1 / (1/live + 1/base) of them: next to a large base that is the live ones.
    """
    order = np.argsort(base, kind="stable")
    expected = base[order] * (live.sum() / (live.sum() + base.sum()))
    small = int((expected < LEAST_EXPECTED).sum())
    if small == 0:
        return base, live
    last = max(small, int(np.searchsorted(np.cumsum(expected), LEAST_EXPECTED)) + 1)
    starts = np.array([0, *range(last, len(base))])
    return np.add.reduceat(base[order], starts), np.add.reduceat(live[order], starts)


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
        """The latest evaluation, made anew when enough rows and time have passed since the one before.

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
            found = self._report(entries, current, now_s)
            with self._ring_lock:
                if self._resets == resets:
                    self._last = found
            return found

    def reset(self) -> None:
        """Forget the live window. The limit on evaluations a month stays in force."""
        with self._ring_lock:
            self._seen = self._evaluated_rows = 0
            self._last = None
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
        )


def _ordered(values: NDArray[Any]) -> tuple[Singles, int]:
    """The values that are not missing as ascending float32, infinities as the largest numbers; how many are missing."""
    with np.errstate(over="ignore"):
        singles = np.sort(np.asarray(values, dtype=np.float32))
    present = len(singles) - int(np.isnan(singles).sum())
    ordered: Singles = np.clip(singles[:present], -_LARGEST, _LARGEST)
    return ordered, len(singles) - present


def _bin_counts(kind: Kind, ordered: Singles, missing: int, edges: Singles) -> Counts:
    """Rows in each bin: numeric ones by upper edge, otherwise one value each and the others; then the missing."""
    to = np.searchsorted(ordered, edges, side="right")
    if kind in ("numeric", "time"):
        return np.concatenate([np.diff(to, prepend=0, append=len(ordered)), [missing]]).astype(np.int64)
    equal = to - np.searchsorted(ordered, edges, side="left")
    return np.concatenate([equal, [len(ordered) - equal.sum(), missing]]).astype(np.int64)


def _quantiles(ordered: Singles, shares: NDArray[np.float64]) -> Singles:
    """The least values that at least these shares of the sample do not exceed, each once."""
    places = np.maximum(np.ceil(shares * len(ordered)).astype(np.int64) - 1, 0)
    return np.unique(ordered[places]) if len(ordered) else ordered


def _short(values: Singles) -> tuple[float, ...]:
    """Float32 numbers in the fewest digits that read back to the same float32."""
    return tuple(float(str(value)) for value in values)


def _moments(ordered: Singles) -> Moments | None:
    if len(ordered) == 0:
        return None
    low, high = (_short(_quantiles(ordered, np.array([share])))[0] for share in (CLIPPED_SHARE, 1 - CLIPPED_SHARE))
    clipped = np.clip(ordered.astype(np.float64), low, high)
    return Moments(low, high, float(clipped.mean()), float(clipped.std()))


def _frequent(ordered: Singles, rows: int) -> Singles:
    values, counts = np.unique(ordered, return_counts=True)
    first = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    found: Singles = np.sort(values[first[counts[first] >= FREQUENT_SHARE * rows]])
    return found


def _learn_column(name: str, kind: Kind, values: NDArray[Any]) -> ColumnReference:
    ordered, missing = _ordered(values)
    moments = None if kind == "categorical" else _moments(ordered)
    if kind == "categorical":
        edges = _frequent(ordered, len(values))
    elif kind == "numeric" and (moments is None or moments.low == moments.high):
        kind = "constant"
        edges = np.array([moments.low] if moments else [], dtype=np.float32)
    else:
        edges = _quantiles(ordered, np.arange(1, BINS) / BINS)
        edges = edges[edges < ordered[-1]] if len(ordered) else edges
    grid = _quantiles(ordered, np.linspace(0.0, 1.0, GRID)) if kind == "numeric" else ordered[:0]
    return ColumnReference(
        name=name,
        kind=kind,
        rows=len(values),
        missing=missing,
        moments=moments,
        edges=_short(edges),
        counts=tuple(_bin_counts(kind, ordered, missing, edges).tolist()),
        grid=_short(grid),
        at_most=tuple(np.searchsorted(ordered, grid, side="right").tolist()),
    )
