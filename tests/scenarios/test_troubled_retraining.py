"""A retraining that meets with trouble: the champion stays, nothing half-written is there, and it goes on afterwards."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from cutting_proxy import cutting_proxy
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.model.bundle import MODEL_FILE, load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.record.retrainings import runs_of

DAY_US = 86_400_000_000
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from sentinel.cli import main
main()
"""


@pytest.fixture
def home(shop_home, tmp_path):
    return shutil.copytree(shop_home, tmp_path / "home")


@pytest.fixture(scope="module")
def newer(tmp_path_factory, make_shop_frame):
    """A history in which a high risk is what makes a fraud, which the champion has not seen."""
    path = tmp_path_factory.mktemp("newer") / "history.parquet"
    frame = make_shop_frame(9000, seed=2).with_columns(pl.col("event_time") + 10 * DAY_US)
    logit = 3 * frame["risk"].to_numpy() + np.log(frame["amount"].to_numpy()) - 9
    is_fraud = np.random.default_rng(3).random(len(frame)) < 1 / (1 + np.exp(-logit))
    frame.with_columns(is_fraud=pl.Series(is_fraud)).write_parquet(path)
    return path


@pytest.fixture
def asked(shop_detector, newer, home):
    """The arguments of a retraining of this home."""
    return ["retrain", "--data", str(newer), "--detector", shop_detector, "--home", str(home)]


def kept(folder):
    """All files of a folder, those that are not finished included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def retrain(asked, *more, code=0):
    done = CliRunner().invoke(app, [*asked, *more])
    assert done.exit_code == code, (done.output, done.exception)
    return " ".join(done.stderr.split())


def test_a_disk_that_has_no_more_room(asked, home):
    """No file may become larger than this: writes fail in the middle of the candidate, as on a full disk."""
    before = kept(home / "models")
    full = subprocess.run([sys.executable, "-c", LIMITED, "40000", *asked], capture_output=True, text=True, timeout=300)
    assert full.returncode == 1, full.stderr[-3000:]
    assert "Traceback" not in full.stderr, full.stderr[-3000:]
    assert "File too large" in full.stderr
    assert kept(home / "models") == before
    (run,) = runs_of(home)
    assert (run.failed.step, run.ended) == ("train", None)
    assert Registry(home / "retraining" / run.name / "candidate").versions() == []
    assert set(kept(home / "retraining" / run.name)) <= {"run.json", "candidate/.lock"}
    assert HomeDeployment(home).read().champion == "v1"
    retrain(asked)
    assert HomeDeployment(home).read().shadow == "v2"
    assert len(runs_of(home)) == 1


def test_a_second_one_is_told_who_retrains_and_the_first_ends_well(asked, home):
    first = subprocess.Popen([sys.executable, "-m", "sentinel", *asked], stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        lock = home / "retraining" / "lock"
        while not (lock.exists() and lock.stat().st_size):
            assert time.monotonic() < until
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGSTOP)  # in the middle, however fast it is
        assert f"process {first.pid} retrains this home since" in retrain(asked, code=1)
        os.kill(first.pid, signal.SIGCONT)
        said = first.communicate(timeout=300)[1]
        assert first.returncode == 0, said[-3000:]
    finally:
        first.kill()
        first.wait()
    deployment = HomeDeployment(home).read()
    assert (deployment.champion, deployment.shadow) == ("v1", "v2")
    assert len(runs_of(home)) == 1


@pytest.mark.parametrize("which", ["champion", "candidate"])
def test_a_bundle_that_somebody_changed(asked, home, which):
    if which == "candidate":
        retrain(asked, "--until", "train")
        folder = home / "retraining" / runs_of(home)[0].name / "candidate" / "v1"
    else:
        folder = home / "models" / "v1"
    model = bytearray((folder / MODEL_FILE).read_bytes())
    model[len(model) // 2] ^= 1
    (folder / MODEL_FILE).write_bytes(model)
    before = kept(home / "models")
    said = retrain(asked, code=1)
    assert MODEL_FILE in said, said
    (run,) = runs_of(home)
    assert run.failed.step == ("gate" if which == "candidate" else "train")
    assert kept(home / "models") == before
    deployment = HomeDeployment(home).read()
    assert (deployment.champion, deployment.shadow) == ("v1", None)


def test_a_home_without_a_champion_is_told_before_any_work(asked, home):
    shutil.rmtree(home)
    home.mkdir()
    assert "has no champion" in retrain(asked, code=1)
    assert not (home / "models").exists()
    assert not (home / "log").exists()


@pytest.mark.parametrize("how", ["deny", "cut", "refuse"])
def test_s3_that_refuses_or_stops_in_the_middle(service, monkeypatch, tmp_path, asked, home, shop_file, how):
    with cutting_proxy(service("s3").url) as proxy:
        for name, value in {**service("s3").environment, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SENTINEL_MODELS", f"s3://sentinel-{secrets.token_hex(6)}/shop")
        shutil.rmtree(home)
        detector = asked[asked.index("--detector") + 1]
        given = ["train", "--detector", detector, "--data", str(shop_file), "--quick", "--home", str(home)]
        assert CliRunner().invoke(app, given).exit_code == 0
        retrain(asked, "--until", "gate")
        here = kept(home / "models")
        proxy.how = how
        if how in ("cut", "refuse"):
            proxy.writes_left = 2  # of the files of a version
        said = retrain(asked, code=1)
        assert "S3" in said or "s3://" in said, said
        assert runs_of(home)[0].failed.step in ("gate", "register")
        proxy.how, proxy.writes_left = "cut", None
        assert listed(home) == ["v1"]
        assert kept(home / "models") == here
        deployment = HomeDeployment(home).read()
        assert (deployment.champion, deployment.shadow) == ("v1", None)
        retrain(asked)
        first, second = listed(home)
        assert (first, second) in (("v1", "v2"), ("v1", "v3")), "the name of what was cut may be taken"
        deployment = HomeDeployment(home).read()
        assert (deployment.champion, deployment.shadow) == ("v1", second)
        assert load_bundle(home / "models" / second).manifest.version == second


def listed(home):
    done = CliRunner().invoke(app, ["models", "list", "--json", "--home", str(home)])
    return [one["version"] for one in json.loads(done.stdout)]
