"""Errors and speed of the A/B statistics when somebody looks after every single event of an experiment."""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from report import publish
from sentinel.policy.experiment import Guardrails, Sums, excess, mean_interval, rate_interval

Floats = NDArray[np.float64]
Sizes = Callable[[np.random.Generator, NDArray[np.bool_]], Floats]
Rates = tuple[float, float, float]
Found = dict[str, float | None]
ALPHA = 0.05
PER_METRIC = ALPHA / 4
EVENTS = 4_000  # blocks, flagged outcomes or costs an experiment lasts for, on average
TOGETHER = 100  # experiments in memory at once
FALSE_ALARM, MISSED = 5.0, 0.2  # cost of a false alarm; share of the costs that are missed frauds


class Paths(NamedTuple):
    """Sums of both variants just before and just after every event, each (experiments, 2 events)."""

    a: Sums
    b: Sums

    def decisions(self) -> Floats:
        return self.a.seen + self.b.seen


Interval = Callable[[Paths], tuple[Floats, Floats]]


def ones(_: np.random.Generator, in_b: NDArray[np.bool_]) -> Floats:
    return np.ones(in_b.shape)


def lognormal_costs(rng: np.random.Generator, in_b: NDArray[np.bool_]) -> Floats:
    return np.where(rng.random(in_b.shape) < MISSED, rng.lognormal(3.5, 1.6, in_b.shape), FALSE_ALARM)


def pareto_costs(rng: np.random.Generator, in_b: NDArray[np.bool_]) -> Floats:
    """Amounts whose variance is infinite: worse than the method promises to bear."""
    return np.where(rng.random(in_b.shape) < MISSED, 20 * (1 + rng.pareto(1.5, in_b.shape)), FALSE_ALARM)


def simulate(rng: np.random.Generator, rates: tuple[float, float], split: float, sizes: Sizes) -> Paths:
    """Independent decisions, a share `split` of them in b, each with an event at its variant's rate."""
    rate_a, rate_b = rates
    shape = (TOGETHER, EVENTS)
    rate = (1 - split) * rate_a + split * rate_b
    quiet = rng.geometric(rate, shape) - 1
    quiet_b = rng.binomial(quiet, split * (1 - rate_b) / (1 - rate))
    in_b = rng.random(shape) < split * rate_b / rate
    size = sizes(rng, in_b)
    return Paths(_path(quiet - quiet_b, ~in_b, size), _path(quiet_b, in_b, size))


def _path(quiet: NDArray[np.int64], here: NDArray[np.bool_], size: Floats) -> Sums:
    seen, steps = np.zeros((2, len(here), 2 * here.shape[1])), np.zeros((2, len(here), 2 * here.shape[1]))
    seen[0, :, ::2], seen[0, :, 1::2] = quiet, here
    steps[0, :, 1::2], steps[1, :, 1::2] = here * size, here * size**2
    return Sums(np.cumsum(seen[0], 1), np.cumsum(steps[0], 1), np.cumsum(steps[1], 1))


def clustered(rng: np.random.Generator, rate: float, size: float, correlation: float) -> Paths:
    """Entities one after the other, each with about `size` transactions that resemble each other."""
    shape = (TOGETHER, 2 * EVENTS)
    transactions = rng.geometric(1 / size, shape)
    spread = 1 / correlation - 1
    hits = rng.binomial(transactions, rng.beta(rate * spread, (1 - rate) * spread, shape)).astype(float)
    in_b = rng.random(shape) < 0.5
    a, b = ([np.cumsum(x * here, 1, dtype=float) for x in (transactions, hits, hits)] for here in (~in_b, in_b))
    return Paths(Sums(*a), Sums(*b))


def naive_interval(paths: Paths) -> tuple[Floats, Floats]:
    """The textbook interval, for one look at the end; looked at all the time once there are 10 events."""
    a, b = paths
    half = 1.96 * np.sqrt(a.variance() / np.maximum(a.seen, 1) + b.variance() / np.maximum(b.seen, 1))
    half = np.where(a.total + b.total >= 10, half, np.nan)
    return b.mean() - a.mean() - half, b.mean() - a.mean() + half


def first(found: NDArray[np.bool_], decisions: Floats) -> Floats:
    """Decisions until something is first found, (experiments,); infinite when it never is."""
    return np.where(found.any(1), np.take_along_axis(decisions, found.argmax(1)[:, None], 1)[:, 0], math.inf)


def _times(found: Floats) -> Found:
    """Share that was ever found, and the quantiles of when; None beyond the end."""
    quantiles = {name: float(np.quantile(found, q, method="higher")) for name, q in (("median", 0.5), ("p90", 0.9))}
    share: Found = {"share": round(float(np.isfinite(found).mean()), 4)}
    return share | {name: round(value) if math.isfinite(value) else None for name, value in quantiles.items()}


class Study:
    """Repeats a simulation and counts."""

    def __init__(self, experiments: int) -> None:
        self.rounds = -(-experiments // TOGETHER)
        self.rng = np.random.default_rng(20_260_101)

    def false_verdicts(self, draw: Callable[[], Paths], interval: Interval) -> float:
        """Share of experiments without a difference that ever say there is one."""
        wrong = 0
        for _ in range(self.rounds):
            low, high = interval(draw())
            wrong += int(((low > 0) | (high < 0)).any(1).sum())
        return round(wrong / (self.rounds * TOGETHER), 4)

    def found_after(self, draw: Callable[[], Paths], interval: Interval) -> Found:
        """Decisions, of both variants, until a true difference is found, and how often its sign was ever wrong."""
        times, wrong = [], []
        for _ in range(-(-self.rounds // 4)):
            paths = draw()
            low, high = interval(paths)
            rises = np.median(paths.b.mean()[:, -1] - paths.a.mean()[:, -1]) > 0
            right, other = (low > 0, high < 0) if rises else (high < 0, low > 0)
            times.append(first(right, paths.decisions()))
            wrong.append(other.any(1))
        return _times(np.concatenate(times)) | {"wrong_sign": round(float(np.mean(wrong)), 4)}

    def aborted(self, rates_a: Rates, rates_b: Rates, until: int, every: int) -> Found:
        """Share of challengers that the guardrails end, looking once in `every` decisions of both variants.

        The rates are of failed calls, of blocks and of late decisions; the split is one half.
        """
        rails, times = Guardrails(), []
        for _ in range(self.rounds):
            in_b = self.rng.binomial(every, 0.5, (TOGETHER, until // every))
            a, b = (
                [self._counts(n, rate) for rate in rates] for n, rates in ((every - in_b, rates_a), (in_b, rates_b))
            )
            rules = (
                (0, 1.0, rails.max_error_rate_increase),
                (1, rails.max_block_ratio, 0.0),
                (1, 0.0, rails.max_block_rate),
                (2, 1.0, rails.max_late_rate_increase),
            )
            ripe = np.minimum(a[0].seen, b[0].seen) >= rails.minimum_decisions
            broken = np.zeros(ripe.shape, bool)
            for i, ratio, extra in rules:
                bound = np.array(ratio), np.array(extra)
                broken |= ripe & (excess(a[i], b[i], bound, ALPHA / len(rules)) > 0)
            times.append(first(broken, a[0].seen + b[0].seen))
        return _times(np.concatenate(times))

    def _counts(self, n: NDArray[np.int64], rate: float) -> Sums:
        hits = np.cumsum(self.rng.binomial(n, rate), 1, dtype=float)
        return Sums(np.cumsum(n, 1, dtype=float), hits, hits)


def rates_at(alpha: float, design_effect: float = 1.0) -> Interval:
    return lambda paths: rate_interval(paths.a, paths.b, alpha, design_effect)


def means_at(alpha: float) -> Interval:
    return lambda paths: mean_interval(paths.a, paths.b, alpha)


def false_verdicts(study: Study, split: float) -> dict[str, float]:
    """One metric with the whole of alpha to itself."""
    rates = {f"block_rate_{rate:.1%}": rate for rate in (0.001, 0.01, 0.05)}
    rates |= {f"precision_{rate:.0%}": rate for rate in (0.3, 0.9)}
    costs = {"cost_lognormal": lognormal_costs, "cost_pareto_1.5": pareto_costs}
    same = {name: partial(simulate, study.rng, (rate, rate), split, ones) for name, rate in rates.items()}
    paid = {name: partial(simulate, study.rng, (0.006, 0.006), split, sizes) for name, sizes in costs.items()}
    found = {name: study.false_verdicts(draw, rates_at(ALPHA)) for name, draw in same.items()}
    return found | {name: study.false_verdicts(draw, means_at(ALPHA)) for name, draw in paid.items()}


def decisions_until_found(study: Study, split: float) -> dict[str, Found]:
    """As compare does it, with a quarter of alpha; those of precision count flagged transactions."""
    rates = {f"block_rate_{rate:.1%}_doubled": (rate, 2 * rate) for rate in (0.001, 0.01, 0.05)}
    rates |= {f"precision_{rate:.0%}_halved": (rate, rate / 2) for rate in (0.3, 0.9)}
    rates |= {"block_rate_1.0%_halved": (0.01, 0.005)}
    found = {
        name: study.found_after(partial(simulate, study.rng, pair, split, ones), rates_at(PER_METRIC))
        for name, pair in rates.items()
    }
    cheaper = partial(simulate, study.rng, (0.006, 0.003), split, lognormal_costs)
    return found | {"cost_lognormal_halved": study.found_after(cheaper, means_at(PER_METRIC))}


def guardrails(study: Study) -> dict[str, Found]:
    """Rates of failed calls, blocks and late decisions; the champion's are 0.5 %, 1 % and 1 %."""
    champion = (0.005, 0.01, 0.01)
    return {
        "as_good_as_the_champion": study.aborted(champion, champion, 40_000, 20),
        "at_the_very_limit": study.aborted(champion, (0.015, 0.02, 0.02), 40_000, 20),
        "five_in_a_hundred_calls_fail": study.aborted(champion, (0.05, 0.01, 0.01), 40_000, 20),
        "blocks_four_times_as_many": study.aborted(champion, (0.005, 0.04, 0.01), 40_000, 20),
        "blocks_one_in_five": study.aborted(champion, (0.005, 0.2, 0.01), 40_000, 20),
    }


def main() -> None:
    """Print shares of wrong verdicts and decisions until a true difference is found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=2_000, help="experiments of each kind (2000)")
    study = Study(parser.parse_args().experiments)
    entities = partial(clustered, study.rng, 0.01, 10.0, 0.1)
    design_effect = 1 + (2 * 10 - 1 - 1) * 0.1  # transactions an entity, weighted by themselves: 2 * 10 - 1
    publish(
        "experiment_errors",
        f"{study.rounds * TOGETHER:,} simulated experiments of each kind (a quarter of them where a true difference is "
        f"sought), each {EVENTS:,} blocks, flagged outcomes or costs long, looked at before and after each; "
        f"alpha {ALPHA} for the metric in false_verdicts, {PER_METRIC} in decisions_until_found as in compare; "
        "guardrails at their defaults, looked at every 20 of 40,000 decisions",
        {
            "false_verdicts_split_50": false_verdicts(study, 0.5),
            "false_verdicts_split_10": false_verdicts(study, 0.1),
            "false_verdicts_textbook_interval_block_rate_1%": study.false_verdicts(
                partial(simulate, study.rng, (0.01, 0.01), 0.5, ones), naive_interval
            ),
            "false_verdicts_clustered": {
                "design_effect_ignored": study.false_verdicts(entities, rates_at(ALPHA)),
                f"design_effect_{design_effect:.1f}": study.false_verdicts(entities, rates_at(ALPHA, design_effect)),
            },
            "decisions_until_found_split_50": decisions_until_found(study, 0.5),
            "decisions_until_found_split_10": decisions_until_found(study, 0.1),
            "guardrails_abort": guardrails(study),
        },
    )


if __name__ == "__main__":
    main()
