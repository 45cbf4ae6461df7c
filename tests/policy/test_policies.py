"""How thresholds are chosen: each rule against a slow one that tries everything."""

from itertools import combinations_with_replacement

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sentinel import CostGrid, Costs, LeastLoss, LegitimateQuantile, Policy, ReviewCapacity
from sentinel.errors import InvalidDefinition
from sentinel.policy.policies import AnyPolicy
from sentinel.policy.sample import DAY_US, Sample
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds

unit = st.floats(0, 1, width=32)
some_costs = st.builds(
    Costs,
    missed_fraud_share=st.sampled_from((0.0, 1.0)),
    missed_fraud=st.sampled_from((3.0, 500.0)),
    false_alarm=st.floats(0, 100),
    review=st.floats(0, 20),
    challenge=st.floats(0, 2),
    challenge_lost=st.floats(0, 1),
    challenge_stops=st.floats(0, 1),
)


def sample_of(scores, labels, amounts=None, days=1.0, transactions=None):
    n = len(scores)
    amounts = np.full(n, 100.0) if amounts is None else np.asarray(amounts, float)
    times = np.linspace(0, days * DAY_US, n).astype(np.int64)
    return Sample(np.asarray(scores, np.float32), np.asarray(labels, np.int8), amounts, times, transactions or n)


@st.composite
def samples(draw, most=12):
    n = draw(st.integers(1, most))
    scores = draw(arrays(np.float32, n, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 0.9, 1.0]) | unit))
    labels = draw(arrays(np.int8, n, elements=st.integers(0, 1)))
    labels[draw(st.integers(0, n - 1))] = 0
    return sample_of(scores, labels, draw(arrays(float, n, elements=st.floats(0, 900))))


def loss(sample, costs, thresholds):
    """What every decision costs, one after the other."""
    total = 0.0
    for score, is_fraud, amount in zip(sample.scores.tolist(), sample.labels == 1, sample.amounts, strict=True):
        missed = costs.missed_fraud_share * amount + costs.missed_fraud if is_fraud else 0.0
        wrong = 0.0 if is_fraud else costs.false_alarm
        total += {
            Action.APPROVE: missed,
            Action.CHALLENGE: costs.challenge
            + missed * (1 - costs.challenge_stops)
            + wrong * (0.0 if is_fraud else costs.challenge_lost),
            Action.REVIEW: costs.review,
            Action.BLOCK: wrong,
        }[thresholds.action(score)]
    return total


@given(samples(7), some_costs, st.booleans(), st.booleans())
def test_no_thresholds_lose_less_than_those_of_least_loss(sample, costs, block, challenge):
    assume(sample.scores.max() < 1)  # a certainty cannot be exceeded
    found = LeastLoss(costs=costs, block=block, challenge=challenge).choose(sample)
    assert (found.challenge is not None) == challenge
    assert block or found.block is None
    cuts = [*sorted(set(sample.scores.tolist())), 2.0]
    tried = [
        Thresholds(review, high if block else None, low if challenge else None)
        for low, review, high in combinations_with_replacement(cuts, 3)
    ]
    least = min(loss(sample, costs, one) for one in tried)
    assert loss(sample, costs, found) == pytest.approx(least, rel=1e-9, abs=1e-9)
    assert (found.challenge or 0.0) <= found.review <= (1.0 if found.block is None else found.block)


def test_of_equal_losses_the_mildest_actions_are_taken():
    found = LeastLoss(costs=Costs(review=0.0, false_alarm=0.0)).choose(sample_of([0.2, 0.9], [0, 1]))
    assert [found.action(score) for score in (0.2, 0.9)] == [Action.APPROVE, Action.REVIEW]
    assert found.block is None


def test_what_pays_where_is_what_is_decided_there():
    scores = np.repeat([0.05, 0.4, 0.7, 0.95], 100)
    labels = np.concatenate([np.arange(100) < n for n in (0, 20, 50, 99)]).astype(np.int8)
    costs = Costs(false_alarm=50.0, review=12.0, challenge=0.5, challenge_lost=0.05, challenge_stops=0.6)
    found = LeastLoss(costs=costs, challenge=True).choose(sample_of(scores, labels))
    assert [found.action(score) for score in (0.05, 0.4, 0.7, 0.95)] == list(Action)


@given(samples(60), st.floats(0.1, 50), st.none() | st.floats(0.1, 50), st.none() | st.floats(0.01, 0.9))
def test_no_more_are_reviewed_or_challenged_a_day_than_there_is_capacity_for(sample, reviews, challenges, block):
    policy = ReviewCapacity(reviews_a_day=reviews, challenges_a_day=challenges, block_at_fpr=block)
    found = policy.choose(sample)
    if sample.scores.max() == 1:
        return  # a certainty cannot be exceeded
    counted = np.bincount(found.levels(sample.scores.astype(float)), minlength=len(ACTIONS)) * sample.a_day
    assert counted[ACTIONS.index(Action.REVIEW)] <= reviews + 1e-9
    assert counted[ACTIONS.index(Action.CHALLENGE)] <= (challenges or 0.0) + 1e-9
    assert found.review <= (1.0 if found.block is None else found.block)


def test_the_capacity_is_used_where_scores_differ():
    scores = np.arange(1000) / 1000
    policy = ReviewCapacity(reviews_a_day=5, block_at_fpr=0.02, challenges_a_day=20)
    found = policy.choose(sample_of(scores, np.zeros(1000), days=10.0))
    levels = found.levels(scores.astype(np.float32).astype(float))
    assert [int(np.sum(levels == ACTIONS.index(one))) for one in list(Action)[1:]] == [200, 50, 20]


def test_transactions_without_an_outcome_take_capacity_too():
    scores = np.arange(1000) / 1000
    found = ReviewCapacity(reviews_a_day=40, block_at_fpr=None).choose(
        sample_of(scores, np.zeros(1000), transactions=4000)
    )
    assert np.sum(scores.astype(np.float32) >= found.review) == 10


@given(samples(), some_costs)
def test_the_grid_takes_the_first_cheapest_of_99_thresholds(sample, costs):
    found = CostGrid(costs=costs).choose(sample)
    grid = np.linspace(0.01, 0.99, 99).tolist()
    lost = [loss(sample, costs, Thresholds(one, one)) for one in grid]
    assert found.review == found.block
    assert found.review in grid
    assert loss(sample, costs, found) == pytest.approx(min(lost), rel=1e-9, abs=1e-9)


def test_the_grid_has_the_costs_of_its_source():
    scores = np.concatenate([np.full(10, 0.405), np.full(9, 0.405), np.full(3, 0.3), np.full(40, 0.3)])
    labels = np.concatenate([np.zeros(10), np.ones(9), np.ones(3), np.zeros(40)])
    assert CostGrid().choose(sample_of(scores, labels)).review == pytest.approx(
        0.31
    )  # 3 frauds are 1500, 40 alarms 2000


@given(samples(), st.floats(0.001, 0.999))
def test_the_quantile_is_held_within_its_bounds(sample, share):
    found = LegitimateQuantile(target_fpr=share).choose(sample)
    expected = float(np.quantile(sample.scores[sample.labels == 0], 1 - share))
    assert found == Thresholds(float(np.clip(expected, 0.0001, 0.9999)), None)


def test_without_legitimate_ones_the_quantile_is_one_half():
    assert LegitimateQuantile().choose(sample_of([0.9], [1])).review == 0.5


@given(arrays(np.float32, st.integers(1, 300), elements=unit), st.lists(st.floats(0.001, 0.5), min_size=3, max_size=3))
def test_no_more_legitimate_transactions_are_disturbed_than_allowed(scores, shares):
    block, review, challenge = sorted(shares)
    policy = Policy(review_at_fpr=review, block_at_fpr=block, challenge_at_fpr=challenge)
    found = policy.choose(sample_of(scores, np.zeros(len(scores))))
    assert found.challenge <= found.review <= found.block
    if scores.max() < 1:  # a certainty cannot be exceeded
        for threshold, share in ((found.challenge, challenge), (found.review, review), (found.block, block)):
            assert np.mean(scores >= threshold) <= share


def test_as_many_are_disturbed_as_allowed_when_scores_differ():
    scores = (np.arange(1000) / 1000).astype(np.float32)
    policy = Policy(review_at_fpr=0.05, block_at_fpr=0.01, challenge_at_fpr=0.1)
    found = policy.choose(sample_of(scores, np.zeros(1000)))
    assert [np.sum(scores >= one) for one in (found.challenge, found.review, found.block)] == [100, 50, 10]


def test_frauds_do_not_move_the_thresholds():
    found = Policy(review_at_fpr=0.4, block_at_fpr=0.4).choose(sample_of([0.1, 0.2, 0.9, 0.95], [0, 0, 1, 1]))
    assert found.review < 0.21


@pytest.mark.parametrize("policy", [Policy(), LeastLoss(), ReviewCapacity(reviews_a_day=5), CostGrid()])
def test_without_legitimate_transactions_it_says_what_to_do(policy):
    with pytest.raises(InvalidDefinition, match="longer validation part"):
        policy.choose(sample_of(np.ones(3), np.ones(3)))


def test_a_policy_may_never_block():
    scores = (np.arange(1000) / 1000).astype(np.float32)
    found = Policy(review_at_fpr=0.05, block_at_fpr=None).choose(sample_of(scores, np.zeros(1000)))
    assert np.sum(scores >= found.review) == 50
    assert found.block is None
    assert [found.action(score) for score in (0.1, 0.97, 1.0)] == [Action.APPROVE, Action.REVIEW, Action.REVIEW]
    assert msgspec.convert(msgspec.to_builtins(found), Thresholds) == found


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda: Policy(review_at_fpr=0.001, block_at_fpr=0.01), "block_at_fpr"),
        (lambda: Policy(review_at_fpr=0.0, block_at_fpr=None), "block_at_fpr"),
        (lambda: Policy(challenge_at_fpr=0.001), r"challenge_at_fpr \(0.001\) must be at least review_at_fpr"),
        (lambda: Policy(challenge_at_fpr=1.0), "below 1"),
        (lambda: ReviewCapacity(reviews_a_day=0), "reviews_a_day is 0"),
        (lambda: ReviewCapacity(reviews_a_day=float("inf")), "reviews_a_day is inf"),
        (lambda: ReviewCapacity(reviews_a_day=1, block_at_fpr=2.0), "block_at_fpr is 2"),
        (lambda: ReviewCapacity(reviews_a_day=1, challenges_a_day=-1), "challenges_a_day is -1"),
        (lambda: LegitimateQuantile(target_fpr=0.0), "target_fpr is 0"),
        (lambda: Costs(review=-1.0), "review is -1.0; give an amount"),
        (lambda: Costs(false_alarm=float("nan")), "false_alarm is nan"),
        (lambda: Costs(missed_fraud=float("inf")), "missed_fraud is inf"),
        (lambda: Costs(challenge_stops=1.5), "challenge_stops is 1.5; give a share"),
        (lambda: Costs(missed_fraud_share=0.0), "a missed fraud costs nothing"),
    ],
)
def test_what_no_policy_can_go_by_is_refused(declare, text):
    with pytest.raises(InvalidDefinition, match=text):
        declare()


@pytest.mark.parametrize(
    "policy",
    [
        Policy(challenge_at_fpr=0.05),
        LeastLoss(challenge=True),
        ReviewCapacity(reviews_a_day=5),
        CostGrid(),
        LegitimateQuantile(),
    ],
)
def test_a_policy_is_kept_in_the_bundle_with_the_rule_that_it_is(policy):
    assert msgspec.convert(msgspec.to_builtins(policy), AnyPolicy) == policy
