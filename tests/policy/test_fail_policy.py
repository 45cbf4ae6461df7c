"""The table of faults and answers, and what a detector may choose in it."""

import importlib.util
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sentinel import Detector, FailPolicy, Fallback, Policy, Schema, field
from sentinel.errors import InvalidDefinition
from sentinel.policy.fallback import Rule
from sentinel.policy.fault_matrix import CHOICE_OF, MATRIX, MEANING, Dependency, Fault, Then
from sentinel.policy.model_call import FALLBACK_ONLY
from sentinel.policy.stand_ins import CompiledFailPolicy
from sentinel.policy.thresholds import ACTIONS

RULES = Fallback(rules=(Rule("amount > 100.0", 0.5, "large"),))
DOCS = Path(__file__).parents[2] / "docs"
AMOUNT = {"schema": Schema(), "features": (field("amount"),)}


def test_every_fault_of_every_dependency_has_one_answer():
    assert [(one.dependency, one.fault) for one in MATRIX] == [(one, fault) for one in Dependency for fault in Fault]
    assert MEANING.keys() == set(Then)
    assert all(bool(one.shows) == (one.then is not Then.NEVER) for one in MATRIX)


def test_what_may_be_chosen_is_exactly_what_a_detector_can_declare():
    assert {one.then is Then.CHOSEN for one in MATRIX if one.choice} == {True}
    assert all(one.choice and one.reason for one in MATRIX if one.then is Then.CHOSEN)
    assert sorted(CHOICE_OF.values()) == sorted(FailPolicy.__struct_fields__)


@pytest.mark.parametrize("name", FailPolicy.__struct_fields__)
def test_an_answer_that_there_is_not_fails_at_the_declaration(name):
    with pytest.raises(
        InvalidDefinition, match=f"on_fault: {name} is 'aprove'; choose one of rules, approve, challenge, review"
    ):
        FailPolicy(**{name: "aprove"})
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({name: 3}, FailPolicy)


def test_a_fault_that_there_is_not_fails_at_the_declaration():
    with pytest.raises(TypeError, match="no_tmie"):
        FailPolicy(no_tmie="review")
    with pytest.raises(msgspec.ValidationError, match="no_tmie"):
        msgspec.convert({"no_tmie": "review"}, FailPolicy)


def test_a_fault_may_not_block_where_the_policy_never_does():
    never = {"policy": Policy(block_at_fpr=None), "fallback": Fallback(block_at=None)}
    assert Detector(**AMOUNT, **never, on_fault=FailPolicy(no_time="review"))
    with pytest.raises(InvalidDefinition, match="on_fault: blocks, but the policy never does"):
        Detector(**AMOUNT, **never, on_fault=FailPolicy(failed="block"))


def test_a_fault_challenges_only_where_the_policy_does():
    declared = Policy(challenge_at_fpr=0.05)
    assert Detector(**AMOUNT, policy=declared, on_fault=FailPolicy(no_time="challenge"))
    with pytest.raises(InvalidDefinition, match="on_fault: challenges, but the policy never does"):
        Detector(**AMOUNT, on_fault=FailPolicy(no_time="challenge"))


@given(
    st.sampled_from(sorted(CHOICE_OF)),
    st.sampled_from([str(action) for action in ACTIONS]),
    arrays(np.float64, (7, 1), elements=st.floats(allow_nan=True, allow_infinity=True)),
)
def test_a_fixed_action_is_that_of_every_row_and_follows_from_score_and_thresholds(reason, action, rows):
    policy = CompiledFailPolicy(FailPolicy(**{CHOICE_OF[reason]: action}), RULES, ("amount",))
    rules, is_fixed = policy.stand_in(reason)
    assert is_fixed
    assert {str(ACTIONS[level]) for level in rules.thresholds.levels(rules.score(rows))} == {action}
    others = {*CHOICE_OF, FALLBACK_ONLY, None} - {reason}
    assert not any(policy.stand_in(one).is_fixed for one in others)


def test_unless_it_is_declared_the_rules_decide():
    policy = CompiledFailPolicy(FailPolicy(), RULES, ("amount",))
    for reason in (*CHOICE_OF, FALLBACK_ONLY):
        rules, is_fixed = policy.stand_in(reason)
        assert (is_fixed, rules.score(np.array([[1.0], [101.0]])).tolist()) == (False, [0.05, 0.55])


def test_the_page_is_that_of_the_table():
    spec = importlib.util.spec_from_file_location("write_fail_policy", DOCS / "write_fail_policy.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.page() == (DOCS / "fail-policy.md").read_text(), "run docs/write_fail_policy.py docs/fail-policy.md"


def test_every_cell_has_a_test_that_brings_the_fault_about():
    files = Path(__file__).parents[1].rglob("test_faults_*.py")
    tests = "\n".join(file.read_text() for file in files)
    cells = [one for one in MATRIX if one.then is not Then.NEVER]
    missing = [
        one[:2]
        for one in cells
        if f"pytest.mark.fault(Dependency.{one.dependency.name}, Fault.{one.fault.name})" not in tests
    ]
    assert not missing
