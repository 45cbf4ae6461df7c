"""Advice: why the thresholds of a policy can hardly work on a sample, and which policy would."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from sentinel.policy.policies import AnyPolicy, CostGrid, LeastLoss, LegitimateQuantile, Policy, ReviewCapacity
from sentinel.policy.sample import Sample
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds

LEAST_RECALL = 0.05
FEWEST_BETWEEN = 5
_GOOD_RECALL = 0.3
_MOST_FALSE_ALARMS = 0.2
_LAXER = (1.5, 2, 3, 5, 10, 20, 50, 100, 200)


class _Result(NamedTuple):
    """What a policy would do with a sample: how many it would review and block, and find and wrongly suspect."""

    policy: AnyPolicy
    reviewed: int
    blocked: int
    caught: int
    false_alarms: int
    frauds: int

    @property
    def recall(self) -> float:
        return self.caught / max(self.frauds, 1)

    @property
    def said(self) -> str:
        """As it is written in a detector, and what it does."""
        return (
            f"{declared(self.policy)} would find {self.caught:,} of its {self.frauds:,} frauds with "
            f"{self.false_alarms:,} false alarms, {self.reviewed:,} reviewed and {self.blocked:,} blocked"
        )


def advice(policy: AnyPolicy, sample: Sample, thresholds: Thresholds) -> list[str]:
    """What is wrong with these thresholds on the sample that they were chosen on, each with what would work there.

    Empty where nothing is: where frauds are found, and what may be reviewed is told from what may be blocked.
    """
    now = _result(policy, sample, thresholds)
    found = [*_ties(policy, sample, thresholds)]
    if now.frauds and now.recall < LEAST_RECALL:
        found.append(_of_recall(policy, sample, now))
    elif {Action.REVIEW, Action.BLOCK} <= policy.actions and now.blocked and now.reviewed < FEWEST_BETWEEN:
        found.append(_of_reviews(policy, sample, now))
    elif thresholds.block is not None and not now.blocked and isinstance(policy, Policy | ReviewCapacity):
        found.append(_of_blocks(policy, sample))
    return found


def declared(policy: AnyPolicy) -> str:
    """A policy as it is written in a detector, without what is as usual and without its costs.

    >>> declared(Policy(review_at_fpr=0.02)), declared(ReviewCapacity(reviews_a_day=40.0))
    ('Policy(review_at_fpr=0.02)', 'ReviewCapacity(reviews_a_day=40)')
    """
    given = {one.name: (getattr(policy, one.name), one.default) for one in msgspec.structs.fields(policy)}
    words = [
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, (value, usual) in given.items()
        if name != "costs" and value != usual
    ]
    return f"{type(policy).__name__}({', '.join(words)})"


def shown_score(score: float) -> str:
    """A score with four significant digits.

    >>> shown_score(0.0000123456), shown_score(0.25)
    ('0.00001235', '0.25')
    """
    return np.format_float_positional(score, 4, fractional=False, trim="-")


def _result(policy: AnyPolicy, sample: Sample, thresholds: Thresholds) -> _Result:
    levels = thresholds.levels(sample.scores.astype(np.float64))
    is_alarm, is_fraud = levels != 0, sample.labels == 1
    reviewed, blocked, caught, false_alarms, frauds = (
        int(np.count_nonzero(one))
        for one in (
            levels == ACTIONS.index(Action.REVIEW), levels == ACTIONS.index(Action.BLOCK), is_alarm & is_fraud,
            is_alarm & ~is_fraud, is_fraud,
        )
    )  # fmt: skip
    return _Result(policy, reviewed, blocked, caught, false_alarms, frauds)


def _tried(policies: Iterator[AnyPolicy], sample: Sample) -> Iterator[_Result]:
    return (_result(one, sample, one.choose(sample)) for one in policies)


def _laxer(policy: AnyPolicy) -> Iterator[AnyPolicy]:
    """Policies of the same kind, or the nearest that has something to loosen, that disturb more and more."""
    if isinstance(policy, CostGrid):
        yield LeastLoss(costs=policy.costs)
    if isinstance(policy, ReviewCapacity):
        for times in _LAXER:
            yield msgspec.structs.replace(policy, reviews_a_day=policy.reviews_a_day * times)
        return
    if isinstance(policy, Policy):
        start = policy
    elif isinstance(policy, LegitimateQuantile):
        start = Policy(review_at_fpr=policy.target_fpr, block_at_fpr=None, costs=policy.costs)
    else:
        start = Policy(block_at_fpr=0.001 if Action.BLOCK in policy.actions else None, costs=policy.costs)
    for times in _LAXER:
        share = float(f"{start.review_at_fpr * times:.3g}")
        if share <= _MOST_FALSE_ALARMS:
            challenge = start.challenge_at_fpr and max(start.challenge_at_fpr, share)
            yield msgspec.structs.replace(start, review_at_fpr=share, challenge_at_fpr=challenge)


def _of_recall(policy: AnyPolicy, sample: Sample, now: _Result) -> str:
    said = f"on the validation part it finds {now.caught:,} of {now.frauds:,} frauds"
    best = now
    for one in _tried(_laxer(policy), sample):
        if one.recall > best.recall:
            best = one
        if one.recall >= _GOOD_RECALL:
            break
    if best.recall < LEAST_RECALL:
        return f"{said}, and with up to 20 % false alarms no more than {best.caught:,}: bring features that tell more"
    return f"{said}; {best.said}"


def _of_reviews(policy: AnyPolicy, sample: Sample, now: _Result) -> str:
    said = f"of the validation part it blocks {now.blocked:,} and reviews {now.reviewed:,}"
    if isinstance(policy, LeastLoss):
        gentle = msgspec.structs.replace(policy, block=False)
        costs = policy.costs
        why = (
            f"with a review at {costs.review:g} and a false alarm at {costs.false_alarm:g} it pays to block right away"
        )
        return f"{said}: {why}; {next(_tried(iter([gentle]), sample)).said}"
    never_blocks = msgspec.structs.replace(policy, block_at_fpr=None)
    laxer = next((one for one in _tried(_laxer(policy), sample) if one.reviewed >= FEWEST_BETWEEN), None)
    choices = [] if laxer is None else [laxer.said]
    return f"{said}; {', or '.join([*choices, next(_tried(iter([never_blocks]), sample)).said])}"


def _of_blocks(policy: Policy | ReviewCapacity, sample: Sample) -> str:
    share, most = policy.block_at_fpr or 0.0, policy.review_at_fpr if isinstance(policy, Policy) else _MOST_FALSE_ALARMS
    shares = [float(f"{share * times:.3g}") for times in _LAXER if share * times <= most]
    laxer = (msgspec.structs.replace(policy, block_at_fpr=one) for one in [*shares, None])
    found = next(one for one in _tried(laxer, sample) if one.blocked or one.policy.block_at_fpr is None)  # type: ignore[union-attr]
    highest = float(sample.scores.max())
    equal = int(np.count_nonzero(sample.scores == highest))
    return (
        f"nothing of the validation part is blocked: {equal:,} of its transactions have the highest score, "
        f"{shown_score(highest)}, and the block threshold lies above it; {found.said}"
    )


def _ties(policy: AnyPolicy, sample: Sample, thresholds: Thresholds) -> Iterator[str]:
    """Where so many transactions have one score that no threshold can do what the policy says."""
    if isinstance(policy, Policy | LegitimateQuantile):
        share = policy.review_at_fpr if isinstance(policy, Policy) else policy.target_fpr
        scores, kind = sample.scores[sample.labels == 0], "legitimate validation transactions"
        allowed, meant = int(share * len(scores)), f"a share of {share:g}"
    elif isinstance(policy, ReviewCapacity):
        scores, kind = sample.scores, "validation transactions"
        blocked = 0 if thresholds.block is None else int(np.count_nonzero(scores >= thresholds.block))
        allowed, meant = blocked + int(policy.reviews_a_day / sample.a_day), f"{policy.reviews_a_day:g} reviews a day"
    else:
        return
    disturbed = int(np.count_nonzero(scores >= thresholds.review))
    if disturbed > 2 * max(allowed, 1):
        equal = int(np.count_nonzero(scores == scores[scores >= thresholds.review].min()))
        instead = Policy(review_at_fpr=share, block_at_fpr=None)
        better = _result(instead, sample, instead.choose(sample))
        yield (
            f"the review threshold lies on a score that {equal:,} {kind} have: it disturbs {disturbed:,} of them, and "
            f"{meant} is {allowed:,}; {better.said}"
        )
    elif 4 * disturbed < allowed and disturbed < len(scores):
        below = float(scores[scores < thresholds.review].max())
        equal = int(np.count_nonzero(scores == below))
        yield (
            f"{equal:,} of {len(scores):,} {kind} have the same score {shown_score(below)}: {meant} is {allowed:,}, "
            f"which would cut through them, so the review threshold lies above all of them and disturbs {disturbed:,}; "
            + (
                f"review_at_fpr={_rounded_up((disturbed + equal) / len(scores))} takes them in"
                if isinstance(policy, Policy)
                else f"reviews_a_day={_rounded_up((disturbed + equal - blocked) * sample.a_day)} takes them in"
            )
        )


def _rounded_up(value: float) -> str:
    """At least this, with two or three digits."""
    digit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return f"{(np.floor(value / digit) + 1) * digit:.3g}"
