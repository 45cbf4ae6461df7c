"""What `sentinel train` is asked for: options that become an experiment, and those that cannot."""

import json
import subprocess
import sys

import pytest

from sentinel.commands.experiment import asked_of, experiment_of, leaderboard_lines
from sentinel.detectors import load_detector
from sentinel.errors import InvalidDefinition
from sentinel.learner import LightGBM
from sentinel.model.bundle import read_manifest
from sentinel.train.search.experiment import QUICK, Experiment


def test_without_options_three_folds_and_a_refit_are_made_and_nothing_is_searched():
    assert experiment_of(None, quick=False, refit=None, calibration=None) == Experiment()
    assert Experiment() == Experiment(budget_s=None, folds=3, refit="validation", calibration="beta")


def test_options_become_the_experiment():
    assert experiment_of("10m", quick=False, refit="all", calibration="isotonic") == Experiment(
        budget_s=600.0, refit="all", calibration="isotonic"
    )
    assert experiment_of(None, quick=True, refit=None, calibration=None) == QUICK


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"budget": "10m", "quick": True}, "--quick is one fit"),
        ({"refit": "all", "quick": True}, "--quick is one fit"),
        ({"budget": "soon"}, "soon"),
        ({"budget": "0s"}, "0s"),
        ({"refit": "some"}, "--refit is some; write none, validation or all"),
        ({"calibration": "platt"}, "--calibration is platt; write none, beta or isotonic"),
    ],
)
def test_options_that_cannot_be_are_refused(given, text):
    with pytest.raises(InvalidDefinition, match=text):
        experiment_of(**{"budget": None, "quick": False, "refit": None, "calibration": None, **given})


def test_a_detector_is_asked_of_with_another_seed_policy_and_split():
    asked = asked_of("payments", learner="lightgbm", seed=7, target_fpr=0.0005, split="random")
    assert asked.training.learner == LightGBM()
    assert (asked.training.seed, asked.training.split) == (7, "random")
    assert (asked.training.test_share, asked.training.validation_share) == (0.2, 0.16)
    assert (asked.policy.review_at_fpr, asked.policy.block_at_fpr) == (0.0005, 0.0005)
    same = load_detector("payments")
    assert asked_of("payments", learner=None, seed=None, target_fpr=None, split=None) == same
    assert (
        asked_of("payments", learner=None, seed=None, target_fpr=0.02, split="time").policy.block_at_fpr
        == same.policy.block_at_fpr
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"seed": -1}, "--seed is -1"),
        ({"learner": "magic"}, "no learner magic; there are xgboost"),
        ({"split": "half"}, "--split is 'half'"),
        ({"target_fpr": 2}, "policy"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, text):
    with pytest.raises(InvalidDefinition, match=text):
        asked_of("payments", **{"learner": None, "seed": None, "target_fpr": None, "split": None, **given})


def test_nothing_compared_is_no_leaderboard():
    assert leaderboard_lines([], "own") == []


def test_a_search_from_the_command_line(tmp_path, shop_file, shop_detector):
    command = [sys.executable, "-m", "sentinel", "train", "--detector", shop_detector, "--data", shop_file]
    options = ["--home", tmp_path, "--budget", "4s", "--seed", "5", "--target-fpr", "0.02", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "search" in done.stderr
    names = [one["name"] for one in told["leaderboard"]]
    assert any("the detector's own" in name for name in names)
    assert told["chosen"] in names
    lines = leaderboard_lines(told["leaderboard"], told["chosen"])
    assert len(lines) == 3 + len(names)
    assert lines[-1].startswith(f"chosen: {told['chosen']}")
    assert all(names[n] in line for n, line in enumerate(lines[2:-1]))
    manifest = read_manifest(tmp_path / "models" / "v1")
    assert manifest.training["experiment"]["budget_s"] == 4.0
    assert {one["seed"] for one in manifest.training["experiment"]["models"]} <= {5, 6}
    assert manifest.metrics["review"]["false_positive_rate"] < 0.05
    assert len(list((tmp_path / "studies").iterdir())) >= 1
