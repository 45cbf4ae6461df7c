import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.policy.experiment import (
    Guardrails,
    Sums,
    Tally,
    check_guardrails,
    compare,
    estimate_design_effect,
    excess,
    mean_interval,
    rate_interval,
    variant_of,
)
from sentinel.policy.thresholds import Action

percents = st.floats(0, 100)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.binary(max_size=40)
CARDS = [f"card-{i}" for i in range(20_000)]


@st.composite
def tallies(draw):
    known = [draw(st.integers(0, 10_000)) for _ in range(3)]
    decisions = draw(st.integers(0, 100_000))
    blocked = draw(st.integers(0, decisions))
    costs = draw(st.lists(st.integers(0, 500), max_size=20))
    return Tally(
        decisions=decisions,
        blocked=blocked,
        reviewed=draw(st.integers(0, decisions - blocked)),
        errors=draw(st.integers(0, decisions)),
        late=draw(st.integers(0, decisions)),
        outcomes_known=sum(known) + len(costs),
        flagged_fraud=known[0],
        flagged_legitimate=known[1],
        missed_fraud=known[2],
        cost_sum=float(sum(costs)),
        cost_squares=float(sum(cost**2 for cost in costs)),
    )


def differences(comparison):
    return [getattr(comparison, name) for name in comparison.__struct_fields__]


# who is where


@given(keys, st.text("abc-1", max_size=10), percents)
def test_an_entity_stays_in_its_variant(key, experiment, split):
    assert variant_of(key, experiment, split) == variant_of(key, experiment, split)


def test_a_variant_is_the_same_on_every_machine():
    assert "".join(variant_of(f"card-{i}", "spring", 50) for i in range(16)) == "bbbabbabaaabaaab"


@given(keys, percents, percents)
def test_raising_the_split_moves_entities_only_from_a_to_b(key, one, other):
    before, after = (variant_of(key, "spring", split) for split in sorted((one, other)))
    assert (before, after) != ("b", "a")


@given(keys)
def test_the_ends_of_the_split_hold_everybody(key):
    assert variant_of(key, "spring", 0) == "a"
    assert variant_of(key, "spring", 100) == "b"


def test_a_text_and_its_bytes_are_one_entity():
    assert all(variant_of(card, "spring", 37) == variant_of(card.encode(), "spring", 37) for card in CARDS[:500])


@pytest.mark.parametrize("split", [1, 10, 33.3, 50, 90])
def test_the_share_in_b_is_close_to_the_split(split):
    share = sum(variant_of(card, "spring", split) == "b" for card in CARDS) / len(CARDS)
    deviation = math.sqrt(split / 100 * (1 - split / 100) / len(CARDS))
    assert abs(share - split / 100) < 4 * deviation


@pytest.mark.parametrize("other", ["summer", "spring2", "spring ", ""])
def test_two_experiments_split_independently(other):
    both = sum(variant_of(card, "spring", 30) == "b" == variant_of(card, other, 30) for card in CARDS) / len(CARDS)
    assert abs(both - 0.09) < 4 * math.sqrt(0.09 * 0.91 / len(CARDS))


@pytest.mark.parametrize("split", [-1, 100.5, math.nan])
def test_an_impossible_split_is_refused(split):
    with pytest.raises(InvalidDefinition, match="between 0 and 100"):
        variant_of("card-1", "spring", split)


# what is counted


def test_decisions_are_counted_by_action_latency_and_failure():
    tally = Tally()
    tally.note_decision(Action.APPROVE, latency_us=1_000, deadline_us=5_000)
    tally.note_decision(Action.REVIEW, latency_us=5_000, deadline_us=5_000)
    tally.note_decision(Action.BLOCK, latency_us=6_000, deadline_us=5_000, failed=True)
    tally.note_decision(Action.CHALLENGE, latency_us=0, deadline_us=5_000)
    assert tally == Tally(
        decisions=4,
        challenged=1,
        reviewed=1,
        blocked=1,
        errors=1,
        latency_us_sum=12_000,
        latency_us_squares=62e6,
        late=1,
    )


def test_a_challenge_is_an_alarm():
    a, b = Tally(decisions=100, reviewed=10, blocked=5), Tally(decisions=100, challenged=20, reviewed=10, blocked=5)
    assert (compare(a, b).flag_rate.a, compare(a, b).flag_rate.b) == (0.15, 0.35)
    assert compare(a, b).block_rate.difference == 0


@pytest.mark.parametrize(
    ("action", "fraud", "cost", "counted"),
    [
        (Action.APPROVE, True, 80.0, "missed_fraud"),
        (Action.APPROVE, False, 0.0, None),
        (Action.CHALLENGE, True, (1 - 0.9) * 80.0 + 0.1, "flagged_fraud"),
        (Action.CHALLENGE, False, 0.05 * 5.0 + 0.1, "flagged_legitimate"),
        (Action.REVIEW, True, 0.0, "flagged_fraud"),
        (Action.BLOCK, False, 5.0, "flagged_legitimate"),
    ],
)
def test_an_outcome_costs_what_it_should(action, fraud, cost, counted):
    tally = Tally()
    tally.note_outcome(action, fraud=fraud, amount=80.0, false_alarm_cost=5.0)
    expected = Tally(outcomes_known=1, cost_sum=cost, cost_squares=cost**2)
    assert tally == (msgspec.structs.replace(expected, **{counted: 1}) if counted else expected)


@pytest.mark.parametrize("amount", [-1.0, math.nan, math.inf])
def test_an_impossible_cost_is_refused_and_leaves_no_trace(amount):
    tally = Tally()
    with pytest.raises(InvalidInput, match="amount"):
        tally.note_outcome(Action.APPROVE, fraud=True, amount=amount, false_alarm_cost=5.0)
    assert tally == Tally()


@given(tallies(), tallies(), tallies())
def test_tallies_add_in_any_order(one, two, three):
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Tally() == one


@given(tallies())
def test_a_tally_survives_as_json(tally):
    assert msgspec.json.decode(msgspec.json.encode(tally), type=Tally) == tally


def test_an_unknown_or_negative_counter_is_refused():
    for text in (b'{"seen": 1}', b'{"blocked": -1}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=Tally)


# which differences are real


@given(tallies(), tallies())
def test_comparing_the_other_way_round_turns_every_sign(a, b):
    turned = {"a higher": "b higher", "b higher": "a higher", "undecided": "undecided"}
    for there, back in zip(differences(compare(a, b)), differences(compare(b, a)), strict=True):
        assert (there.a, there.b, there.verdict) == (back.b, back.a, turned[back.verdict])
        for one, other in ((there.difference, back.difference), (there.low, back.high), (there.high, back.low)):
            assert one is other is None or one == -other


@given(tallies(), tallies())
def test_an_interval_holds_its_estimate_and_a_verdict_leaves_out_zero(a, b):
    for found in differences(compare(a, b)):
        if found.low is None:
            assert found.verdict == "undecided"
        else:
            assert found.low <= found.difference <= found.high
            assert (found.verdict == "undecided") == (found.low <= 0 <= found.high)


@given(tallies(), tallies())
def test_less_error_or_likeness_within_entities_only_widens(a, b):
    for wide in (compare(a, b, alpha=0.01), compare(a, b, design_effect=3.0)):
        for narrow, other in zip(differences(compare(a, b)), differences(wide), strict=True):
            if other.low is not None:
                assert other.low <= narrow.low <= narrow.high <= other.high


def test_without_counts_nothing_is_said():
    for found in differences(compare(Tally(), Tally())):
        assert (found.a, found.b, found.difference, found.low, found.high) == (None,) * 5
        assert found.verdict == "undecided"
    assert check_guardrails(Tally(), Tally(), Guardrails()) is None


def test_a_single_decision_decides_nothing():
    a = Tally(decisions=100_000, blocked=100)
    assert compare(a, Tally(decisions=1, blocked=1)).block_rate.verdict == "undecided"
    assert compare(a, Tally(decisions=29, blocked=29)).block_rate.low is None


def test_nothing_ever_blocked_is_undecided():
    found = compare(Tally(decisions=10_000), Tally(decisions=10_000)).block_rate
    assert (found.difference, found.verdict) == (0.0, "undecided")


def test_one_huge_fraud_does_not_decide_costs():
    a, b = (Tally(outcomes_known=5_000, cost_sum=500.0, cost_squares=2_500.0) for _ in range(2))
    b.note_outcome(Action.APPROVE, fraud=True, amount=1e6, false_alarm_cost=5.0)
    assert compare(a, b).mean_cost.verdict == "undecided"


def test_clear_differences_are_found():
    a = Tally(
        decisions=50_000, reviewed=500, blocked=500, outcomes_known=50_000, flagged_fraud=800, flagged_legitimate=200
    )
    b = Tally(
        decisions=50_000, reviewed=900, blocked=900, outcomes_known=50_000, flagged_fraud=600, flagged_legitimate=900
    )
    a.cost_sum, a.cost_squares, b.cost_sum, b.cost_squares = 1_000.0, 5_000.0, 4_500.0, 22_500.0
    assert [d.verdict for d in differences(compare(a, b))] == ["b higher", "b higher", "a higher", "b higher"]
    assert compare(a, b).precision.a == 0.8


def test_the_interval_is_the_published_one():
    """Waudby-Smith et al., theorem 2.2, with rho in units of one observation's standard deviation."""
    a = b = Sums(np.array([1000.0]), np.array([300.0]), np.array([300.0]))
    low, high = rate_interval(a, b, 0.05)
    variance, t = 0.3 * 0.7, 1000  # of each observation; the difference has twice that over t
    sigma = math.sqrt(2 * variance)
    rho = math.log(2) * variance / sigma
    radius = sigma * math.sqrt(2 * (t * rho**2 + 1) / (t**2 * rho**2) * math.log(math.sqrt(t * rho**2 + 1) / 0.05))
    assert high[0] == pytest.approx(radius, rel=1e-12)
    assert low[0] == -high[0]


@pytest.mark.parametrize(("alpha", "effect"), [(0.0, 1.0), (1.0, 1.0), (math.nan, 1.0), (0.05, 0.5), (0.05, math.inf)])
def test_impossible_levels_are_refused(alpha, effect):
    with pytest.raises(InvalidDefinition):
        compare(Tally(), Tally(), alpha, effect)
    with pytest.raises(InvalidDefinition):
        check_guardrails(Tally(), Tally(), Guardrails(), alpha, effect)


def walks(rng, rate, split, steps=2_000, every=20):
    """300 experiments, looked at once in `every` decisions."""
    seen_b = rng.binomial(every, split, (300, steps))
    sums = []
    for seen in (every - seen_b, seen_b):
        hits = np.cumsum(rng.binomial(seen, rate), 1, dtype=float)
        sums.append(Sums(np.cumsum(seen, 1, dtype=float), hits, hits))
    return sums


@pytest.mark.parametrize("split", [0.5, 0.1])
@pytest.mark.parametrize("rate", [0.002, 0.02, 0.5])
def test_looking_all_the_time_rarely_finds_what_is_not_there(rate, split):
    low, high = rate_interval(*walks(np.random.default_rng(7), rate, split), 0.05)
    wrong = ((low > 0) | (high < 0)).any(axis=1).mean()
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_looking_all_the_time_rarely_finds_costs_that_are_not_there():
    rng = np.random.default_rng(8)
    sums = []
    for _ in range(2):
        costs = np.where(rng.random((200, 6_000)) < 0.02, rng.lognormal(3.5, 1.6, (200, 6_000)), 0.0)
        seen = np.broadcast_to(np.arange(1.0, 6_001), costs.shape)
        sums.append(Sums(seen, np.cumsum(costs, 1), np.cumsum(costs**2, 1)))
    low, high = mean_interval(*sums, 0.05)
    assert ((low > 0) | (high < 0)).any(axis=1).mean() <= 0.05


def test_a_challenger_at_the_limit_is_rarely_aborted():
    rng = np.random.default_rng(9)
    a, b = walks(rng, 0.01, 0.5)
    worse = np.cumsum(rng.binomial(np.diff(b.seen, axis=1, prepend=0).astype(int), 0.02), 1, dtype=float)
    for bound in ((1.0, 0.01), (2.0, 0.0), (0.0, 0.02)):
        beyond = excess(a, Sums(b.seen, worse, worse), tuple(map(np.array, bound)), 0.05)
        assert (beyond > 0).any(axis=1).mean() <= 0.05


def test_the_design_effect_is_about_one_for_independent_and_high_for_alike_transactions():
    rng = np.random.default_rng(10)
    independent = [Tally(decisions=1_000, blocked=int(hits)) for hits in rng.binomial(1_000, 0.02, 60)]
    alike = [Tally(decisions=1_000, blocked=10 * int(hits)) for hits in rng.binomial(100, 0.02, 60)]
    assert 1.0 <= estimate_design_effect(independent) < 1.6
    assert 6 < estimate_design_effect(alike) < 15
    assert estimate_design_effect([Tally(), Tally()]) == 1.0
    with pytest.raises(InvalidDefinition, match="30 or more"):
        estimate_design_effect([Tally()])


# when the experiment must end

CHAMPION = Tally(decisions=2_000, blocked=20, errors=4, late=10)


def test_an_equal_challenger_goes_on():
    assert check_guardrails(CHAMPION, CHAMPION, Guardrails()) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"errors": 120}, "too many failed model calls: b 120 of 2,000 (6.00%), a 4 of 2,000 (0.20%); allowed is at most 1.00% above a"),
        ({"blocked": 95}, "too many blocked transactions: b 95 of 2,000 (4.75%), a 20 of 2,000 (1.00%); allowed is at most 2 times"),
        ({"late": 150}, "too many decisions above the deadline: b 150 of 2,000 (7.50%)"),
    ],
)  # fmt: skip
def test_a_bad_challenger_is_aborted_with_the_numbers(changed, reason):
    challenger = msgspec.structs.replace(CHAMPION, **changed)
    assert check_guardrails(CHAMPION, challenger, Guardrails()).startswith(reason)


def test_blocking_too_many_needs_no_champion():
    challenger = Tally(decisions=1_000, blocked=150)
    reason = check_guardrails(Tally(), challenger, Guardrails())
    assert reason.startswith(
        "too many blocked transactions: b 150 of 1,000 (15.00%), a 0 of 0 (0.00%); allowed is at most 5.00%"
    )


def test_a_better_challenger_is_not_aborted():
    champion = Tally(decisions=50_000, blocked=2_000, errors=5_000, late=5_000)
    assert check_guardrails(champion, Tally(decisions=50_000), Guardrails()) is None


def test_before_the_minimum_only_hopeless_challengers_are_aborted():
    assert check_guardrails(CHAMPION, Tally(decisions=199, errors=198), Guardrails()) is None
    assert check_guardrails(CHAMPION, Tally(decisions=49, errors=49), Guardrails()) is None
    reason = check_guardrails(Tally(), Tally(decisions=50, errors=50), Guardrails())
    assert reason == "every one of the first 50 model calls of b failed"
