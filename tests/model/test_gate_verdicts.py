"""The record of the gate: a pass is of one manifest, one policy and one champion, and the newest verdict counts."""

import pytest

from sentinel.errors import DeploymentRefused
from sentinel.model.gate_verdicts import RECORD_FILE, GateVerdicts, Verdict, check_may_promote
from sentinel.policy.promotion_policy import PromotionPolicy

POLICY = PromotionPolicy(min_pr_auc_val=0.7)
MODEL = "a" * 64


@pytest.fixture
def home(tmp_path):
    (tmp_path / "promotion_policy.yaml").write_text("min_pr_auc_val: 0.7")
    return tmp_path


def verdict(**other):
    given = {
        "version": "v2", "manifest_sha256": MODEL, "policy_sha256": POLICY.sha256, "gate": "promote", "at": "today"
    }  # fmt: skip
    return Verdict(**given | other)


def refused(home, manifest=MODEL, champion="v1"):
    with pytest.raises(DeploymentRefused) as caught:
        check_may_promote(home, "v2", manifest, champion)
    return str(caught.value)


def test_without_a_policy_everything_may_be_promoted(tmp_path):
    check_may_promote(tmp_path, "v2", MODEL, None)


def test_without_a_verdict_nothing_may(home):
    assert "has not been through the gate" in refused(home)
    assert "--force --reason TEXT" in refused(home)


def test_a_pass_is_enough_for_this_manifest_and_this_policy_alone(home):
    GateVerdicts(home).note(verdict())
    check_may_promote(home, "v2", MODEL, "v1")
    assert "has not been through" in refused(home, "b" * 64)
    (home / "promotion_policy.yaml").write_text("min_pr_auc_val: 0.71")
    assert "has not been through" in refused(home)
    (home / "promotion_policy.yaml").write_text("min_pr_auc_val: 0.700  # the same demand")
    check_may_promote(home, "v2", MODEL, "v1")


def test_the_newest_verdict_counts(home):
    record = GateVerdicts(home)
    record.note(verdict())
    record.note(verdict(failures=("min_pr_auc_val: wanted at least 0.7, found 0.6",)))
    assert "did not pass the gate (min_pr_auc_val: wanted at least 0.7, found 0.6)" in refused(home)
    record.note(verdict(missing=("no shadow",)))
    assert "no shadow" in refused(home)
    record.note(verdict())
    check_may_promote(home, "v2", MODEL, "v1")


def test_a_pass_without_rows_takes_nothing_back_that_was_found_on_rows(home):
    record = GateVerdicts(home)
    record.note(verdict())
    record.note(verdict(measured_on="march", failures=("found 0.2",)))
    record.note(verdict())
    assert "found 0.2" in refused(home)
    record.note(verdict(failures=("too old",)))
    record.note(verdict())
    assert "found 0.2" in refused(home)
    record.note(verdict(measured_on="april"))
    check_may_promote(home, "v2", MODEL, "v1")
    record.note(verdict(failures=("too old",)))
    assert "too old" in refused(home)
    record.note(verdict())
    check_may_promote(home, "v2", MODEL, "v1")


def test_the_gate_to_register_is_another_one(home):
    GateVerdicts(home).note(verdict(gate="register"))
    assert "has not been through" in refused(home)


def test_a_pass_beside_a_champion_counts_while_it_is_the_champion(home):
    GateVerdicts(home).note(verdict(champion="v1"))
    check_may_promote(home, "v2", MODEL, "v1")
    assert "was compared with v1, which is no longer the champion" in refused(home, champion="v3")


def test_lines_that_cannot_be_read_vouch_for_nothing_and_hide_no_others(home):
    GateVerdicts(home).note(verdict())
    with (home / RECORD_FILE).open("ab") as file:
        file.write(b'\xff\n{"version": "v2", "passed": true}\n{"version": "v2"')  # torn off by a power cut
    check_may_promote(home, "v2", MODEL, "v1")
    GateVerdicts(home).note(verdict(failures=("x",)))
    assert "did not pass" in refused(home)


def test_a_policy_that_cannot_be_read_lets_nothing_through(home):
    GateVerdicts(home).note(verdict())
    (home / "promotion_policy.yaml").write_text("min_pr_auc: 0.7")
    assert "the nearest is min_pr_auc_val; nothing can be promoted by it" in refused(home)
