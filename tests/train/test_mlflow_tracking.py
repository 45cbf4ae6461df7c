"""MLflow: what a real server has after a training, where it is told, and that a training does without it."""

import json
import re
import secrets
import shutil
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.tracking import Tracking, ready_to_track, tracking_of
from sentinel.errors import InvalidDefinition
from sentinel.model.bundle import read_manifest
from sentinel.policy.deployment import Experiment
from sentinel.record.applied import HomeDeployment

HERE = {"MLFLOW_TRACKING_URI": "http://there"}


@pytest.mark.parametrize(
    ("flags", "environment", "uri"),
    [
        ((None, None), {}, None),
        ((None, None), {"MLFLOW_TRACKING_URI": " "}, None),
        ((True, None), {}, "sqlite:///mlflow.db"),
        ((None, None), HERE, "http://there"),
        ((True, None), HERE, "http://there"),
        ((None, "http://flag"), HERE, "http://flag"),
        ((True, "http://flag"), {}, "http://flag"),
        ((False, "http://flag"), HERE, None),
        ((False, None), HERE, None),
    ],
)
def test_a_flag_counts_before_the_environment_and_that_before_the_default(flags, environment, uri):
    found = tracking_of(*flags, None, environment)
    assert (found and found.uri) == uri


def test_who_asks_for_it_without_the_library_is_told_and_who_only_has_the_variable_trains(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.delitem(sys.modules, "sentinel.train.mlflow_tracking", raising=False)
    with pytest.raises(InvalidDefinition, match=r"sentinel-fraud\[mlflow\]"):
        ready_to_track(tracking_of(True, None, None, {}))
    assert ready_to_track(Tracking("http://there", "x", by_flag=False)) is None
    assert "MLflow will not be told" in capsys.readouterr().err


@pytest.fixture
def home(shop_home, tmp_path):
    return shutil.copytree(shop_home, tmp_path / "home")


@pytest.fixture
def training(home, shop_file, shop_detector, tmp_path, monkeypatch):
    """Runs `sentinel train` on the small detector, from a file whose folder has a person's name, and with its own model name."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "ann-smith"
    folder.mkdir()
    shutil.copy(shop_file, folder / "shop.csv")
    name = f"shop-{secrets.token_hex(4)}"
    detector = folder / f"{name}.py"
    detector.write_text(Path(shop_detector).read_text().replace('name="shop"', f'name="{name}"'))

    def run(*more, **environment):
        given = [
            "train",
            "--detector",
            str(detector),
            "--data",
            str(folder / "shop.csv"),
            "--home",
            str(home),
            "--json",
        ]
        done = CliRunner().invoke(app, [*given, *more], env=environment)
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout), done.stderr

    return run


def files_below(client, run_id, path=None):
    for one in client.list_artifacts(run_id, path):
        if one.is_dir:
            yield from files_below(client, run_id, one.path)
        else:
            yield one.path


def test_a_real_server_has_parameters_metrics_plots_bundle_and_a_version_with_an_alias(
    service, training, home, tmp_path, monkeypatch, make_shop_frame
):
    uri = service("mlflow").url
    for name, value in {"GITHUB_RUN_ID": "4711", "GITHUB_WORKFLOW": "ci", "GITHUB_ACTOR": "ann-smith"}.items():
        monkeypatch.setenv(name, value)
    experiment = f"test-{secrets.token_hex(4)}"
    report, said = training("--mlflow-tracking-uri", uri, "--mlflow-experiment", experiment, "--promote")
    assert (report["version"], report["champion"]) == ("v2", "v2")
    assert f"MLflow at {uri} has it as run" in " ".join(said.split())
    from mlflow import MlflowClient, artifacts

    client, manifest = MlflowClient(tracking_uri=uri), read_manifest(home / "models" / "v2")
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["average_precision"] == manifest.metrics["average_precision"]["value"]
    assert run.data.metrics["review.recall"] == manifest.metrics["review"]["recall"]
    assert run.data.params["learner.max_depth"] == str(manifest.training["learner"]["max_depth"])
    assert run.data.params["data_file"] == "shop.csv"
    tags = run.data.tags
    assert (tags["sentinel.version"], tags["sentinel.parent"], tags["github.run_id"]) == ("v2", "v1", "4711")
    assert set(files_below(client, run.info.run_id)) == {
        "model_bundle/manifest.json", "model_bundle/model.onnx", "model_bundle/reference.json",
        "model_bundle/model_card.md", "model_bundle/model_card.html", "plots/precision_recall.png", "plots/scores.png",
    }  # fmt: skip
    fetched = artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="model_bundle", dst_path=str(tmp_path), tracking_uri=uri
    )
    for name in ("model.onnx", "manifest.json"):
        assert Path(fetched, name).read_bytes() == (home / "models" / "v2" / name).read_bytes()
    champion = client.get_model_version_by_alias(manifest.detector, "champion")
    assert (champion.run_id, champion.tags["sentinel.version"]) == (run.info.run_id, "v2")
    frame = make_shop_frame(6000)
    personal = {"ann-smith", *frame["transaction_id"], *frame["card"], *frame["shop"]}
    texts = [str(run.to_dictionary())]
    texts += [Path(fetched, name).read_text() for name in ("manifest.json", "reference.json", "model_card.md")]
    for text in texts:
        assert not set(re.findall(r"[\w.-]+", text)) & personal


def test_aliases_there_follow_the_log(service, training, home):
    uri = service("mlflow").url
    report, _ = training("--mlflow-tracking-uri", uri)
    assert (report["version"], report["champion"]) == ("v2", "v1")
    from mlflow import MlflowClient

    client, name = MlflowClient(tracking_uri=uri), read_manifest(home / "models" / "v2").detector

    def there():
        return dict(client.get_registered_model(name).aliases)

    def run(*arguments):
        done = CliRunner().invoke(app, [*arguments, "--home", str(home)], env={"MLFLOW_TRACKING_URI": uri})
        assert done.exit_code == 0, done.output
        return done

    assert there() == {}, "it is nothing yet, and v1 was never told"
    run("models", "promote", "v2")
    assert there() == {"champion": "1"}
    deployment = HomeDeployment(home)
    deployment.promote("v1")
    import msgspec

    deployment.change(
        lambda now: msgspec.structs.replace(
            now, shadow="v2", experiment=Experiment("e", "v2", 5.0, "2026-01-01T00:00:00")
        )
    )
    shown = json.loads(run("models", "aliases", "--json").stdout)
    assert shown["aliases"] == {"champion": "v1", "challenger": "v2", "shadow": "v2"}
    listed = json.loads(run("models", "list", "--json").stdout)
    assert [(one["version"], one["aliases"]) for one in listed] == [
        ("v1", ["champion"]),
        ("v2", ["challenger", "shadow"]),
    ]


def test_a_training_does_without_an_mlflow_that_is_away(training, home):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        report, said = training(
            MLFLOW_TRACKING_URI=f"http://127.0.0.1:{nobody.getsockname()[1]}", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
        )
    assert "MLflow was not told" in said
    assert "the model is kept all the same" in " ".join(said.split())
    assert (report["version"], (home / "models" / "v2" / "model.onnx").exists()) == ("v2", True)


def test_no_mlflow_tells_nothing(training):
    _, said = training("--no-mlflow", MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert "MLflow" not in said


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow's own store
def test_without_an_address_it_is_a_file_here(training, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, said = training("--mlflow")
    assert "MLflow at sqlite:///mlflow.db has it" in " ".join(said.split())
    assert (tmp_path / "mlflow.db").exists()
    assert list((tmp_path / "mlruns").rglob("model.onnx"))
