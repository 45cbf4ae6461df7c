"""The gate: each demand is judged by what was found, and what is not known is neither passed nor failed."""

import msgspec
import numpy as np
import polars as pl
import pytest

from sentinel.model.bundle import read_manifest
from sentinel.policy.costs import Costs
from sentinel.policy.promotion_policy import policy_of
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds
from sentinel.train.figures.compare import compare
from sentinel.train.figures.costs import cost_curve, cost_of, cost_per_transaction
from sentinel.train.judging.gate import WITHOUT_DATA, Evidence, ShadowFacts, judge
from sentinel.train.rows.dataset import NEWEST
from sentinel.train.rows.measured import Measured

N = 3_000
RNG = np.random.default_rng(3)
LABELS = (RNG.random(N) < 0.05).astype(np.int8)
SCORES = np.clip(RNG.normal(0.1, 0.05, N) + 0.3 * LABELS * RNG.random(N), 0, 1).astype(np.float32)
AMOUNTS = np.round(RNG.lognormal(3, 1, N), 2)
CARDS = RNG.integers(0, 400, N).astype(np.uint64)
THRESHOLDS = Thresholds(0.22, 0.35)
DAY_US = 86_400_000_000


def rows(scores=SCORES):
    channels = pl.DataFrame({"channel": [("web", "chip")[int(one)] for one in CARDS % 2]})
    return Measured(
        np.zeros((N, 1), np.float32), scores, LABELS, CARDS, AMOUNTS, np.arange(N), channels, np.arange(N), "a file",
        0, 0, 0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def manifest(shop_home):
    return read_manifest(shop_home / "models" / "v1")


def evidence(manifest, **other):
    given = {
        "manifest": manifest, "thresholds": THRESHOLDS, "now_us": manifest.training.get(NEWEST, 0) + 10 * DAY_US,
        "measured": rows(), "comparison": compared(SCORES), "latency_us": 2.0, "shadow": ShadowFacts(5_000, 0.97),
    }  # fmt: skip
    return Evidence(**given | other)


def compared(challenger):
    both = rows(), rows(challenger)
    return compare(("v1", "v2"), both, [(0.22, None), (0.22, None)])


def status(manifest, policy, gate="promote", **other):
    return [one.status for one in judge(policy_of(policy), evidence(manifest, **other), gate)]


NOISE = RNG.random(N).astype(np.float32)


@pytest.mark.parametrize(
    ("good", "bad", "other"),
    [
        ({"min_pr_auc_val": 0.3}, {"min_pr_auc_val": 0.99}, {}),
        ({"min_roc_auc_val": 0.6}, {"min_roc_auc_val": 0.99}, {}),
        ({"min_frauds": int(LABELS.sum())}, {"min_frauds": int(LABELS.sum()) + 1}, {}),
        (
            {"min_recall_at_fpr": {"fpr": 0.05, "recall": 0.2}},
            {"min_recall_at_fpr": {"fpr": 0.001, "recall": 0.95}},
            {},
        ),
        ({"max_cost": {"per_transaction": 9}}, {"max_cost": {"per_transaction": 0.001}}, {}),
        ({"max_calibration_error": 0.5}, {"max_calibration_error": 0.0001}, {}),
        ({"max_latency_us": 2}, {"max_latency_us": 1.9}, {}),
        ({"max_age": "10d"}, {"max_age": "9d"}, {}),
        ({"segments": [{"by": "channel", "min_pr_auc_val": 0.1}]}, {"segments": [{"by": "channel", "min_pr_auc_val": 0.99}]}, {}),
        (
            {"segments": [{"by": "amount", "min_pr_auc_val": 0.01, "min_frauds": 5}]},
            {"segments": [{"by": "amount", "min_recall_at_fpr": {"fpr": 0.01, "recall": 1.0}, "min_frauds": 5}]},
            {},
        ),
        (
            {"min_shadow_agreement": {"agreement": 0.97, "min_compared": 5_000}},
            {"min_shadow_agreement": {"agreement": 0.98}},
            {},
        ),
    ],
)  # fmt: skip
def test_each_demand_can_be_met_and_missed(manifest, good, bad, other):
    assert status(manifest, good, **other) == ["passed"]
    assert status(manifest, bad, **other) == ["failed"]


def test_a_certificate_is_looked_at_and_not_believed(manifest):
    assert status(manifest, {"require_certificate": True}) == ["passed"]
    off = msgspec.structs.replace(manifest.certificate, largest_on_missing=1e-3)
    assert status(msgspec.structs.replace(manifest, certificate=off), {"require_certificate": True}) == ["failed"]


def test_the_champion_is_beaten_only_for_certain_and_not_by_much(manifest):
    worse, same = compared(NOISE), compared(SCORES)
    both = {"not_worse_than_champion": True, "max_loss_to_champion": 0.02}
    assert status(manifest, both, comparison=same) == ["passed", "passed"]
    assert status(manifest, both, comparison=worse) == ["failed", "failed"]
    shaky = compared(np.clip(SCORES + RNG.normal(0, 0.01, N), 0, 1).astype(np.float32))
    assert shaky.average_precision.difference.low < -0.001 < 0 < shaky.average_precision.difference.high + 0.2
    assert status(manifest, {"max_loss_to_champion": 0.0001}, comparison=shaky) == ["failed"]


def test_frauds_are_counted_on_the_rows_that_are_compared_too(manifest):
    few = msgspec.structs.replace(compared(SCORES), frauds=10)
    (found,) = judge(policy_of({"min_frauds": 20}), evidence(manifest, comparison=few), "register")
    assert (found.status, found.found) == ("failed", "10 on the rows that are compared with v1")


def test_what_is_not_known_is_missing(manifest):
    demands = {
        "min_recall_at_fpr": {"fpr": 0.01, "recall": 0}, "max_cost": {"per_transaction": 9}, "max_latency_us": 9,
        "not_worse_than_champion": True, "segments": [{"by": "channel", "min_pr_auc_val": 0}],
        "min_shadow_agreement": {"agreement": 0},
    }  # fmt: skip
    nothing = {"measured": None, "comparison": WITHOUT_DATA, "latency_us": WITHOUT_DATA, "shadow": "no shadow"}
    assert set(status(manifest, demands, **nothing)) == {"missing"}
    assert status(manifest, demands, "register", **nothing).count("missing") == 5
    assert status(manifest, {"min_shadow_agreement": {"agreement": 0}}, shadow=ShadowFacts(999, 1.0)) == ["missing"]
    too_few = {"segments": [{"by": "channel", "min_pr_auc_val": 0.99, "min_frauds": N}]}
    assert status(manifest, too_few) == ["missing"], "a floor that nothing stood on"
    bare = msgspec.structs.replace(manifest, metrics={}, training={})
    assert status(bare, {"min_pr_auc_val": 0, "max_age": "1d"}, measured=None) == ["missing", "missing"]


def test_the_figures_of_the_manifest_are_enough_for_the_two_fields(manifest):
    found = judge(
        policy_of({"min_pr_auc_val": 0.1, "min_roc_auc_val": 0.5}), evidence(manifest, measured=None), "promote"
    )
    assert [one.status for one in found] == ["passed", "passed"]
    assert found[0].found == f"{manifest.metrics['average_precision']['value']:.6g}"


@pytest.mark.parametrize("value", ["inf", "1", float("inf"), float("nan"), None, [1.0]])
def test_a_figure_that_is_no_number_is_missing(manifest, value):
    for figure in (value, {"value": value}):
        odd = msgspec.structs.replace(manifest, metrics={"average_precision": figure})
        assert status(odd, {"min_pr_auc_val": 0.5}, measured=None) == ["missing"]


def test_a_model_of_tomorrow_is_not_fresh(manifest):
    for days, wanted in ((0.9, "passed"), (2, "failed"), (20_000, "failed")):
        ahead = msgspec.structs.replace(manifest, training={**manifest.training, NEWEST: int(days * DAY_US)})
        assert status(ahead, {"max_age": "30d"}, now_us=0) == [wanted]


def test_registering_does_not_ask_what_it_did_as_a_shadow(manifest):
    policy = {"min_frauds": 1, "min_shadow_agreement": {"agreement": 1.0}}
    assert status(manifest, policy) == ["passed", "failed"]
    assert status(manifest, policy, "register") == ["passed"]


def test_costs_are_summed_row_by_row():
    costs = policy_of({"max_cost": {"per_transaction": 1, "false_alarm": 7, "review": 2}}).max_cost.costs
    levels = THRESHOLDS.levels(SCORES.astype(np.float64))
    by_hand = 0.0
    for score, label, amount in zip(SCORES, LABELS, AMOUNTS, strict=True):
        action = THRESHOLDS.action(float(score))
        by_hand += amount if action == Action.APPROVE and label else 0
        by_hand += 7 if action == Action.BLOCK and not label else 0
        by_hand += 2 if action == Action.REVIEW else 0
    assert cost_of(levels, LABELS, AMOUNTS, costs) == pytest.approx(by_hand)
    assert cost_per_transaction(SCORES, LABELS, AMOUNTS, THRESHOLDS, costs) == pytest.approx(by_hand / N)
    fixed = policy_of({"max_cost": {"per_transaction": 1, "missed_fraud": 500}}).max_cost.costs
    missed = int(((levels == ACTIONS.index(Action.APPROVE)) & (LABELS == 1)).sum())
    assert cost_of(levels, LABELS, AMOUNTS, fixed) == 500 * missed


def test_the_cost_curve_is_the_cost_of_each_threshold():
    scores = np.round(SCORES, 2)
    thresholds, costs = cost_curve(scores, LABELS, AMOUNTS, Costs(false_alarm=7.0))
    assert costs[0] == pytest.approx(AMOUNTS[LABELS == 1].sum())
    for n in range(0, len(thresholds), 5):
        alarms = scores >= np.float32(thresholds[n]) if n else np.zeros(N, bool)
        assert costs[n] == pytest.approx(AMOUNTS[(LABELS == 1) & ~alarms].sum() + 7 * (alarms & (LABELS == 0)).sum())
