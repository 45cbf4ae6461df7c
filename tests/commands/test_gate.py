"""`sentinel models gate`, and what it keeps `sentinel models promote` from: with a server and without one."""

import json
import shutil
import urllib.error

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands import promote as promoting
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.model.gate_verdicts import GateVerdicts, Verdict, policy_in
from sentinel.model.registry import manifest_sha256
from sentinel.record.applied import HomeDeployment

HOST = "127.0.0.1"
EASY, HARD = "min_pr_auc_val: 0.05\nmin_roc_auc_val: 0.5\n", "min_pr_auc_val: 0.999\nmin_roc_auc_val: 0.9999\n"


@pytest.fixture
def home(two_models_home, tmp_path):
    return shutil.copytree(two_models_home, tmp_path / "home")


def models(home, *arguments, code=0):
    done = CliRunner().invoke(app, ["models", *map(str, arguments), "--home", str(home)])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return done


def told(done):
    return " ".join(done.stderr.split())


def with_policy(home, text):
    (home / "promotion_policy.yaml").write_text(text)


def asked(home):
    return [one.asked for one in HomeDeployment(home).audit(9).changes]


def test_a_pass_ends_with_0_every_failure_is_told_with_1_and_what_is_missing_with_2(home):
    with_policy(home, EASY)
    assert "v2 passes" in told(models(home, "gate", "v2"))
    with_policy(home, HARD)
    said = told(models(home, "gate", "v2", code=1))
    assert "failed: min_pr_auc_val: wanted at least 0.999" in said
    assert "failed: min_roc_auc_val: wanted at least 0.9999" in said
    with_policy(home, HARD + "max_latency_us: 100\n")
    assert "give --data FILE" in told(models(home, "gate", "v2", code=2))
    with_policy(home, EASY + "label_delay: 3d\n")
    assert "count rows younger than 3d too; give --data FILE" in told(models(home, "gate", "v2", code=2))
    with_policy(home, "min_pr_auc: 0.7\n")
    assert "the nearest is min_pr_auc_val" in told(models(home, "gate", "v2", code=2))
    with_policy(home, EASY)
    assert "no model 'v9'" in told(models(home, "gate", "v9", code=2))
    assert "there is no none.yaml" in told(models(home, "gate", "v2", "--policy", "none.yaml", code=2))
    assert "write promote or register" in told(models(home, "gate", "v2", "--for", "sale", code=1))


def test_a_policy_elsewhere_and_a_file_of_rows(home, shop_file, tmp_path):
    policy = tmp_path / "strict.yaml"
    policy.write_text("min_frauds: 10\nmax_latency_us: 100000\nnot_worse_than_champion: true\nlabel_delay: 1d\n")
    done = models(home, "gate", "v2", "--policy", policy, "--data", shop_file, "--json")
    found = json.loads(done.stdout)
    assert [one["status"] for one in found["checks"]] == ["passed", "passed", "passed"]
    assert found["verdict"]["champion"] == "v1"
    assert "test part" in found["verdict"]["measured_on"]
    assert "no file none.csv" in told(models(home, "gate", "v2", "--policy", policy, "--data", "none.csv", code=2))


def test_without_a_champion_what_compares_with_one_is_missing(home, shop_file, tmp_path):
    fresh = tmp_path / "fresh"
    shutil.copytree(home / "models", fresh / "models")
    with_policy(fresh, "not_worse_than_champion: true\n")
    assert "there is no champion to compare with" in told(models(fresh, "gate", "v2", "--data", shop_file, code=2))


def test_without_a_pass_nothing_is_promoted_and_with_one_it_is(home):
    with_policy(home, EASY)
    assert "has not been through the gate" in told(models(home, "promote", "v2", code=1))
    with_policy(home, HARD)
    models(home, "gate", "v2", code=1)
    assert "did not pass the gate" in told(models(home, "promote", "v2", code=1))
    assert HomeDeployment(home).champion() == "v1"
    with_policy(home, EASY)
    models(home, "gate", "v2", "--for", "register")
    models(home, "promote", "v2", code=1)
    models(home, "gate", "v2")
    models(home, "promote", "v2")
    assert HomeDeployment(home).champion() == "v2"


def test_who_forces_it_says_why_and_that_is_kept(home):
    with_policy(home, HARD)
    assert "belong together" in told(models(home, "promote", "v2", "--force", code=1))
    assert "belong together" in told(models(home, "promote", "v2", "--reason", "because", code=1))
    assert "belong together" in told(models(home, "promote", "v2", "--force", "--reason", "  ", code=1))
    models(home, "promote", "v2", "--force", "--reason", "v1 answers nonsense")
    assert HomeDeployment(home).champion() == "v2"
    assert asked(home)[0] == "v2, forced because v1 answers nonsense"


def test_one_command_brings_the_champion_before_back_and_asks_for_no_pass(home):
    models(home, "promote", "v2")
    with_policy(home, HARD)
    assert "v1 is the champion again" in told(models(home, "rollback"))
    assert HomeDeployment(home).read().previous == ()
    assert "there was no other champion" in told(models(home, "rollback", code=1))
    assert asked(home)[0] == "v1"


def test_a_champion_that_is_no_longer_what_it_was_is_not_brought_back(home):
    models(home, "promote", "v2")
    shutil.rmtree(home / "models" / "v1")
    assert "no model 'v1'" in told(models(home, "rollback", code=1))
    assert HomeDeployment(home).champion() == "v2"


def test_nothing_passes_by_rows_that_it_may_have_learned(home, shop_file, tmp_path):
    with_policy(home, EASY + "require_certificate: true\n")
    nearly = tmp_path / "nearly.csv"
    nearly.write_text("".join(shop_file.read_text().splitlines(keepends=True)[:-1]))
    assert "not judged by what it may have learned" in told(models(home, "gate", "v2", "--data", nearly, code=2))
    assert "has not been through the gate" in told(models(home, "promote", "v2", code=1))


def test_what_an_accepted_model_says_of_itself_is_no_evidence(home, shop_file):
    shutil.copytree(home / "models" / "v2", home / "models" / "v3")
    path = home / "models" / "v3" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["version"] = "v3"
    manifest["metrics"]["average_precision"]["value"] = 1.0
    path.write_text(json.dumps(manifest))
    with_policy(home, "min_pr_auc_val: 0.999\n")
    models(home, "accept", "v3")
    assert "v3 was trained elsewhere" in told(models(home, "gate", "v3", code=2))
    models(home, "promote", "v3", code=1)
    models(home, "gate", "v3", "--data", shop_file, code=1)


def test_of_two_promotions_at_once_the_second_has_to_be_compared_with_the_first(two_models_home, tmp_path, monkeypatch):
    home = shutil.copytree(two_models_home, tmp_path / "home")
    shutil.copytree(home / "models" / "v2", home / "models" / "v3")
    path = home / "models" / "v3" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"version": "v2"', b'"version": "v3"'))
    models(home, "accept", "v3")
    with_policy(home, EASY)
    for version in ("v2", "v3"):
        note_pass_beside_v1(home, version)

    def first_the_other(_settings, _path, _body):
        monkeypatch.undo()
        models(home, "promote", "v3")

    monkeypatch.setattr(promoting, "ask_owner", first_the_other)
    said = told(models(home, "promote", "v2", code=1))
    assert "was compared with v1, which is no longer the champion" in said
    assert HomeDeployment(home).champion() == "v3"


def note_pass_beside_v1(home, version):
    GateVerdicts(home).note(
        Verdict(
            version=version,
            manifest_sha256=manifest_sha256(home / "models" / version),
            gate="promote",
            at="today",
            policy_sha256=policy_in(home).sha256,
            champion="v1",
            measured_on="march",
        )
    )


def test_a_server_keeps_to_the_gate_too(home, post):
    with_policy(home, EASY)
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        for path, body in (("/admin/reload", {"version": "v2"}), ("/admin/reload", {})):
            with pytest.raises(urllib.error.HTTPError) as caught:
                post(server.port, path, body)
            assert caught.value.code == 409
            assert "has not been through the gate" in json.load(caught.value)["error"]
        post(server.port, "/admin/ab/setup", {"candidate_version": "v2"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(server.port, "/admin/ab/promote", {})
        assert caught.value.code == 409
        post(server.port, "/admin/ab/promote", {"forced_because": "the bank asks for it"})
        assert HomeDeployment(home).champion() == "v2"
        assert "v1 is the champion again" in told(models(home, "rollback"))
        models(home, "gate", "v2")
        models(home, "promote", "v2")
        models(home, "rollback")
        with_policy(home, HARD)
        models(home, "promote", "v2", code=1)
        models(home, "promote", "v2", "--force", "--reason", "v1 answers nonsense")
        assert HomeDeployment(home).champion() == "v2"
    finally:
        server.stop()
    said = asked(home)
    assert any("v1 answers nonsense" in one for one in said)
    assert any("the bank asks for it" in one for one in said)


def test_training_keeps_to_the_gate(home, shop_file, shop_detector):
    given = ["train", "--data", shop_file, "--detector", shop_detector, "--home", home]
    with_policy(home, HARD)
    run = CliRunner()
    refused = run.invoke(app, [*map(str, given), "--gate"])
    assert refused.exit_code == 1
    assert "the model is not registered" in told(refused)
    assert not (home / "models" / "v3").exists()
    kept = run.invoke(app, [*map(str, given), "--promote", "--json"])
    assert kept.exit_code == 0, kept.output
    found = json.loads(kept.stdout)
    assert "<h2>Worst misses</h2>" in (home / "models" / "v3.report.html").read_text()
    assert (found["version"], found["champion"]) == ("v3", "v1")
    assert len(found["gate"]["failures"]) == 2
    with_policy(home, EASY)
    passed = json.loads(run.invoke(app, [*map(str, given), "--gate", "--promote", "--json"]).stdout)
    assert passed["champion"] == "v4"
    with_policy(home, EASY + "label_delay: 90d\n")
    young = run.invoke(app, [*map(str, given), "--promote", "--json"])
    assert young.exit_code == 0, young.output
    assert "too young for a label" in json.loads(young.stdout)["gate"]["missing"][0]
    assert json.loads(young.stdout)["champion"] == "v4"
    without = run.invoke(app, [*map(str, given[:-1]), str(home / "elsewhere"), "--gate"])
    assert without.exit_code == 1
    assert "to hold a model against" in told(without)


def test_two_versions_are_compared_in_one_command(home, shop_file):
    done = models(home, "compare", "v1", "v2", "--data", shop_file, "--json")
    found = json.loads(done.stdout)
    for name in ("average_precision", "auc_roc", "recall_at_fpr"):
        difference = found[name]["difference"]
        assert difference["value"] == pytest.approx(found[name]["second"] - found[name]["first"])
        assert difference["low"] <= difference["value"] <= difference["high"]
    shown = told(models(home, "compare", "v1", "v1", "--data", shop_file))
    assert shown.count("+0.0000 (95 %: +0.0000 to +0.0000): no difference for certain") == 3
