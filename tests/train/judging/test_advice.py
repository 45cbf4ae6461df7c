"""What is said of a policy that cannot work names one that does, with figures that hold."""

import re

import numpy as np
import pytest

import sentinel
from sentinel import CostGrid, Costs, LeastLoss, LegitimateQuantile, Policy, ReviewCapacity
from sentinel.policy.sample import DAY_US, Sample
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.train.judging.advice import advice, declared

N = 10_000
RNG = np.random.default_rng(8)
LABELS = (np.arange(N) % 50 == 0).astype(np.int8)


def sample_of(scores, labels=LABELS):
    times = np.linspace(0, 10 * DAY_US, len(scores)).astype(np.int64)
    return Sample(np.asarray(scores, np.float32), labels, np.full(len(scores), 80.0), times, len(scores))


GOOD = sample_of(np.where(LABELS == 1, RNG.uniform(0.3, 1, N), RNG.beta(1, 12, N)))
TIED = sample_of(
    np.where(LABELS == 1, np.where(np.arange(N) % 150 == 0, 0.6, 0.3369), np.where(RNG.random(N) < 0.03, 0.3369, 0.01))
)
POLICIES = [
    Policy(), Policy(challenge_at_fpr=0.05), LeastLoss(), LeastLoss(challenge=True), ReviewCapacity(reviews_a_day=20),
    CostGrid(), LegitimateQuantile(),
]  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES, ids=declared)
def test_nothing_is_said_where_frauds_are_found(policy):
    assert advice(policy, GOOD, policy.choose(GOOD)) == []


def check(sentence, sample):
    """What a sentence says of a policy is what that policy does."""
    names = {name: getattr(sentinel, name) for name in ("Policy", "LeastLoss", "ReviewCapacity")}
    told = re.findall(
        r"((?:Policy|LeastLoss|ReviewCapacity)\(.*?\)) would find ([\d,]+) of its ([\d,]+) frauds with ([\d,]+) false "
        r"alarms, ([\d,]+) reviewed and ([\d,]+) blocked",
        sentence,
    )
    for written, *figures in told:
        policy = eval(written, {"__builtins__": {}}, names)  # noqa: S307 - it is ours
        levels = policy.choose(sample).levels(sample.scores.astype(float))
        alarm, fraud = levels != 0, sample.labels == 1
        does = (
            alarm & fraud,
            fraud,
            alarm & ~fraud,
            levels == ACTIONS.index(Action.REVIEW),
            levels == ACTIONS.index(Action.BLOCK),
        )
        assert [int(one.replace(",", "")) for one in figures] == [int(one.sum()) for one in does]
    return told


def test_a_tie_that_the_share_would_cut_through_is_named_with_the_share_that_takes_it_in():
    policy = Policy()
    said = advice(policy, TIED, policy.choose(TIED))
    tie = next(one for one in said if "have the same score 0.3369" in one)
    share = float(re.search(r"review_at_fpr=([\d.]+) takes them in", tie)[1])
    with_it = Policy(review_at_fpr=share).choose(TIED)
    assert np.mean(TIED.scores[TIED.labels == 1] >= with_it.review) == 1.0
    assert share < 0.04


def test_a_threshold_on_a_tied_score_is_named():
    said = advice(LegitimateQuantile(), TIED, LegitimateQuantile().choose(TIED))
    assert "the review threshold lies on a score that" in said[0]
    assert check(said[0], TIED)


@pytest.mark.parametrize(
    "policy",
    [Policy(), Policy(review_at_fpr=0.001), ReviewCapacity(reviews_a_day=0.3, block_at_fpr=None)],
    ids=declared,
)
def test_where_hardly_a_fraud_is_found_a_policy_is_named_that_finds_some(policy):
    low = sample_of(np.where(LABELS == 1, RNG.uniform(0.7, 0.9, N), np.where(RNG.random(N) < 0.03, 0.95, 0.1)))
    low = low._replace(scores=(low.scores - RNG.random(N) * 1e-4).astype(np.float32))
    said = advice(policy, low, policy.choose(low))
    assert any("finds 0 of 200 frauds" in one or re.search(r"finds \d of 200 frauds", one) for one in said), said
    (written, caught, *_) = check(said[-1], low)[0]
    assert written.startswith(type(policy).__name__)
    assert int(caught) > 60


def test_where_no_threshold_helps_it_is_said_to_bring_features():
    hopeless = sample_of(np.where(LABELS == 1, 0.1, RNG.uniform(0.2, 0.9, N)))
    assert "bring features that tell more" in advice(Policy(), hopeless, Policy().choose(hopeless))[-1]


def test_where_all_is_blocked_and_nothing_reviewed_two_ways_out_are_named():
    policy = Policy(review_at_fpr=0.001, block_at_fpr=0.001)
    said = advice(policy, GOOD, policy.choose(GOOD))
    told = check(said[-1], GOOD)
    assert len(told) == 2
    assert all(int(one[4].replace(",", "")) >= 5 for one in told)


def test_where_nothing_is_blocked_it_is_said_what_would_be():
    top = sample_of(np.where(GOOD.scores > 0.42, np.where(RNG.random(N) < 0.999, 0.42, 0.41), GOOD.scores))
    policy = Policy(review_at_fpr=0.05)
    said = advice(policy, top, policy.choose(top))
    assert "nothing of the validation part is blocked" in said[-1]
    assert "have the highest score, 0.42" in said[-1]
    assert int(check(said[-1], top)[0][5]) > 0


def test_where_reviews_never_pay_it_is_said_by_which_costs():
    policy = LeastLoss(costs=Costs(review=40.0, false_alarm=10.0))
    said = advice(policy, GOOD, policy.choose(GOOD))
    assert "with a review at 40 and a false alarm at 10 it pays to block right away; LeastLoss(block=False)" in said[0]


def test_a_policy_that_means_to_review_nothing_is_not_told_so():
    assert advice(CostGrid(), GOOD, CostGrid().choose(GOOD)) == []
