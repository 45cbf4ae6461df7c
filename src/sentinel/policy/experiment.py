"""A/B experiments between two models: who is in which variant, what is counted, which differences are real.

Variant a is the champion, b the challenger. Everything is computed from running sums, so that processes count
apart and add up later, and every statement holds at all times at once: look as often as you like, stop when you like.

The method is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas ("Time-uniform
central limit theory and asymptotic confidence sequences", Annals of Statistics 2024, theorem 2.2), which rests on
the normal mixture of Robbins ("Statistical methods related to the law of the iterated logarithm", 1970). It is
applied to a difference of two means, whose estimates move as a Brownian motion in the time 1 / variance however the
two counts grow (Jennison and Turnbull, "Group sequential methods", 2000, chapter 11).

"Asymptotic" leaves few and rare events open, so the variance is the larger of two: that of each variant by itself,
and that of both pooled as if nothing differed. The first guards against a chance run of events, the second against
a chance lack of them; either makes the interval wider, never narrower. `benchmarks/experiment_errors.py` counts the
errors that remain.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.policy.costs import Costs
from sentinel.policy.thresholds import Action, Share

_USUAL = Costs()
_SHARES = {
    Action.APPROVE: (1.0, 0.0),
    Action.CHALLENGE: (1 - _USUAL.challenge_stops, _USUAL.challenge_lost),
    Action.REVIEW: (0.0, 1.0),
    Action.BLOCK: (0.0, 1.0),
}
"""The shares of frauds that an action misses, and of legitimate transactions that it turns away."""
Floats: TypeAlias = NDArray[np.float64]
Count = Annotated[int, msgspec.Meta(ge=0)]
Sum = Annotated[float, msgspec.Meta(ge=0.0)]
Verdict = Literal["a higher", "b higher", "undecided"]

MINIMUM_COUNT = 30  # observations of each variant before an interval is given
MINIMUM_EVENTS = 10  # blocks, frauds or costs in both variants together before an interval is given
CHANGE = math.log(2)  # intervals are tightest for a change of the odds, or of a mean, by about this factor
HOPELESS_AFTER = 50  # model calls; an experiment ends at once when that many were made and all failed


def variant_of(entity_key: str | bytes, experiment_id: str, split_percent: float) -> Literal["a", "b"]:
    """The variant of an entity: the same in every process, for as long as the split stays.

    `split_percent` (0 to 100) is the share of the entities in b. Raising it moves entities from a to b and none back.
    Experiments with different ids split the entities independently. A text and its UTF-8 bytes are one entity.
    Raises InvalidDefinition for a split outside 0 to 100.

    >>> variant_of("card-1", "model-7-against-8", 0), variant_of("card-1", "model-7-against-8", 100)
    ('a', 'b')
    """
    if not 0 <= split_percent <= 100:
        raise InvalidDefinition(f"split_percent is {split_percent}; it must be between 0 and 100")
    key = entity_key if isinstance(entity_key, bytes) else entity_key.encode()
    place = xxh3_64_intdigest(key, _seed(experiment_id))
    return "b" if place < split_percent / 100 * 2**64 else "a"


@lru_cache(maxsize=1024)
def _seed(experiment_id: str) -> int:
    return xxh3_64_intdigest(experiment_id.encode())


class Tally(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What happened in one variant; add the tallies of several processes, keep them as JSON.

    Amounts and costs are in the currency's unit, latencies in microseconds. A decision is
    counted as one of `challenged`, `reviewed` and `blocked` at most. Sums of floats are associative up to rounding.

    >>> here, there = Tally(), Tally()
    >>> here.note_decision(Action.BLOCK, latency_us=800, deadline_us=5_000)
    >>> there.note_outcome(Action.APPROVE, fraud=True, amount=120.0, false_alarm_cost=5.0)
    >>> both = here + there
    >>> both.blocked, both.missed_fraud, both.cost_sum
    (1, 1, 120.0)
    """

    decisions: Count = 0
    challenged: Count = 0
    reviewed: Count = 0
    blocked: Count = 0
    errors: Count = 0  # model calls that failed; the decision came from the fallback
    latency_us_sum: Count = 0
    latency_us_squares: Sum = 0.0
    late: Count = 0  # decisions above the deadline
    outcomes_known: Count = 0
    flagged_fraud: Count = 0
    flagged_legitimate: Count = 0
    missed_fraud: Count = 0
    cost_sum: Sum = 0.0
    cost_squares: Sum = 0.0

    def note_decision(self, action: Action, latency_us: int, deadline_us: int, failed: bool = False) -> None:
        """Count a decision; `failed` when the model did not answer and the fallback did."""
        self.decisions += 1
        self.challenged += action is Action.CHALLENGE
        self.reviewed += action is Action.REVIEW
        self.blocked += action is Action.BLOCK
        self.errors += failed
        self.latency_us_sum += latency_us
        self.latency_us_squares += float(latency_us) ** 2
        self.late += latency_us > deadline_us

    def note_outcome(self, action: Action, fraud: bool, amount: float, false_alarm_cost: float) -> None:
        """Count the outcome of a transaction that was decided with `action`.

        A missed fraud costs its amount, a flagged legitimate transaction `false_alarm_cost`. Of what was challenged
        the usual share of `Costs` is missed or turned away, and the challenge itself costs; all else costs nothing.
        Raises InvalidInput, and counts nothing, when the cost is not a finite number of at least 0.
        """
        self._count_outcome(action, fraud, _cost_of(action, fraud, amount, false_alarm_cost), 1)

    def forget_outcome(self, action: Action, fraud: bool, amount: float, false_alarm_cost: float) -> None:
        """Count an outcome no longer that was noted with the same arguments, of which InvalidInput was not raised."""
        cost = _cost_of(action, fraud, amount, false_alarm_cost)
        self._count_outcome(action, fraud, cost, -1)
        # floats: what is left of equal parts need not be 0
        self.cost_sum, self.cost_squares = max(self.cost_sum, 0.0), max(self.cost_squares, 0.0)

    def _count_outcome(self, action: Action, fraud: bool, cost: float, times: int) -> None:
        flagged = action is not Action.APPROVE
        self.outcomes_known += times
        self.flagged_fraud += times * (flagged and fraud)
        self.flagged_legitimate += times * (flagged and not fraud)
        self.missed_fraud += times * (fraud and not flagged)
        self.cost_sum += times * cost
        self.cost_squares += times * cost * cost

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


def _cost_of(action: Action, fraud: bool, amount: float, false_alarm_cost: float) -> float:
    missed, turned_away = _SHARES[action]
    cost = missed * amount if fraud else turned_away * false_alarm_cost
    if action is Action.CHALLENGE:
        cost += _USUAL.challenge
    if not 0.0 <= cost < math.inf:
        raise InvalidInput(f"an outcome cannot cost {cost}", "$.amount" if fraud else "$.false_alarm_cost")
    return cost


class Difference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A metric of both variants. An estimate is None without observations, the bounds while there are too few.

    The true difference b - a lies in [low, high] at all times at once, save with the error that was allowed.
    """

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two variants compared: shares of decisions, precision as a share of flagged outcomes, cost in the currency."""

    block_rate: Difference
    flag_rate: Difference
    precision: Difference
    mean_cost: Difference


class Sums(NamedTuple):
    """Observations, their sum and the sum of their squares, each (m,): m metrics, or m moments of an experiment."""

    seen: Floats
    total: Floats
    squares: Floats

    def mean(self) -> Floats:
        """(m,); 0 where nothing was observed."""
        return self.total / np.maximum(self.seen, 1)

    def variance(self) -> Floats:
        """Variance of an observation, (m,)."""
        return np.maximum(self.squares / np.maximum(self.seen, 1) - self.mean() ** 2, 0.0)

    def with_those_of(self, other: "Sums") -> "Sums":
        """Both variants as one, (m,)."""
        return Sums(self.seen + other.seen, self.total + other.total, self.squares + other.squares)

    def rows(self, rows: slice) -> "Sums":
        """Some of the m."""
        return Sums(self.seen[rows], self.total[rows], self.squares[rows])


def compare(a: Tally, b: Tally, alpha: float = 0.05, design_effect: float = 1.0) -> Comparison:
    """Compare b with a on the data so far; the chance that any verdict is ever wrong is at most about `alpha`.

    The four metrics share alpha equally (Bonferroni). The guarantee is asymptotic; see the module.

    Four limits to know. Entities are assigned, not transactions, and the transactions of an entity resemble each
    other: `design_effect` is the factor by which this inflates variances (Kish, "Survey sampling", 1965), about
    1 + (m - 1) r for m transactions per entity with correlation r; take it from `estimate_design_effect`, since with
    the factor 1 verdicts come too early. Outcomes must become known at the same pace in both variants, or costs differ
    by how old they are. A blocked fraud is known only where somebody looks, so precision speaks of the outcomes that
    arrived. Costs hang on few large frauds: even a halved mean takes thousands of costs and a split near one half.
    Raises InvalidDefinition for an alpha outside (0, 1) or a design effect below 1.

    >>> a, b = Tally(decisions=20_000, blocked=200), Tally(decisions=20_000, blocked=400)
    >>> compare(a, b).block_rate.verdict
    'b higher'
    """
    _check(alpha, design_effect)
    sums_a, sums_b = _sums(a), _sums(b)
    rates, costs = slice(0, 3), slice(3, 4)
    bounds = (
        rate_interval(sums_a.rows(rates), sums_b.rows(rates), alpha / 4, design_effect),
        mean_interval(sums_a.rows(costs), sums_b.rows(costs), alpha / 4, design_effect),
    )
    low, high = (np.concatenate(side) for side in zip(*bounds, strict=True))
    found = [_difference(sums_a, sums_b, i, float(low[i]), float(high[i])) for i in range(4)]
    return Comparison(block_rate=found[0], flag_rate=found[1], precision=found[2], mean_cost=found[3])


def estimate_design_effect(parts: Sequence[Tally]) -> float:
    """The design effect of one variant, from tallies of disjoint random groups of its entities; at least 1.

    Group by a hash of the entity key, 30 groups or more. It is the largest ratio, over the metrics of `compare`,
    of the variance between groups to that of independent transactions (Rao and Scott, "A simple method for the
    analysis of clustered binary data", 1992). Raises InvalidDefinition for fewer than two groups.
    """
    if len(parts) < 2:
        raise InvalidDefinition(f"{len(parts)} groups say nothing about how groups differ; give 30 or more")
    groups = [_sums(part) for part in parts]
    count, total, squares = (np.stack(column) for column in zip(*groups, strict=True))
    pooled = Sums(count.sum(0), total.sum(0), squares.sum(0))
    expected = count * pooled.variance()
    beyond = np.where(expected > 0, (total - count * pooled.mean()) ** 2 / np.where(expected > 0, expected, 1.0), 0.0)
    return max(1.0, float(np.max(beyond.sum(0))) / (len(parts) - 1))


def mean_interval(a: Sums, b: Sums, alpha: float, design_effect: float = 1.0) -> tuple[Floats, Floats]:
    """Bounds of mean b - mean a of quantities of at least 0, each (m,); NaN while there are too few observations."""
    pooled = a.with_those_of(b)
    return _interval(a, b, pooled, CHANGE * pooled.mean(), (alpha, design_effect))


def rate_interval(a: Sums, b: Sums, alpha: float, design_effect: float = 1.0) -> tuple[Floats, Floats]:
    """Bounds of rate b - rate a, each (m,) and within [-1, 1]; NaN while there are too few observations."""
    pooled = a.with_those_of(b)
    low, high = _interval(a, b, pooled, CHANGE * pooled.variance(), (alpha, design_effect))
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def _interval(a: Sums, b: Sums, pooled: Sums, change: Floats, level: tuple[float, float]) -> tuple[Floats, Floats]:
    """The sequence for a difference of means, tightest for differences of about `change` (m,)."""
    alpha, design_effect = level
    count_a, count_b = np.maximum(a.seen, 1), np.maximum(b.seen, 1)
    own = a.variance() / count_a + b.variance() / count_b
    shared = pooled.variance() * (1 / count_a + 1 / count_b)
    enough = (np.minimum(a.seen, b.seen) >= MINIMUM_COUNT) & _eventful(pooled, design_effect)
    margin = _margin(design_effect * np.maximum(own, shared), np.where(enough, change, 0.0), alpha)
    difference = b.mean() - a.mean()
    return difference - margin, difference + margin


def excess(a: Sums, b: Sums, bound: tuple[Floats, Floats], alpha: float, design_effect: float = 1.0) -> Floats:
    """Lower bounds of rate b - ratio * rate a - extra, (m,), for `bound` = (ratio, extra); NaN while too few.

    With ratio 0 variant a does not matter. The pooled variance is that of rates that just keep the bound, after
    Farrington and Manning ("Test statistics and sample size formulae", 1990), estimated by moments.
    """
    ratio, extra = bound
    count_a, count_b = np.maximum(a.seen, 1), np.maximum(b.seen, 1)
    own = ratio**2 * a.variance() / count_a + b.variance() / count_b
    rate_a = np.clip((a.total + b.total - b.seen * extra) / (count_a + ratio * b.seen), 0.0, 1.0)
    rate_b = np.clip(ratio * rate_a + extra, 0.0, 1.0)
    shared = ratio**2 * rate_a * (1 - rate_a) / count_a + rate_b * (1 - rate_b) / count_b
    pooled = a.with_those_of(b)
    counts = np.where(ratio > 0, np.minimum(a.seen, b.seen), b.seen)
    enough = (counts >= MINIMUM_COUNT) & _eventful(pooled, design_effect)
    change = np.where(enough, CHANGE * np.maximum(rate_b * (1 - rate_b), pooled.variance()), 0.0)
    return b.mean() - ratio * a.mean() - extra - _margin(design_effect * np.maximum(own, shared), change, alpha)


def _margin(variance: Floats, change: Floats, alpha: float) -> Floats:
    """Half the width of the normal mixture's interval, (m,); NaN where the variance or the change is 0."""
    known = (variance > 0) & (change > 0)
    v, w = np.where(known, variance, 1.0), np.where(known, change, 1.0) ** 2
    return np.where(known, np.sqrt(v * (v + w) / w * (np.log1p(w / v) - 2 * math.log(alpha))), np.nan)


def _eventful(pooled: Sums, design_effect: float) -> NDArray[np.bool_]:
    """Whether as many events were seen as are needed; a sum that rests on few large costs counts as few events."""
    return pooled.total**2 >= MINIMUM_EVENTS * design_effect * pooled.squares


def _sums(tally: Tally) -> Sums:
    """Block rate, flag rate, precision and cost, (4,)."""
    flagged = tally.challenged + tally.reviewed + tally.blocked
    known = tally.flagged_fraud + tally.flagged_legitimate
    count = np.array([tally.decisions, tally.decisions, known, tally.outcomes_known], float)
    total = np.array([tally.blocked, flagged, tally.flagged_fraud, tally.cost_sum], float)
    return Sums(count, total, np.append(total[:3], tally.cost_squares))


def _difference(a: Sums, b: Sums, i: int, low: float, high: float) -> Difference:
    mean_a, mean_b = (float(sums.mean()[i]) if sums.seen[i] else None for sums in (a, b))
    return Difference(
        a=mean_a,
        b=mean_b,
        difference=None if mean_a is None or mean_b is None else mean_b - mean_a,
        low=None if math.isnan(low) else low,
        high=None if math.isnan(high) else high,
        verdict="b higher" if low > 0 else "a higher" if high < 0 else "undecided",
    )


class Guardrails(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much worse than the champion a challenger may be before its experiment ends; all rates are shares of 1.

    Differences are in the rate itself: 0.01 allows one failed call more in a hundred.
    """

    max_error_rate_increase: Share = 0.01
    max_block_ratio: Annotated[float, msgspec.Meta(ge=1.0)] = 2.0
    max_block_rate: Share = 0.05
    max_late_rate_increase: Share = 0.01  # share of decisions above the deadline; 0.01 speaks of the 99th percentile
    minimum_decisions: Annotated[int, msgspec.Meta(ge=1)] = 200  # of each variant that a guardrail reads


def check_guardrails(
    a: Tally, b: Tally, guardrails: Guardrails, alpha: float = 0.05, design_effect: float = 1.0
) -> str | None:
    """Why the experiment must end now, with the numbers; None while nothing speaks against the challenger b.

    A challenger that keeps every guardrail is aborted with a chance of at most about `alpha` over the whole
    experiment, however often this is asked: each guardrail has a quarter of alpha. The method and its limits are
    those of `compare`. One rule needs no statistics: when the first 50 model calls of b all failed, it ends at once.

    >>> check_guardrails(Tally(decisions=500), Tally(decisions=50, errors=50), Guardrails())
    'every one of the first 50 model calls of b failed'
    """
    _check(alpha, design_effect)
    if b.errors == b.decisions >= HOPELESS_AFTER:
        return f"every one of the first {b.decisions:,} model calls of b failed"
    g = guardrails
    rules = (
        (a.errors, b.errors, 1.0, g.max_error_rate_increase),
        (a.blocked, b.blocked, g.max_block_ratio, 0.0),
        (a.blocked, b.blocked, 0.0, g.max_block_rate),
        (a.late, b.late, 1.0, g.max_late_rate_increase),
    )
    texts = (
        ("failed model calls", f"{g.max_error_rate_increase:.2%} above a"),
        ("blocked transactions", f"{g.max_block_ratio:g} times the rate of a"),
        ("blocked transactions", f"{g.max_block_rate:.2%}"),
        ("decisions above the deadline", f"{g.max_late_rate_increase:.2%} above a"),
    )
    hits_a, hits_b, ratio, extra = np.array(rules, float).T
    seen_a, seen_b = np.full(len(rules), float(a.decisions)), np.full(len(rules), float(b.decisions))
    sums_a, sums_b = Sums(seen_a, hits_a, hits_a), Sums(seen_b, hits_b, hits_b)
    beyond = excess(sums_a, sums_b, (ratio, extra), alpha / len(rules), design_effect)
    ripe = np.where(ratio > 0, np.minimum(seen_a, seen_b), seen_b) >= g.minimum_decisions
    for i in np.flatnonzero(ripe & (beyond > 0)):
        what, allowed = texts[i]
        found = f"b {_share(hits_b[i], b.decisions)}, a {_share(hits_a[i], a.decisions)}"
        return f"too many {what}: {found}; allowed is at most {allowed}; chance is ruled out at alpha {alpha:g}"
    return None


def _share(hits: float, of: int) -> str:
    return f"{hits:,.0f} of {of:,} ({hits / max(of, 1):.2%})"


def _check(alpha: float, design_effect: float) -> None:
    if not 0 < alpha < 1:
        raise InvalidDefinition(f"alpha is {alpha}; it must be between 0 and 1")
    if not 1 <= design_effect < math.inf:
        raise InvalidDefinition(f"design_effect is {design_effect}; it must be a finite number of at least 1")
