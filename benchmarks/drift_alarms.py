"""Drift alarms: how often a stream that does not drift alarms, and how soon one that does.

A month of evaluations for every stream would be some 10^8 windows. Instead each stream is evaluated twice, on
its first 1,000 rows and on a full window of 5,000, with the floors switched off, and this is told:

- counted: alarms among these evaluations, with the exact 95 % bound that the count alone supports;
- scaled: evaluations that would alarm at 100 times the budget, divided by 100. This takes for granted that the
  bounds are no looser in the last two decades than before, which the next point and the brute force bear out;
- tail: every statistic is turned into the p-value that the monitor's bound gives it. For a bound that holds, at
  most a share a of all p-values is below a; counted where there is enough to count. The least p-value of each
  evaluation is carried on to the level of the alarm by an exponential tail fitted to its most extreme 2 %;
- month: that chance times the evaluations of a month. Windows overlap in a real stream, so alarms would come
  in runs; their expected number does not change by that, and the chance of a month with any is at most that.

The PSI is the one statistic whose bound is asymptotic, so it is checked by brute force down to the level used.
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from report import publish
from sentinel.model.reference import ColumnReference, Kind, Reference
from sentinel.review.drift import ColumnDrift, DriftMonitor, DriftReport, DriftSettings
from sentinel.review.drift_bounds import pool, psi_threshold, share_evidence

ROWS = NDArray[np.float32]
REFERENCE_ROWS = 50_000
REFERENCES = 20
PARTIAL = 1_000
EVALUATIONS = 43_200
LOOSER = 100
CHUNK = 5_000
WINDOW = 5_000
SHAPES = ("normal", "lognormal", "bernoulli", "poisson", "uniform", "constant", "categorical", "gaps")
COLUMNS = tuple(SHAPES[i % len(SHAPES)] for i in range(30))
NAMES = tuple(f"{shape}_{i}" for i, shape in enumerate(COLUMNS))
KINDS: tuple[Kind, ...] = tuple("categorical" if shape == "categorical" else "numeric" for shape in COLUMNS)
LEVELS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
TABLE = np.log(np.logspace(-12, math.log10(0.5), 60))
NO_FLOORS = DriftSettings(
    least_mean_shift=0, least_psi=0, least_ks=0, least_share_change=0, stride=1, evaluations_per_month=EVALUATIONS
)


def draw(rng: np.random.Generator, n: int) -> ROWS:
    """Rows (n, 30) of one distribution, whatever the moment; columns of a shape differ in their parameter."""
    rows = np.empty((len(COLUMNS), n), dtype=np.float32)
    for i, shape in enumerate(COLUMNS):
        rows[i] = DRAWS[shape](rng, n, i // len(SHAPES))
    return rows.T


DRAWS: dict[str, Callable[[np.random.Generator, int, int], NDArray[Any]]] = {
    "normal": lambda rng, n, _: rng.standard_normal(n, dtype=np.float32),
    "lognormal": lambda rng, n, i: np.exp(np.float32(1 + 0.5 * i) * rng.standard_normal(n, dtype=np.float32)),
    "bernoulli": lambda rng, n, i: rng.random(n, dtype=np.float32) < (0.01, 0.01, 0.003, 0.05)[i],
    "poisson": lambda rng, n, i: rng.poisson((0.1, 0.5, 1, 3)[i], n),
    "uniform": lambda rng, n, _: rng.random(n, dtype=np.float32),
    "constant": lambda _, n, i: np.full(n, i),
    "categorical": lambda rng, n, i: np.searchsorted(
        np.cumsum(1 / np.arange(1, 10 * (i + 1)) ** 1.5) / np.sum(1 / np.arange(1, 10 * (i + 1)) ** 1.5), rng.random(n)
    ),
    "gaps": lambda rng, n, _: np.where(rng.random(n) < 0.02, np.nan, rng.standard_normal(n)),
}


def scores_of(rng: np.random.Generator, n: int) -> ROWS:
    """Scores of a model that finds few frauds: most near 0."""
    scores: ROWS = np.exp(-3 * np.abs(rng.standard_normal(n, dtype=np.float32)))
    return scores


def upper(hits: int, n: int) -> float:
    """Exact one-sided 95 % bound of a chance, after `hits` of `n` (Clopper and Pearson 1934)."""
    return float(beta.ppf(0.95, hits + 1, n - hits))


class Levels:
    """Turns the statistics of a column's entry into logs of p-values, by the bounds that the monitor uses."""

    def __init__(self, base: ColumnReference, n: int, alpha: float) -> None:
        self.base, self.n, self.evidence = base, n, math.log(2 / alpha)
        live = np.zeros(len(base.counts), dtype=np.int64)
        live[0] = n
        pooled, _ = pool(np.array(base.counts), live)
        self.psi = [psi_threshold(math.exp(log), n, pooled) for log in TABLE[::-1]] if len(pooled) > 1 else []

    def of(self, entry: ColumnDrift) -> dict[str, float]:
        found: dict[str, float] = {}
        n, m = round(self.n * (1 - (entry.missing_share or 0))), self.base.rows - self.base.missing
        if entry.z_score is not None and entry.z_threshold is not None:
            reach = (entry.z_threshold**2 / (2 * self.evidence) - 1) / entry.z_threshold
            found["mean"] = math.log(2) - entry.z_score**2 / (2 * (1 + reach * abs(entry.z_score)))
        if entry.ks is not None:
            found["ks"] = math.log(2) - 2 * entry.ks**2 / (1 / n + 1 / m)
        if entry.psi is not None:
            found["psi"] = float(np.interp(entry.psi, self.psi, TABLE[::-1]))
        for name, share, rows in (
            ("missing", entry.missing_share, self.base.counts[-1]),
            ("other", entry.other_share, self.base.counts[-2]),
        ):
            if share is not None:
                evidence = share_evidence(round(share * self.n), self.n, rows, self.base.rows)
                found[name] = math.log(2) - evidence
        return found


class Tally:
    """What the null streams gave, for one size of the window."""

    def __init__(self) -> None:
        self.tests: dict[str, int] = {}
        self.below: dict[str, NDArray[np.int64]] = {}
        self.least: list[float] = []
        self.alarms = 0

    def add(self, report: DriftReport, levels: list[Levels]) -> None:
        least = 0.0
        entries = [*report.per_feature, report.score]
        for entry, level in zip(entries, levels, strict=True):
            for name, log in level.of(entry).items():
                least = min(least, log)
                self.tests[name] = self.tests.get(name, 0) + 1
                self.below.setdefault(name, np.zeros(len(LEVELS), dtype=np.int64))
                if log <= math.log(LEVELS[0]):
                    self.below[name] += log <= np.log(LEVELS)
        self.least.append(least)
        self.alarms += report.drift_detected

    def figures(self, alpha: float) -> dict[str, Any]:
        n = len(self.least)
        ordered = np.sort(-np.array(self.least))[::-1]
        extreme = ordered[: max(n // 50, 2)]
        begin = extreme[-1]
        rate = 1 / float((extreme - begin).mean())
        chance = len(extreme) / n * math.exp(-rate * (-math.log(alpha) - begin))
        near = int((ordered >= -math.log(LOOSER * alpha)).sum())
        month = EVALUATIONS / LOOSER
        return {
            "evaluations": n,
            "tests": sum(self.tests.values()),
            "alarms": self.alarms,
            "alarms_a_month_95_bound_of_the_count_alone": round(EVALUATIONS * upper(self.alarms, n), 2),
            f"evaluations_alarming_at_{LOOSER}_times_the_budget": near,
            f"of_those_the_budget_allows_at_{LOOSER}_times": round(n / month, 1),
            "alarms_a_month_scaled": round(near / n * month, 4),
            "alarms_a_month_scaled_95_bound": round(upper(near, n) * month, 4),
            "least_p_value_seen": f"{math.exp(-float(ordered[0])):.1e}",
            "alpha_per_test": f"{alpha:.1e}",
            "tail_rate_fitted_nominal_1": round(rate, 2),
            "alarms_a_month_by_the_tail": float(f"{EVALUATIONS * chance:.2g}"),
            "share_of_p_values_below": {
                name: {
                    f"{level:g}": f"{count / self.tests[name]:.1e} ({count})"
                    for level, count in zip(LEVELS, self.below[name].tolist(), strict=True)
                }
                for name in self.tests
            },
        }


def null_streams(streams: int, rng: np.random.Generator) -> dict[str, Any]:
    tallies = {PARTIAL: Tally(), WINDOW: Tally()}
    alpha = seconds = 0.0
    for part in range(REFERENCES):
        reference = Reference.learn(NAMES, KINDS, draw(rng, REFERENCE_ROWS), scores_of(rng, REFERENCE_ROWS))
        bases = [*reference.features, reference.score]
        alpha = DriftMonitor(reference).alpha
        levels = {n: [Levels(base, n, alpha) for base in bases] for n in tallies}
        for _ in range(streams * (part + 1) // REFERENCES - streams * part // REFERENCES):
            monitor = DriftMonitor(reference, NO_FLOORS)
            rows, scores = draw(rng, WINDOW), scores_of(rng, WINDOW)
            for moment, (first, end) in enumerate(((0, PARTIAL), (PARTIAL, WINDOW))):
                monitor.observe(rows[first:end], scores[first:end])
                begun = time.perf_counter()
                report = monitor.report(60.0 * moment)
                seconds += time.perf_counter() - begun
                tallies[end].add(report, levels[end])
    return {
        "milliseconds_an_evaluation": round(1e3 * seconds / (2 * streams), 2),
        **{f"window_of_{n}": tally.figures(alpha) for n, tally in tallies.items()},
    }


def psi_tail(draws: int, alpha: float, rng: np.random.Generator) -> dict[str, Any]:
    """Share of PSIs beyond their bound; every live window is drawn anew, the training counts once for CHUNK of them."""
    shapes = {
        "20 equal": np.full(20, 0.05),
        "5 uneven": np.array([0.5, 0.3, 0.1, 0.07, 0.03]),
        "2": np.array([0.97, 0.03]),
    }
    levels = (1e-3, 1e-4, 1e-5, alpha)
    found = {}
    for name, shares in shapes.items():
        for n, m in ((500, REFERENCE_ROWS), (WINDOW, REFERENCE_ROWS), (500, 1_000)):
            beyond = np.zeros(len(levels), dtype=np.int64)
            for _ in range(draws // CHUNK):
                base = rng.multinomial(m, shares)
                live = rng.multinomial(n, shares, CHUNK)
                q = (live + 0.5) / (n + 0.5 * len(shares))
                p = (base + 0.5) / (m + 0.5 * len(shares))
                psis = ((q - p) * np.log(q / p)).sum(axis=1)
                beyond += [(psis >= psi_threshold(level, n, base)).sum() for level in levels]
            made = draws // CHUNK * CHUNK
            found[f"{name} bins, {n} of {m}"] = {
                f"{level:.1e}": f"{count / made:.1e} ({count})"
                for level, count in zip(levels, beyond.tolist(), strict=True)
            }
    return {"draws_each": draws, "share_beyond_the_bound": found}


def delays(trials: int, shape: str, stride: int | None, rng: np.random.Generator) -> dict[str, Any]:
    """Rows from a shift by 0.5 standard deviations of one column to the first report of it, all else as before."""
    reference = Reference.learn(NAMES, KINDS, draw(rng, REFERENCE_ROWS), scores_of(rng, REFERENCE_ROWS))
    index = COLUMNS.index(shape)
    moments = reference.features[index].moments
    assert moments is not None
    settings = DriftSettings(stride=stride)
    step, rows_until = settings.rows_between, []
    for _ in range(trials):
        monitor, moment, after = DriftMonitor(reference, settings), 0.0, -int(rng.integers(0, step))
        monitor.observe(draw(rng, WINDOW), scores_of(rng, WINDOW))
        report = monitor.report(moment)
        assert not report.drift_detected
        while not report.per_feature[index].drifted:
            rows = draw(rng, step)
            rows[max(-after, 0) :, index] += 0.5 * moments.std
            monitor.observe(rows, scores_of(rng, step))
            after, moment = after + step, moment + 60.0
            report = monitor.report(moment)
        rows_until.append(after)
    return {
        "median": float(np.median(rows_until)),
        "95_percent": round(float(np.quantile(rows_until, 0.95))),
        "trials": trials,
    }


def main() -> None:
    """Print false alarms, the check of their bounds, delays, and what watching costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    streams = parser.parse_args().streams
    rng = np.random.default_rng(20)
    null = null_streams(streams, rng)
    alpha = float(null[f"window_of_{WINDOW}"]["alpha_per_test"])
    trials = max(streams // 20, 20)
    monitor = DriftMonitor(Reference.learn(NAMES, KINDS, draw(rng, WINDOW), scores_of(rng, WINDOW)))
    rows, scores = draw(rng, 64).copy(), scores_of(rng, 64)
    begun = time.perf_counter()
    for _ in range(20_000):
        monitor.observe(rows, scores)
    observe_us = (time.perf_counter() - begun) / 20_000 * 1e6
    publish(
        "drift_alarms",
        f"{streams:,} null streams of 30 stable columns and a score, against {REFERENCES} references of "
        f"{REFERENCE_ROWS:,} rows, floors off, budget one alarm a month of {EVALUATIONS:,} evaluations; "
        + " ".join((__doc__ or "").split()),
        {
            **null,
            "psi_tail": psi_tail(400 * streams, alpha, rng),
            "rows_until_alarm_after_half_a_std": {
                "normal, evaluated every 1000 rows": delays(trials, "normal", None, rng),
                "normal, evaluated every 250 rows": delays(trials, "normal", 250, rng),
                "lognormal, evaluated every 1000 rows": delays(trials, "lognormal", None, rng),
            },
            "observe_64_rows_us": round(observe_us, 1),
        },
    )


if __name__ == "__main__":
    main()
