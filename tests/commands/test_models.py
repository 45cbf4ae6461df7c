"""`sentinel models`: what is broken is shown as that, and nothing that cannot decide is put in charge."""

import json
import shutil
import time
import urllib.error
from contextlib import contextmanager

import msgspec
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.errors import BundleProblem
from sentinel.model.bundle import MODEL_FILE
from sentinel.model.registry import MANIFEST_FILE, Registry
from sentinel.model.signing import read_trusted_keys
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import HomeDeployment
from sentinel.serve.lineup import load_lineup

HOST = "127.0.0.1"


@pytest.fixture
def home(two_models_home, tmp_path):
    return shutil.copytree(two_models_home, tmp_path / "home")


def run(home, *arguments, code=0, **environment):
    done = CliRunner().invoke(app, [*arguments, "--home", str(home)], env=environment)
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return done


@contextmanager
def closing_server(home):
    """A server over this home folder, until the end."""
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def change_manifest(home, version, **changes):
    """As someone does who can write the record too."""
    path = home / "models" / version / MANIFEST_FILE
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | changes))
    Registry(home / "models").record(version, path.read_bytes(), "accepted")


def test_a_broken_version_is_listed_as_broken_and_hides_no_other(home):
    models = home / "models"
    shutil.copytree(models / "v2", models / "v3")
    (models / "v4").mkdir()
    (models / "v2" / MODEL_FILE).write_bytes(b"nothing")
    rows = {row["version"]: row for row in json.loads(run(home, "models", "list", "--json").stdout)}
    assert rows["v1"] | {"average_precision": 0, "created_at": ""} == {
        "version": "v1", "champion": True, "aliases": ["champion"], "here": True, "detector": "shop", "created_at": "", "average_precision": 0, "signed": False, "problem": None,
    }  # fmt: skip
    assert "model.onnx was altered" in rows["v2"]["problem"]
    assert "models accept v3" in rows["v3"]["problem"]
    assert "manifest.json is missing" in rows["v4"]["problem"]
    shown = " ".join(run(home, "models", "list").stderr.split())
    assert "v2 broken:" in shown
    assert "v1 shop" in shown


@pytest.mark.parametrize(
    "change",
    [
        lambda home: (home / "models" / "v2" / MODEL_FILE).write_bytes(b"nothing"),
        lambda home: (home / "models" / "v2" / "state.npz").unlink(),
        lambda home: change_manifest(home, "v2", thresholds={"review": "much"}),
        lambda home: change_manifest(home, "v2", fallback={"rules": 7}),
        lambda home: change_manifest(home, "v2", on_fault={"no_time": "aprove"}),
        lambda home: (home / "models" / "registry.jsonl").unlink(),
    ],
    ids=["model", "state", "thresholds", "rules", "faults", "record"],
)
def test_what_cannot_decide_is_not_promoted_and_changes_nothing(home, change):
    change(home)
    before = HomeDeployment(home).read()
    assert "v2" in run(home, "models", "promote", "v2", code=1).stderr
    assert HomeDeployment(home).read() == before


@pytest.fixture(scope="module")
def running(two_models_home, tmp_path_factory):
    """A server over a home folder of its own."""
    home = shutil.copytree(two_models_home, tmp_path_factory.mktemp("running") / "home")
    with closing_server(home) as server:
        yield server


@pytest.mark.parametrize(
    "broken",
    [{"thresholds": {"review": "much"}}, {"fallback": {"rules": 7}}, {"on_fault": {"no_time": "aprove"}}],
    ids=["thresholds", "rules", "faults"],
)
def test_a_server_that_runs_refuses_what_cannot_decide_and_goes_on(home, running, post, broken):
    sound = msgspec.json.decode((running.home / "models" / "v2" / MANIFEST_FILE).read_bytes())
    change_manifest(running.home, "v2", **broken)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(running.port, "/admin/reload", {"version": "v2"})
    payment = {"event_time": "2025-02-01T10:00:00Z", "amount": 1, "card": "c", "shop": "s"}
    answer = post(running.port, "/v1/score", {"transaction_id": str(broken), **payment})
    assert (answer["model_version"], answer["replayed"]) == ("v1", False)
    change_manifest(running.home, "v2", **{name: sound[name] for name in broken})
    change_manifest(home, "v2", **broken)
    run(home, "models", "accept", "v2", code=1)


def test_who_accepts_or_signs_a_model_is_in_the_audit_whether_a_server_runs_or_not(home, post, tmp_path):
    key = tmp_path / "team.key"
    CliRunner().invoke(app, ["models", "keygen", "--out", str(key)], catch_exceptions=False)
    run(home, "models", "accept", "v2")
    (noted,) = HomeDeployment(home).audit(1).changes
    assert (noted.what, noted.asked, noted.where) == ("models accept", "v2", "command line")
    assert len(json.loads(noted.after)["manifest_sha256"]) == 64
    with closing_server(home):
        run(home, "models", "sign", "v2", SENTINEL_SIGNING_KEY_FILE=str(key))
        until = time.monotonic() + 60
        while HomeDeployment(home).audit(1).changes[0].what != "models sign" and time.monotonic() < until:
            time.sleep(0.05)
    assert [one.what for one in HomeDeployment(home).audit(2).changes] == ["models sign", "models accept"]


def test_the_doctor_names_a_champion_that_was_altered(home):
    change = home / "models" / "v1" / MANIFEST_FILE
    change.write_bytes(change.read_bytes().replace(b'"shop"', b'"pohs"', 1))
    found = json.loads(run(home, "doctor", "--port", str(free_port(HOST)), "--json", code=1).stdout)["checks"]
    [models] = [one for one in found if one["what"] == "models"]
    assert (models["ok"], "was altered after it was trained" in models["found"]) == (False, True)


def test_signed_models_are_trained_served_and_shadowed_and_others_are_refused(
    home, shop_file, shop_detector, post, tmp_path
):
    key, trusted = tmp_path / "team.key", tmp_path / "team.key.pub"
    told = CliRunner().invoke(app, ["models", "keygen", "--out", str(key)], catch_exceptions=False).stderr
    assert [line.partition("=")[0] for line in told.splitlines()] == [
        "SENTINEL_SIGNING_KEY_FILE", "SENTINEL_TRUSTED_KEYS_FILE",
    ], "each in one line, to be copied"  # fmt: skip
    trusting = {"SENTINEL_TRUSTED_KEYS_FILE": str(trusted)}
    server = ServerProcess(home, HOST, free_port(HOST), environment=trusting)
    assert "is not signed" in run(home, "models", "promote", "v2", code=1, **trusting).stderr
    training = ["train", "--detector", shop_detector, "--data", str(shop_file)]
    run(home, *training, "--promote", SENTINEL_SIGNING_KEY_FILE=str(key), **trusting)
    assert HomeDeployment(home).champion() == "v3"
    run(home, "models", "sign", "v2", SENTINEL_SIGNING_KEY_FILE=str(key))
    try:
        server.start()
        payment = {"transaction_id": "t", "event_time": "2025-02-01T10:00:00Z", "amount": 1, "card": "c", "shop": "s"}
        assert post(server.port, "/v1/score", payment)["model_version"] == "v3"
        post(server.port, "/admin/reload", {"version": "v2"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(server.port, "/admin/reload", {"version": "v1"})
        assert post(server.port, "/v1/score", payment | {"transaction_id": "u"})["model_version"] == "v2"
    finally:
        server.stop()
    with pytest.raises(BundleProblem, match="is not signed"):
        load_lineup(Deployment(champion="v1"), Registry(home / "models", read_trusted_keys(trusted)))
    listed = json.loads(run(home, "models", "list", "--json", **trusting).stdout)
    assert [(one["version"], one["signed"], one["problem"] is None) for one in listed] == [
        ("v1", False, False), ("v2", True, True), ("v3", True, True),
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_a_server_does_not_start_with_keys_that_trust_no_one(home, tmp_path, content):
    if content is not None:
        (tmp_path / "keys").write_text(content)
    done = run(home, "serve", "--port", str(free_port(HOST)), code=1, SENTINEL_TRUSTED_KEYS_FILE=str(tmp_path / "keys"))
    assert "trusted_keys_file" in done.stderr
