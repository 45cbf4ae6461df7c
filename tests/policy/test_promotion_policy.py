"""The promotion policy: S2's two fields are enough, and what cannot be meant is refused with what to write."""

import pytest

from sentinel.errors import InvalidDefinition
from sentinel.policy.promotion_policy import PromotionPolicy, policy_of, read_policy

WHOLE = """
min_pr_auc_val: 0.6
min_roc_auc_val: 0.82
min_frauds: 50
min_recall_at_fpr: {fpr: 0.01, recall: 0.8}
max_cost: {per_transaction: 0.5, missed_fraud: 120, false_alarm: 5, review: 1}
max_calibration_error: 0.01
max_latency_us: 50
max_age: 90d
require_certificate: true
not_worse_than_champion: true
max_loss_to_champion: 0.02
segments:
  - {by: channel, min_pr_auc_val: 0.5, min_frauds: 10}
  - {by: amount, min_recall_at_fpr: {fpr: 0.01, recall: 0.3}}
min_shadow_agreement: {agreement: 0.95}
label_delay: 7d
"""


def test_two_fields_are_a_policy(tmp_path):
    path = tmp_path / "promotion_policy.yaml"
    path.write_text("# floors\nmin_pr_auc_val: 0.72\nmin_roc_auc_val: 0.82\n")
    assert read_policy(path) == PromotionPolicy(min_pr_auc_val=0.72, min_roc_auc_val=0.82)
    assert read_policy(path).demands == ("min_pr_auc_val", "min_roc_auc_val")


def test_every_field_is_read_and_demands_something_but_the_delay(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(WHOLE)
    policy = read_policy(path)
    assert policy.demands == PromotionPolicy.__struct_fields__[:-1]
    assert (policy.segments[1].min_recall_at_fpr.recall, policy.max_cost.missed_fraud) == (0.3, 120)
    assert (policy.min_shadow_agreement.min_compared, policy.label_delay) == (1000, "7d")


def test_nothing_is_a_demand_too():
    assert policy_of({"max_loss_to_champion": 0, "max_latency_us": 0.0}).demands == (
        "max_latency_us",
        "max_loss_to_champion",
    )


def test_the_fingerprint_is_of_what_is_demanded_and_not_of_the_text(tmp_path):
    path, found = tmp_path / "p.yaml", []
    for text in ("min_frauds: 5\nmin_pr_auc_val: 0.7", "{min_pr_auc_val: 0.70, min_frauds: 5}  # once more"):
        path.write_text(text)
        found.append(read_policy(path).sha256)
    assert found[0] == found[1] != PromotionPolicy(min_pr_auc_val=0.7, min_frauds=6).sha256


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min_pr_auc: 0.7", "no field 'min_pr_auc'; the nearest is min_pr_auc_val"),
        ("max_cost: {missed: 3}", "max_cost has no field 'missed'; the nearest is missed_fraud"),
        ("segments: [{buy: channel}]", r"segments\[0\] has no field 'buy'; the nearest is by"),
        (
            "segments: [{by: channel, min_recall_at_fpr: {fpr: 0.1, recal: 1}}]",
            "min_recall_at_fpr has no field 'recal'; the nearest is recall",
        ),
        ("segments: [{by: channel}]", "segments by channel demand nothing"),
        ("1: 2", "no field '1'"),
        ("", "has no fields"),
        ("[1]", "has no fields"),
        ("{}", "demands nothing"),
        ("label_delay: 7d", "demands nothing"),
        ("require_certificate: false", "demands nothing"),
        ("min_pr_auc_val: high", "min_pr_auc_val"),
        ("min_pr_auc_val: 1.1", "min_pr_auc_val"),
        ("min_pr_auc_val: .nan", "min_pr_auc_val"),
        ("min_frauds: -1", "min_frauds"),
        ("max_age: 3 days", "max_age"),
        ("max_cost: {per_transaction: 1, missed_fraud: amont}", "missed_fraud"),
        ("a: [", "is no YAML"),
        ("a: !!python/object:os.system x", "is no YAML"),
        ("min_frauds: 5\nmin_frauds: 6", "min_frauds stands there twice"),
        ("max_latency_us: .inf", "max_latency_us is inf, which demands nothing"),
        ("max_cost: {per_transaction: .inf}", "max_cost: per_transaction is inf, which demands nothing"),
        ("segments: &a [*a]", r"\*a stands for what is written elsewhere"),
        ("min_recall_at_fpr:\n- &b0 [1]\n" + "".join(f"- &b{n} [{f'*b{n - 1},' * 9}]\n" for n in range(1, 40)), "write it out"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path, text, said):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(InvalidDefinition, match=said):
        read_policy(path)


def test_bytes_that_are_no_text_and_files_that_are_none(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xff\x00\xfe")
    with pytest.raises(InvalidDefinition, match="is no YAML"):
        read_policy(path)
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(InvalidDefinition, match="larger than 1 MB"):
        read_policy(path)
    with pytest.raises(FileNotFoundError):
        read_policy(tmp_path / "none.yaml")
    with pytest.raises(InvalidDefinition, match="has no fields"):
        policy_of(None)
