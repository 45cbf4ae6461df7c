"""`sentinel retrain`: recorded steps that go on where they stopped, and a champion that nothing touches."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.retraining import fitting, steps
from sentinel.commands.retraining.fitting import better
from sentinel.commands.retraining.retrain import retrain
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.errors import BundleProblem, DataProblem, InvalidDefinition, StorageProblem
from sentinel.events.reading import Reading
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.record.retrainings import one_at_a_time, read_run, runs_of
from sentinel.train.figures.compare import Comparison

SHOP_FILE = Path(__file__).parents[2] / "shop_detector.py"
DAY_US = 86_400_000_000


class Clock:
    """A second later at each look."""

    def __init__(self):
        self.seconds = 0

    def __call__(self):
        self.seconds += 1
        return datetime.fromtimestamp(1_780_000_000 + self.seconds, UTC)


@pytest.fixture
def home(shop_home, tmp_path):
    return shutil.copytree(shop_home, tmp_path / "home")


@pytest.fixture
def settings(home):
    return Settings(home=home)


@pytest.fixture(scope="session")
def newer(tmp_path_factory, make_shop_frame):
    """A history in which a high risk is what makes a fraud, which the champion has not seen."""
    path = tmp_path_factory.mktemp("newer") / "history.parquet"
    frame = make_shop_frame(9000, seed=2).with_columns(pl.col("event_time") + 10 * DAY_US)
    logit = 3 * frame["risk"].to_numpy() + np.log(frame["amount"].to_numpy()) - 9
    is_fraud = np.random.default_rng(3).random(len(frame)) < 1 / (1 + np.exp(-logit))
    frame.with_columns(is_fraud=pl.Series(is_fraud)).write_parquet(path)
    return path


@pytest.fixture
def run(settings, shop_detector, newer):
    clock = Clock()

    def running(data=newer, **given):
        return retrain(
            settings,
            shop_detector,
            None if data is None else str(data),
            Reading(),
            lambda *_: None,
            clock=clock,
            **given,
        )

    return running


def files_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_better_model_becomes_the_shadow_and_the_champion_stays(run, settings, home):
    done = run()
    assert done.found("gate")["failures"] == []
    assert [one.name for one in done.steps] == ["collect", "train", "gate", "register", "shadow"]
    assert done.ended == "shadow"
    deployment = HomeDeployment(home).read()
    assert (deployment.champion, deployment.shadow) == ("v1", "v2")
    challenger = load_bundle(home / "models" / "v2").manifest
    assert (challenger.version, challenger.history.transactions) == ("v2", 9000)
    compared = done.found("gate")["compared"]
    difference = compared["average_precision"]["difference"]
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert compared["transactions"] == challenger.training["rows"]["test"]


def test_a_warm_start_is_compared_with_a_full_fit_and_the_better_is_kept(run, settings, home, shop_detector, newer):
    done = run(warm_start=True, until="train")
    warm = done.found("train")["warm_start"]
    assert (warm["parent"], warm["trees_before"] > 0, warm["trees_added"] > 0) == ("v1", True, True)
    difference = warm["compared"]["average_precision"]["difference"]
    assert warm["taken"] == ("warm" if difference["low"] > 0 else "full")
    assert (warm["compared"]["first"], warm["compared"]["second"]) == ("full", "warm")
    folder = home / "retraining" / done.name / "candidate"
    kept, others = done.found("train")["candidate"], Registry(folder).versions()
    assert kept in others
    assert len(others) == 2
    assert (load_bundle(folder / kept).manifest.training["warm_start"] is None) == (warm["taken"] == "full")
    assert warm["compared"]["transactions"] == load_bundle(folder / kept).manifest.training["rows"]["test"]
    asked = ["retrain", "--data", str(newer), "--detector", shop_detector, "--home", str(home), "--warm-start"]
    shown = CliRunner().invoke(app, [*asked, "--run", done.name])
    assert shown.exit_code == 0, shown.output
    assert f"the {warm['taken']} fit is the candidate" in shown.output
    assert run().name != done.name  # a run without it is another one


def test_where_there_is_a_policy_it_says_which_gate_is_left_and_the_file_for_it(home, newer, shop_detector):
    (home / "promotion_policy.yaml").write_text("min_frauds: 5\n")

    def sentinel(*asked):
        done = CliRunner().invoke(app, [*asked, "--home", str(home)])
        return done.exit_code, " ".join(done.stderr.split())

    code, said = sentinel("retrain", "--data", str(newer), "--detector", shop_detector)
    assert code == 0, said
    gate = f"models gate v2 --data {newer}"
    assert f"`sentinel models promote v2` makes it champion once it has passed `sentinel {gate}`" in said
    assert sentinel("models", "promote", "v2")[0] == 1
    assert sentinel(*gate.split())[0] == 0
    assert sentinel("models", "promote", "v2")[0] == 0


@pytest.mark.parametrize(("low", "taken"), [(0.001, "warm"), (0.0, "full"), (-0.01, "full")])
def test_added_trees_have_to_be_better_beyond_doubt(run, low, taken):
    found = msgspec.convert(run(warm_start=True, until="train").found("train")["warm_start"]["compared"], Comparison)
    precision = found.average_precision
    difference = msgspec.structs.replace(precision.difference, low=low, high=low + 0.1)
    precision = msgspec.structs.replace(precision, difference=difference)
    assert better(msgspec.structs.replace(found, average_precision=precision))[0] == taken
    assert better("too few frauds") == ("full", "they cannot be compared: too few frauds")


def test_trees_that_are_surely_better_go_to_the_gate(run, home, make_shop_frame, tmp_path):
    """Of labels that are drawn at random, but for the test part, a full fit learns nothing; the champion knows more."""
    frame = make_shop_frame(6_000, seed=6).with_columns(pl.col("event_time") + 40 * DAY_US)
    drawn = pl.Series(np.random.default_rng(1).random(len(frame)) < 0.05)
    is_older = pl.int_range(pl.len()) < 0.85 * len(frame)
    spoilt = frame.with_columns(is_fraud=pl.when(is_older).then(drawn).otherwise("is_fraud"))
    spoilt.write_parquet(tmp_path / "spoilt.parquet")
    done = run(tmp_path / "spoilt.parquet", warm_start=True, until="gate")
    warm = done.found("train")["warm_start"]
    assert warm["taken"] == "warm", warm["compared"]["average_precision"]
    kept = home / "retraining" / done.name / "candidate" / done.found("train")["candidate"]
    manifest = load_bundle(kept).manifest
    assert manifest.lineage.parent == manifest.training["warm_start"]["parent"] == "v1"
    assert manifest.training["warm_start"]["trees_added"] == warm["trees_added"]
    assert done.found("gate")["compared"]["second"] == "candidate"


def test_a_warm_start_of_another_detector_says_how_to_go_on_and_touches_nothing(settings, home, newer, tmp_path):
    text = SHOP_FILE.read_text().replace('count(by="shop", over="1h")', 'count(by="shop", over="2h")')
    other = tmp_path / "other.py"
    other.write_text(text)
    before = files_in(home / "models")
    with pytest.raises(InvalidDefinition, match=r"v1 has other features than the detector.*for a full fit"):
        retrain(settings, str(other), str(newer), Reading(), lambda *_: None, warm_start=True)
    assert files_in(home / "models") == before
    (failed,) = runs_of(home)
    assert failed.failed.step == "train"
    assert not (home / "retraining" / failed.name / "candidate").exists()


def test_the_same_data_again_does_nothing(run, home):
    first = run()
    before = files_in(home / "models")
    assert run() == first
    assert files_in(home / "models") == before
    assert len(runs_of(home)) == 1


def test_it_goes_on_where_it_stopped(run, home, monkeypatch):
    assert run(until="collect").found("train") is None
    trained = run(until="train")
    assert trained.found("gate") is None
    assert Registry(home / "models").versions() == ["v1"]
    with monkeypatch.context() as context:
        context.setattr(fitting, "train", None)  # would fail: what is done is not done again
        done = run()
    assert done.ended == "shadow"
    assert done.steps[:2] == trained.steps


def test_a_step_that_fails_is_written_down_and_touches_nothing(run, home, settings, monkeypatch):
    run(until="gate")
    before = files_in(home / "models")

    def full(*_):
        raise StorageProblem("the disk is full")

    with monkeypatch.context() as context:
        context.setattr(steps, "write_bundle", full)
        with pytest.raises(StorageProblem):
            run()
    (failed,) = runs_of(home)
    assert (failed.failed.step, failed.failed.reason, failed.ended) == ("register", "the disk is full", None)
    assert files_in(home / "models") == before
    assert HomeDeployment(home).read().shadow is None
    assert run().failed is None


def test_a_step_that_was_done_and_not_written_down_is_done_once(run, home):
    done = run(until="register")
    path = home / "retraining" / done.name / "run.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "steps": kept["steps"][:-1]}))
    assert run().found("register") == {"version": "v2"}
    assert Registry(home / "models").versions() == ["v1", "v2"]


def test_a_worse_model_is_refused_and_never_registered(settings, shop_detector, home, make_shop_frame, tmp_path):
    """The labels of most of what it learns from are turned round; those of the newest part, which it is judged on, are not."""
    frame = make_shop_frame(6000)
    wrong = pl.int_range(pl.len()) < 4200
    spoilt = frame.with_columns(is_fraud=pl.when(wrong).then(~pl.col("is_fraud")).otherwise(pl.col("is_fraud")))
    spoilt.write_parquet(tmp_path / "spoilt.parquet")
    done = retrain(settings, shop_detector, str(tmp_path / "spoilt.parquet"), Reading(), lambda *_: None)
    assert done.ended == "refused"
    assert any("worse than the champion" in one for one in done.found("gate")["failures"])
    assert Registry(home / "models").versions() == ["v1"]
    assert HomeDeployment(home).read().shadow is None
    asked = ["retrain", "--data", str(tmp_path / "spoilt.parquet"), "--detector", shop_detector, "--home", str(home)]
    again = CliRunner().invoke(app, [*asked, "--run", done.name, "--json"])
    assert again.exit_code == 1
    assert json.loads(again.stdout)["ended"] == "refused"


def test_two_at_once(run, home):
    with (
        one_at_a_time(home, "nightly", "2026-11-30T03:00:00+00:00"),
        pytest.raises(StorageProblem, match=rf"process {os.getpid()} retrains this home since 2026.*run nightly"),
    ):
        run()
    assert run(until="collect").steps  # the lock went with its owner


def test_the_lock_of_a_killed_process_is_gone(home, run):
    program = (
        "import sys, time; from pathlib import Path; from sentinel.record.retrainings import one_at_a_time\n"
        "with one_at_a_time(Path(sys.argv[1]), 'killed', 'now'): print('in', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, home], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(StorageProblem, match=f"process {other.pid} "):
            run()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert run(until="collect").steps


def test_a_run_goes_on_with_what_it_was_begun_with(run, shop_file, newer, tmp_path):
    mine = tmp_path / "mine.parquet"
    shutil.copy(newer, mine)
    run(mine, name="monday", until="collect")
    with pytest.raises(InvalidDefinition, match="was begun with other data or options"):
        run(shop_file, name="monday")
    mine.write_bytes(newer.read_bytes() + b" ")
    with pytest.raises(DataProblem, match="was changed after this run had begun"):
        run(mine, name="monday")
    assert run(mine, until="collect").name != "monday"


def test_a_run_that_has_ended_keeps_its_record_alone_once_another_one_begins(run, home, shop_file):
    ended = run()
    folder = home / "retraining" / ended.name
    assert (folder / "candidate").exists()
    run(shop_file, until="collect")
    assert [one.name for one in folder.iterdir()] == ["run.json"]
    assert run() == ended


def test_a_file_that_is_asked_for_is_kept_wherever_it_is(run, home, newer):
    ended = run()
    folder = home / "retraining" / ended.name
    shutil.copy(newer, folder / "history.parquet")
    assert run(folder / "history.parquet", until="collect").name != ended.name
    assert (folder / "history.parquet").exists()


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 65])
def test_a_name_that_is_no_folder(run, name):
    with pytest.raises(InvalidDefinition, match="--run is"):
        run(name=name)


def test_a_history_with_next_to_nothing_new_is_no_ground_for_another_model(run, home, tmp_path, make_shop_frame):
    make_shop_frame(6000).write_parquet(tmp_path / "same.parquet")
    frame = pl.read_parquet(tmp_path / "same.parquet")
    later = frame[-3:].with_columns(pl.col("event_time") + 1, transaction_id=pl.Series(["x", "y", "z"]), is_fraud=True)
    pl.concat([frame, later]).write_parquet(tmp_path / "more.parquet")
    done = run(tmp_path / "more.parquet")
    assert done.ended == "refused"
    assert done.found("gate")["compared"] is None
    assert "cannot be compared with the champion" in done.found("gate")["failures"][0]
    assert Registry(home / "models").versions() == ["v1"]


def test_without_a_champion_or_a_history(settings, shop_detector, newer, tmp_path, run):
    empty = Settings(home=tmp_path / "empty")
    with pytest.raises(BundleProblem, match="has no champion; run `sentinel train`"):
        retrain(empty, shop_detector, str(newer), Reading(), lambda *_: None)
    with pytest.raises(DataProblem, match="nothing was decided in that time"):
        run(None)
    with pytest.raises(DataProblem, match="there is no file"):
        run(tmp_path / "none.csv")
    with pytest.raises(InvalidDefinition, match="--until is 'ship'"):
        run(until="ship")


def test_a_record_that_cannot_be_read_is_said(run, home):
    name = run(until="collect").name
    (home / "retraining" / name / "run.json").write_text("{")
    with pytest.raises(StorageProblem, match="retrain anew"):
        read_run(home, name)


def test_a_server_that_runs_shadows_the_challenger(home, newer, shop_detector):
    server = ServerProcess(home, "127.0.0.1", free_port("127.0.0.1"))
    try:
        server.start()
        asked = ["retrain", "--data", newer, "--detector", shop_detector, "--home", home, "--json"]
        done = subprocess.run([sys.executable, "-m", "sentinel", *map(str, asked)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads(done.stdout)["steps"][-1]["found"] == {"shadow": "v2", "told": "the server that runs"}
        until = time.monotonic() + 60
        while HomeDeployment(home).read().shadow != "v2" and time.monotonic() < until:
            threading.Event().wait(0.1)
        assert HomeDeployment(home).read().champion == "v1"
        assert HomeDeployment(home).read().shadow == "v2"
    finally:
        server.stop()
