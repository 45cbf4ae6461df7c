"""A model is trained on one machine, kept in S3, and decides on another, also while S3 is away."""

import json
import os
import secrets
import shutil
import urllib.error
import urllib.request

import pytest
from cutting_proxy import cutting_proxy
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.model.s3_models import S3Models
from sentinel.model.signing import make_key_pair
from sentinel.record.applied import HomeDeployment

HOST = "127.0.0.1"
PAYMENT = {"event_time": "2025-02-01T10:00:00Z", "amount": 1, "card": "c", "shop": "s"}


@pytest.fixture
def s3(service, monkeypatch):
    """S3 behind a proxy that can go away, and models that are kept there."""
    with cutting_proxy(service("s3").url) as proxy:
        for name, value in {**service("s3").environment, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SENTINEL_MODELS", f"s3://sentinel-{secrets.token_hex(6)}/shop")
        yield proxy


def run(home, *arguments, code=0):
    done = CliRunner().invoke(app, [*map(str, arguments), "--home", str(home)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_what_one_machine_trained_another_serves_with_s3_away_or_not(s3, tmp_path, shop_file, shop_detector):
    trains, serves = tmp_path / "trains", tmp_path / "serves"
    given = ["train", "--detector", shop_detector, "--data", shop_file, "--json"]
    assert [json.loads(run(trains, *given).stdout)["version"] for _ in range(2)] == ["v1", "v2"]
    assert [one["version"] for one in json.loads(run(trains, "models", "list", "--json").stdout)] == ["v1", "v2"]
    listed = json.loads(run(serves, "models", "list", "--json").stdout)
    assert [(one["version"], one["here"], one["signed"], one["problem"]) for one in listed] == [
        (version, False, None, None) for version in ("v1", "v2")
    ]
    run(serves, "models", "promote", "v1")
    assert not (serves / "models" / "v2").exists(), "only what is used is fetched"
    server = ServerProcess(serves, HOST, free_port(HOST))
    try:
        server.start()
        assert decided_by(server, "a") == "v1"
        s3.how = "away"
        server.stop()
        server.start()
        assert decided_by(server, "b") == "v1"
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            post(server, "/admin/reload", {"version": "v2"})
        assert "does not answer as S3 would" in refused.value.read().decode()
        assert (decided_by(server, "c"), HomeDeployment(serves).champion()) == ("v1", "v1")
        s3.how = "cut"
        post(server, "/admin/reload", {"version": "v2"})
        assert decided_by(server, "d") == "v2"
    finally:
        server.stop()
    assert "Traceback" not in (serves / "server.log").read_text()


def test_nobody_waits_for_a_model_that_could_not_be_kept(s3, tmp_path, shop_file, shop_detector):
    s3.how = "away"
    done = run(tmp_path, "train", "--detector", shop_detector, "--data", shop_file, code=1)
    assert "does not answer as S3 would" in " ".join(done.stderr.split())
    assert "6,000 transactions" not in done.stderr, "nothing was read yet"
    assert not (tmp_path / "models").exists()


def decided_by(server, transaction):
    return post(server, "/v1/score", {**PAYMENT, "transaction_id": transaction})["model_version"]


def post(server, path, body):
    asked = urllib.request.Request(
        f"http://{HOST}:{server.port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def test_a_bundle_that_was_copied_to_s3_is_accepted_signed_and_trusted_elsewhere(s3, tmp_path, shop_home, monkeypatch):
    """The way of a home that moves to S3: its log knows the champion by its manifest."""
    there = S3Models(os.environ["SENTINEL_MODELS"], tmp_path / "nowhere", os.environ)
    there._objects.make()
    home = shutil.copytree(shop_home, tmp_path / "home")
    for path in (home / "models" / "v1").iterdir():
        there._objects.put(f"v1/{path.name}", path.read_bytes())
    assert "models that were trained without SENTINEL_MODELS" in said(run(home, "models", "accept", "v1", code=1))
    shutil.rmtree(home / "models")
    assert "there is no model 'v1'" in said(run(home, "models", "promote", "v1", code=1))
    public, _ = make_key_pair(tmp_path / "team.key")
    monkeypatch.setenv("SENTINEL_SIGNING_KEY_FILE", str(tmp_path / "team.key"))
    run(home, "models", "accept", "v1")
    run(home, "models", "sign", "v1")
    monkeypatch.setenv("SENTINEL_TRUSTED_KEYS_FILE", str(public))
    run(tmp_path / "elsewhere", "models", "promote", "v1")
    (row,) = json.loads(run(home, "models", "list", "--json").stdout)
    assert (row["champion"], row["signed"], row["problem"]) == (True, True, None)


def said(done):
    return " ".join(done.stderr.split())
