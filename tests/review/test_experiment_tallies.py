"""An experiment's tallies, which follow the log, are those of counting by hand, from wherever they begin."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.policy.deployment import Experiment
from sentinel.policy.experiment import Tally, compare
from sentinel.policy.model_call import MODEL_FAULTS, OVERLOADED
from sentinel.policy.thresholds import Action
from sentinel.record.log import Kind
from sentinel.review.experiment_tallies import GROUPS, ExperimentTallies
from sentinel.review.experiment_trail import MOST_POINTS, TrailKeeper

BEGAN_US = 1_750_000_000_000_000
EXPERIMENT = Experiment("e1", "v2", 50.0, "2025-06-15T15:06:40+00:00")
FAULT = min(MODEL_FAULTS)
COST = 4.0
LATENCY_US = 7  # of all that `made` makes

DECISIONS = st.fixed_dictionaries(
    {
        "card": st.sampled_from(["c1", "c2", "c3", None]),
        "amount": st.sampled_from([1.0, 2.5, 300.0]),
        "action": st.sampled_from(["approve", "review", "block"]),
        "variant": st.sampled_from(["a", "b"]),
        "experiment": st.sampled_from(["e1", "e1", "e0", None]),
        "degraded": st.sampled_from([None, FAULT, OVERLOADED]),
    }
)


@st.composite
def histories(draw):
    """Batches: of decisions, or of outcomes about some of them."""
    batches, decided = [], 0
    for _ in range(draw(st.integers(1, 8))):
        if decided and draw(st.booleans()):
            told = st.tuples(st.integers(0, decided - 1), st.booleans())
            batches.append(("outcomes", draw(st.lists(told, min_size=1, max_size=6))))
        else:
            rows = draw(st.lists(DECISIONS, min_size=1, max_size=6))
            batches.append(("decided", rows))
            decided += len(rows)
    return batches


def written(log, made, batches):
    """Write them; all decisions, with the outcomes of each in their order."""
    decisions = []
    for n, (kind, rows) in enumerate(batches):
        received_us = BEGAN_US + n
        if kind == "decided":
            named = [row | {"id": f"t{len(decisions) + i}"} for i, row in enumerate(rows)]
            position = log.write(Kind.DECIDED, len(rows), received_us, made.decided(named))
            decisions += [row | {"position": position + i, "truths": []} for i, row in enumerate(rows)]
        else:
            told = [
                {"id": f"t{which}", "is_fraud": is_fraud, "about": decisions[which]["position"]}
                for which, is_fraud in rows
            ]
            log.write(Kind.OUTCOMES, len(rows), received_us, made.outcomes(told))
            for which, is_fraud in rows:
                decisions[which]["truths"].append(is_fraud)
    return decisions


def by_hand(decisions, deadline_us):
    tallies = {"a": Tally(), "b": Tally()}
    for row in decisions:
        if row["experiment"] == "e1":
            tally, action = tallies[row["variant"]], Action(row["action"])
            tally.note_decision(action, LATENCY_US, deadline_us, failed=row["degraded"] == FAULT)
            if row["truths"]:
                tally.note_outcome(action, row["truths"][-1], row["amount"], COST)
    return tallies["a"], tallies["b"]


def assert_same(found, expected):
    """All counts are the same; costs that were taken away again differ in their last bits."""
    for one, other in zip(found, expected, strict=True):
        counts = msgspec.structs.asdict(other)
        costs = {name: pytest.approx(counts[name], abs=1e-9) for name in ("cost_sum", "cost_squares")}
        assert msgspec.structs.asdict(one) == counts | costs


def following(log, made, deadline_s=0.02, experiment=EXPERIMENT):
    return ExperimentTallies(log, experiment, made.SCHEMA, deadline_s, COST)


@settings(max_examples=80, deadline=None)
@given(batches=histories(), deadline_us=st.sampled_from([5, 9]), data=st.data())
def test_the_tallies_are_those_of_counting_by_hand(made, fake_log, batches, deadline_us, data):
    """However often they follow, and also when they begin anew in the middle."""
    log = fake_log.FakeLog()
    tallies = following(log, made, deadline_us / 1e6)
    decisions = written(log, made, batches)
    while tallies.follow():
        if data.draw(st.booleans()):
            tallies = following(log, made, deadline_us / 1e6)
    assert_same((tallies.a, tallies.b), by_hand(decisions, deadline_us))
    assert not tallies.follow()


def test_what_came_before_the_experiment_is_passed_over(made, fake_log):
    log = fake_log.FakeLog()
    row = {"variant": "b", "experiment": "e1"}
    for n, received_us in enumerate((BEGAN_US - 1, BEGAN_US, BEGAN_US + 1)):
        log.write(Kind.DECIDED, 1, received_us, made.decided([row | {"id": str(n)}]))
    tallies = following(log, made)
    tallies.follow()
    assert (tallies.a.decisions, tallies.b.decisions) == (0, 2)


def test_outcomes_of_what_was_decided_before_the_experiment_and_is_pruned_are_passed_over(made, fake_log):
    log = fake_log.FakeLog()
    for n, received_us in enumerate((BEGAN_US - 9, BEGAN_US - 8, BEGAN_US + 1)):
        log.write(Kind.DECIDED, 1, received_us, made.decided([{"id": str(n), "variant": "b", "experiment": "e1"}]))
    told = [{"id": str(n), "is_fraud": True, "about": 1 + n} for n in range(3)]
    log.write(Kind.OUTCOMES, 3, BEGAN_US + 2, made.outcomes(told))
    log.prune(2)
    tallies = following(log, made)
    tallies.follow()
    assert (tallies.b.decisions, tallies.b.outcomes_known) == (1, 1)


def test_of_several_outcomes_the_newest_counts_also_after_one_was_taken_back(made, fake_log):
    log = fake_log.FakeLog()
    row = {"id": "t", "variant": "b", "experiment": "e1", "amount": 70.0}
    log.write(Kind.DECIDED, 1, BEGAN_US, made.decided([row]))
    tallies = following(log, made)
    for is_fraud in (False, True, False, True):
        log.write(Kind.OUTCOMES, 1, BEGAN_US, made.outcomes([{"id": "t", "is_fraud": is_fraud, "about": 1}]))
        tallies.follow()
        assert (tallies.b.outcomes_known, tallies.b.missed_fraud) == (1, is_fraud)
    assert tallies.b.cost_sum == 70.0
    log.write(
        Kind.REVOKED, 1, BEGAN_US, made.revoked([{"id": "t", "about": 1, "left": False}], "operator", log.durable)
    )
    tallies.follow()
    assert (tallies.b.outcomes_known, tallies.b.missed_fraud) == (1, 0)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(DECISIONS, st.booleans(), st.sampled_from([None, True, False])), min_size=1, max_size=8))
def test_an_outcome_that_is_taken_back_counts_no_longer_and_what_stands_does(made, fake_log, rows):
    log = fake_log.FakeLog()
    named = [row | {"id": f"t{n}", "experiment": "e1"} for n, (row, _, _) in enumerate(rows)]
    begin = log.write(Kind.DECIDED, len(rows), BEGAN_US, made.decided(named))
    about = [{"id": row["id"], "about": begin + n} for n, row in enumerate(named)]
    told = [one | {"is_fraud": says} for one, (_, says, _) in zip(about, rows, strict=True)]
    log.write(Kind.OUTCOMES, len(rows), BEGAN_US, made.outcomes(told))
    left = [one if after is None else one | {"left": after} for one, (_, _, after) in zip(about, rows, strict=True)]
    before = log.durable
    gone = [row | {"truths": [] if after is None else [after]} for row, (_, _, after) in zip(named, rows, strict=True)]
    followed = following(log, made)
    followed.follow()
    log.write(Kind.REVOKED, len(rows), BEGAN_US, made.revoked(left, "operator", before))
    for tallies in (followed, following(log, made)):
        while tallies.follow():
            pass
        assert_same((tallies.a, tallies.b), by_hand(gone, 20_000))


def test_an_outcome_that_comes_after_one_was_taken_back_counts(made, fake_log):
    log = fake_log.FakeLog()
    log.write(Kind.DECIDED, 1, BEGAN_US, made.decided([{"id": "t", "variant": "b", "experiment": "e1"}]))
    log.write(Kind.OUTCOMES, 1, BEGAN_US, made.outcomes([{"id": "t", "is_fraud": True, "about": 1}]))
    log.write(Kind.REVOKED, 1, BEGAN_US, made.revoked([{"id": "t", "about": 1}], "operator", 3))
    log.write(Kind.OUTCOMES, 1, BEGAN_US, made.outcomes([{"id": "t", "is_fraud": False, "about": 1}]))
    tallies = following(log, made)
    tallies.follow()
    assert (tallies.b.outcomes_known, tallies.b.missed_fraud) == (1, 0)


def test_only_what_is_durable_counts(made, fake_log):
    log = fake_log.FakeLog(delayed=True)
    log.write(Kind.DECIDED, 1, BEGAN_US, made.decided([{"id": "t", "variant": "a", "experiment": "e1"}]))
    tallies = following(log, made)
    assert not tallies.follow()
    assert tallies.a == Tally()
    log.advance()
    assert tallies.follow()
    assert tallies.a.decisions == 1


@pytest.mark.parametrize("alike", [False, True])
def test_payments_of_one_card_that_are_alike_widen_the_intervals(made, fake_log, alike):
    """Ten payments of each card: a third of all is blocked, of each card, or all of a third of the cards."""
    log, cards = fake_log.FakeLog(), 12 * GROUPS
    for n in range(10):
        batch = [
            {"id": f"{n}-{card}", "card": f"c{card}", "variant": "b", "experiment": "e1",
             "action": "block" if (card if alike else card + n) % 3 == 0 else "approve"}
            for card in range(cards)
        ]  # fmt: skip
        log.write(Kind.DECIDED, cards, BEGAN_US, made.decided(batch))
    tallies = following(log, made)
    assert tallies.design_effect == 1.0
    tallies.follow()
    assert (tallies.design_effect > 5) == alike


@settings(max_examples=60, deadline=None)
@given(counted=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=60))
def test_the_trail_ends_with_the_comparison_as_it_is_and_stays_small(counted):
    keeper, a, b = TrailKeeper(), Tally(), Tally()
    for n, (more_a, more_b) in enumerate(counted):
        for tally, more in ((a, more_a), (b, more_b)):
            tally.decisions += more
            tally.blocked += more // 3
        if keeper.is_due(a, b):
            keeper.note(n, a, b, compare(a, b))
            newest = n, a.decisions, b.decisions, compare(a, b).block_rate
    trail = keeper.trail()
    if a.decisions + b.decisions == 0:
        assert trail.at_us == []
        return
    assert len(trail.at_us) <= MOST_POINTS + 1
    assert trail.at_us == sorted(set(trail.at_us))
    assert trail.decisions_a == sorted(trail.decisions_a)
    rate = trail.metrics["block_rate"]
    last = (trail.at_us[-1], trail.decisions_a[-1], trail.decisions_b[-1])
    assert last == newest[:3]
    assert (rate.difference[-1], rate.low[-1], rate.high[-1]) == (newest[3].difference, newest[3].low, newest[3].high)


def test_a_long_trail_is_thinned_and_still_spans_all_of_it():
    keeper, a, b = TrailKeeper(), Tally(), Tally()
    for n in range(5_000):
        a.decisions, b.decisions = a.decisions + 1, b.decisions + 1
        if keeper.is_due(a, b):
            keeper.note(n, a, b, compare(a, b))
    trail = keeper.trail()
    assert MOST_POINTS / 2 <= len(trail.at_us) <= MOST_POINTS + 1
    steps = [later - earlier for earlier, later in zip(trail.decisions_a, trail.decisions_a[1:], strict=False)]
    assert max(steps) <= 2 * max(min(steps[:-1]), 1)
    assert trail.decisions_a[0] == 1
    assert trail.decisions_a[-1] >= 5_000 - max(steps)


def test_the_tallies_leave_a_trail_of_the_log(made, fake_log):
    log = fake_log.FakeLog()
    tallies = following(log, made)
    row = {"card": "c1", "amount": 1.0, "action": "block", "experiment": "e1", "degraded": None}
    for n in range(3):
        batch = [row | {"variant": one} for one in "ab" for _ in range(20)]
        log.write(
            Kind.DECIDED, 40, BEGAN_US + n, made.decided([one | {"id": f"{n}-{i}"} for i, one in enumerate(batch)])
        )
        while tallies.follow():
            pass
        assert (tallies.trail.decisions_a[-1], tallies.trail.at_us[-1]) == (20 * (n + 1), BEGAN_US + n)
    found = compare(tallies.a, tallies.b, design_effect=tallies.design_effect).block_rate
    assert tallies.trail.metrics["block_rate"].difference[-1] == found.difference
