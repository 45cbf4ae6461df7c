"""What a rollback of rules leads to: the draft before, no rules before the first, and nowhere where that is not known."""

import pytest

from sentinel.errors import DeploymentRefused
from sentinel.policy.deployment import NO_DRAFT, REMEMBERED, Deployment, RulesInForce
from sentinel.policy.rules.book import Book


def book(draft, **more):
    return RulesInForce(draft=draft, book=Book(), author="a", applied_by="b", note="", applied_at="", **more)


def test_each_rollback_leads_one_further_back_and_the_last_to_no_rules():
    deployment = Deployment()
    for draft in (1, 2, 3):
        deployment = deployment.with_rules(book(draft))
    for wanted in (2, 1, NO_DRAFT):
        assert deployment.rules.back_to == wanted
        deployment = deployment.with_rules_back(book(wanted))
        assert deployment.rules.draft == wanted
    assert deployment.rules.back_to is None
    assert deployment.with_rules(book(4)).rules.back_to == NO_DRAFT


def test_the_first_book_of_a_log_from_before_there_was_a_way_back_has_one():
    assert Deployment(rules=book(1)).with_rules_back(book(NO_DRAFT)).rules.draft == NO_DRAFT


def test_where_it_is_forgotten_what_was_before_nobody_guesses():
    deployment = Deployment()
    for draft in range(1, REMEMBERED + 3):
        deployment = deployment.with_rules(book(draft))
    while deployment.rules.before:
        deployment = deployment.with_rules_back(book(deployment.rules.before[-1], earlier=7))
    assert deployment.rules.draft == 2
    assert deployment.rules.back_to is None
    with pytest.raises(DeploymentRefused, match="not what was in force before"):
        deployment.with_rules_back(book(NO_DRAFT))
