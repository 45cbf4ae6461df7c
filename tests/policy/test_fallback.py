import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.detectors.velocity import RULES as VELOCITY_RULES
from sentinel.errors import InvalidDefinition
from sentinel.policy.fallback import Fallback, Rule
from sentinel.policy.stand_ins import CompiledFallback
from sentinel.policy.thresholds import Action, Thresholds

VELOCITY = Fallback(rules=VELOCITY_RULES, block_at=None)
CALM = {
    "amount": 20.0, "hour_of_day": 14.0, "days_since_last_txn": 1.5, "txn_count_24h": 3.0,
    "distinct_merchants_24h": 2.0, "avg_amount_7d": 95.0, "channel_online": 0.0,
}  # fmt: skip
WORST = {
    "amount": 9000.0, "days_since_last_txn": 0.01, "txn_count_24h": 20.0, "distinct_merchants_24h": 9.0,
    "channel_online": 1.0,
}  # fmt: skip


def row(**changes):
    return np.array([list((CALM | changes).values())])


def velocity_score(**changes):
    return CompiledFallback(VELOCITY, tuple(CALM)).score(row(**changes))[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.05),
        ({"amount": 2500}, 0.05),
        ({"amount": 2500.01}, 0.23),
        ({"amount": 8000}, 0.23),
        ({"amount": 8000.01}, 0.38),
        ({"txn_count_24h": 15}, 0.05),
        ({"txn_count_24h": 16}, 0.27),
        ({"txn_count_24h": 9, "distinct_merchants_24h": 9}, 0.17),
        ({"txn_count_24h": 8, "distinct_merchants_24h": 9}, 0.05),
        ({"txn_count_24h": 9, "distinct_merchants_24h": 8}, 0.05),
        ({"txn_count_24h": 16, "distinct_merchants_24h": 9}, 0.39),
        ({"days_since_last_txn": 0.049, "amount": 201}, 0.2),
        ({"days_since_last_txn": 0.05, "amount": 201}, 0.05),
        ({"days_since_last_txn": 0.049, "amount": 200}, 0.05),
        ({"channel_online": 0.5, "amount": 1501}, 0.13),
        ({"channel_online": 0.49, "amount": 1501}, 0.05),
        ({"channel_online": 1, "amount": 1500}, 0.05),
        ({"channel_online": 1, "amount": 2501}, 0.31),
        (WORST, 0.95),
    ],
)
def test_the_published_rules_case_by_case(changes, expected):
    assert velocity_score(**changes) == expected


def test_many_rows_score_as_each_alone():
    rows = np.concatenate([row(), row(amount=9000), row(**WORST)])
    found = CompiledFallback(VELOCITY, tuple(CALM)).score(rows.astype(np.float32))
    assert found.dtype == np.float64
    assert found.tolist() == [0.05, 0.38, 0.95]
    assert CompiledFallback(VELOCITY, tuple(CALM)).score(rows[:0]).tolist() == []


def test_a_missing_feature_satisfies_no_condition():
    nothing = np.full((1, len(CALM)), np.nan)
    assert CompiledFallback(VELOCITY, tuple(CALM)).score(nothing) == [0.05]
    for op in (">", ">=", "<", "<="):
        one = CompiledFallback(Fallback(rules=(Rule(f"x {op} 0", 0.5, "any"),)), ("x",))
        assert one.score(np.array([[np.nan]])) == [0.05]


def test_columns_are_found_by_name():
    backwards = CompiledFallback(VELOCITY, tuple(reversed(CALM)))
    assert backwards.score(row(amount=9000)[:, ::-1]) == [0.38]


@given(st.lists(st.floats(-3, 3), max_size=6), st.floats(0, 1))
def test_scores_stay_between_0_and_1(adds, base):
    rules = tuple(Rule("x > 0.0", add, "x") for add in adds)
    fallback = Fallback(base=base, rules=rules)
    score = CompiledFallback(fallback, ("x",)).score(np.array([[1.0]]))[0]
    assert 0.0 <= score <= 1.0
    assert fallback.can_block or score < 0.75


def test_a_sum_that_is_a_threshold_in_decimals_reaches_it():
    rules = tuple(Rule("x > 0.0", add, "x") for add in (0.1, 0.1, 0.1))
    fallback = Fallback(base=0.0, rules=rules, review_at=0.3)
    assert 0.1 + 0.1 + 0.1 != 0.3
    assert fallback.thresholds.action(CompiledFallback(fallback, ("x",)).score(np.array([[1.0]]))[0]) == Action.REVIEW


def test_points_may_lead_to_a_challenge():
    rules = (Rule("x > 0", 0.2, "some"), Rule("x > 1", 0.2, "much"))
    fallback = Fallback(base=0.0, rules=rules, challenge_at=0.2, review_at=0.4)
    scores = CompiledFallback(fallback, ("x",)).score(np.array([[0.0], [1.0], [2.0]]))
    assert [fallback.thresholds.action(one) for one in scores] == [Action.APPROVE, Action.CHALLENGE, Action.REVIEW]


def test_it_has_thresholds_of_its_own():
    assert Fallback().thresholds == Thresholds(review=0.35, block=0.75)
    assert VELOCITY.thresholds == Thresholds(review=0.35, block=None)
    assert not Fallback().can_block
    assert Fallback(base=1.0).can_block
    assert Fallback(rules=VELOCITY_RULES).can_block
    assert not VELOCITY.can_block


def test_it_goes_through_json_unchanged():
    assert msgspec.json.decode(msgspec.json.encode(VELOCITY), type=Fallback) == VELOCITY
    assert msgspec.convert(msgspec.to_builtins(VELOCITY), Fallback) == VELOCITY
    assert msgspec.convert({}, Fallback) == Fallback()


def test_rules_of_an_older_bundle_are_read():
    old = b"""{"rules": [{"when": [{"feature": "amount", "op": ">", "value": 2500},
        {"feature": "min", "op": "<=", "value": -0.5}], "add": 0.18, "reason": "large"}]}"""
    found = msgspec.json.decode(old, type=Fallback)
    assert found.rules == (Rule("amount > 2500.0 and `min` <= -0.5", 0.18, "large"),)
    assert CompiledFallback(found, ("amount", "min")).score(np.array([[3000.0, -1.0], [3000.0, 0.0]])).tolist() == [
        0.23,
        0.05,
    ]


@pytest.mark.parametrize("text", ['{"floor": 0}', '{"rules": [{"when": [], "add": 1, "reason": "", "if": 0}]}'])
def test_an_unknown_field_is_refused(text):
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(text, type=Fallback)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: VELOCITY.check(("amount",)), "'many payments within a day': there is no txn_count_24h"),
        (lambda: Rule("", 0.1, "always"), "'always' has no condition"),
        (lambda: Rule((), 0.1, "always"), "'always' has no condition"),
        (lambda: Fallback(rules=(Rule("x >", 0.1, "half"),)).check(("x",)), "'half': here a field"),
        (lambda: Rule("x > 0.0", float("inf"), "too much"), "'too much' adds inf"),
        (lambda: Fallback(base=1.5), "base"),
        (lambda: Fallback(review_at=-0.1), "review_at"),
        (lambda: Fallback(review_at=0.8), "at most block_at"),
        (lambda: Fallback(challenge_at=0.5), r"challenge_at \(0.5\) must be from 0 to review_at \(0.35\)"),
        (lambda: Fallback(challenge_at=-0.5), "challenge_at"),
    ],
)
def test_rules_that_cannot_work_say_why(make, text):
    with pytest.raises(InvalidDefinition, match=text):
        make()


def test_a_score_of_nothing_is_never_below_nothing():
    rules = (Rule("a > 0", -0.1, "some"), Rule("a > 0", -0.2, "more"))
    scores = CompiledFallback(Fallback(base=0.3, rules=(*rules, Rule("a <= 0", -0.3, "all"))), ("a",)).score(
        np.array([[1.0], [0.0]])
    )
    assert [math.copysign(1, score) for score in scores] == [1, 1]
    assert scores.tolist() == [0, 0]
