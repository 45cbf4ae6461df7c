"""A rule that has gone wrong is told from one that does its work."""

import numpy as np
import pytest

from sentinel.policy.deployment import RulesInForce
from sentinel.policy.rules.book import Book, BookRule, Deed
from sentinel.serve.rule_counts import FEWEST, WINDOW, RuleCounts


def rules(band=(0.01, 0.02), draft=1, state="on", bands=None, demoted=None):
    one = BookRule(name="large", when="true", do=Deed.BLOCK, reason="x", band=band, state=state)
    return RulesInForce(
        draft=draft, book=Book((one,), demote_at=5.0), author="a", applied_by="b", note="", applied_at="", bands=bands or {},
        demoted=demoted or {},
    )  # fmt: skip


def counted(share, n, seed=1, draft=1, counts=None):
    counts, rng = counts or RuleCounts(), np.random.default_rng(seed)
    for begin in range(0, n, 64):
        size = min(64, n - begin)
        counts.add(draft, ("large",), rng.random((size, 1)) < share)
    return counts


def test_one_that_holds_for_far_more_than_its_band_is_named_with_the_figures():
    name, why = counted(0.3, 400).runaway(rules())
    assert name == "large"
    assert "of 400 decisions" in why
    assert "more than 5 times the highest share of its band (2.00%)" in why


@pytest.mark.parametrize("seed", range(30))
def test_one_at_its_limit_is_left_alone(seed):
    counts = RuleCounts()
    for n in range(20):
        counted(0.09, 100, 100 * seed + n, counts=counts)
        assert counts.runaway(rules()) is None


def test_little_says_nothing_and_neither_does_a_shadow_another_draft_or_a_rule_without_a_band():
    assert counted(1.0, FEWEST - 1).runaway(rules()) is None
    gone_wrong = counted(0.5, 500)
    assert gone_wrong.runaway(rules()) is not None
    assert gone_wrong.runaway(rules(bands={"large": (0.0, 0.4)})) is not None, "what is declared counts"
    for calm in (
        rules(state="shadow"), rules(draft=2), rules(band=None), rules(band=None, bands={"large": (0.1, 0.2)}),
        rules(demoted={"large": "x"}),
    ):  # fmt: skip
        assert gone_wrong.runaway(calm) is None
    assert gone_wrong.runaway(rules(band=None, bands={"large": (0.0, 0.0)})) is not None


def test_a_window_begins_anew_so_that_a_change_after_long_is_seen_and_a_draft_counts_from_nothing():
    counts = counted(0.01, 50 * WINDOW)
    assert counts.runaway(rules()) is None
    counted(0.5, 2 * WINDOW, counts=counts)
    assert counts.runaway(rules()) is not None
    assert counts.decisions == 52 * WINDOW
    counted(0.0, 10, draft=2, counts=counts)
    assert (counts.decisions, counts.hits) == (10, {"large": 0})
