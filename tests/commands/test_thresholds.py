"""The table of thresholds, its picture, and what if: from a model that was trained, and from a log."""

import json
import shutil

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from sentinel import Costs, LeastLoss
from sentinel.cli import app
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.model.bundle import read_manifest
from sentinel.model.registry import Registry
from sentinel.record.applied import log_folder
from sentinel.record.entries import schema_id
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.train.pipeline import train

DAY_US = 86_400_000_000
BEGIN_US = 1_740_787_200_000_000  # 2025-03-01
COSTS = Costs(false_alarm=10.0, review=5.0, challenge=0.5, challenge_lost=0.03, challenge_stops=0.8)


@pytest.fixture(scope="module")
def home(tmp_path_factory, shop_home, shop_detector, shop_history, made):
    """v1, as it is; v2, of least loss with challenges; and ten days of decisions of v1, most with their outcomes."""
    home = tmp_path_factory.mktemp("thresholds") / "home"
    shutil.copytree(shop_home / "models", home / "models")
    detector = msgspec.structs.replace(load_detector(shop_detector), policy=LeastLoss(costs=COSTS, challenge=True))
    train(detector, history_of_frame(shop_history, detector.schema), Registry(home / "models"), lambda *_: None)
    rng, log = np.random.default_rng(3), FileLog(log_folder(home), BEGIN_US)
    for day in range(10):
        rows = [
            {
                "id": f"d{day}-{n}",
                "score": float(score),
                "action": "review" if score > 0.5 else "approve",
                "amount": 60.0,
            }
            for n, score in enumerate(rng.random(30))
        ]
        position = log.write(Kind.DECIDED, 30, BEGIN_US + day * DAY_US, made.decided(rows, schema_id(detector.schema)))
        outcomes = [
            {"id": row["id"], "is_fraud": bool(rng.random() < row["score"] ** 4), "about": position + n}
            for n, row in enumerate(rows[:25])
        ]
        log.write(Kind.OUTCOMES, 25, BEGIN_US + day * DAY_US + 1, made.outcomes(outcomes))
    log.close()
    return home


def run(home, *given, code=0, as_json=True):
    done = CliRunner().invoke(app, ["models", *given, "--home", str(home), *(["--json"] if as_json else [])])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if as_json and not code else " ".join(done.stderr.split())


def test_the_sweep_of_a_model_has_its_own_thresholds_and_the_cheapest(home):
    found = run(home, "thresholds", "v2")
    manifest = msgspec.to_builtins(read_manifest(home / "models" / "v2"))
    assert found["now"]["thresholds"] == manifest["thresholds"]
    assert found["costs"] == msgspec.to_builtins(COSTS)
    assert found["now"]["cost_a_day"] == pytest.approx(manifest["metrics"]["effects"]["cost_a_day"]["value"])
    assert found["cheapest"]["cost"] == min(row["cost"] for row in found["rows"])
    assert found["cheapest"]["cost"] <= found["now"]["cost"] + 1e-9
    reviews = [row["reviews_a_day"] + row["blocks_a_day"] for row in found["rows"]]
    assert reviews == sorted(reviews, reverse=True)
    assert found["measured_on"] == "the test part of its history"


def test_other_costs_move_the_cheapest_threshold(home):
    dear, cheap = (run(home, "thresholds", "v1", "--costs", f"review={cost}")["cheapest"] for cost in (200, 0.01))
    assert dear["reviews_a_day"] < cheap["reviews_a_day"]


def test_for_people_it_is_a_table(home, tmp_path):
    said = run(home, "thresholds", "v2", "--move", "challenge", "--plot", str(tmp_path / "sweep.png"), as_json=False)
    assert "from cost a day precision recall F1 challenges reviews blocks a day" in said
    assert "as it is" in said
    assert "cheapest" in said
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_log_is_swept_as_far_as_outcomes_are_known(home):
    found = run(home, "thresholds", "v1", "--from", "2025-03-02", "--to", "2025-03-09")
    assert found["measured_on"].startswith("175 of 210 transactions from 2025-03-02T00:00:00Z to 2025-03-09T00:00:00Z")
    everything = found["rows"][0]
    assert everything["thresholds"]["review"] == 0
    assert everything["reviews_a_day"] + everything["blocks_a_day"] == pytest.approx(210 / 6)


def test_what_if_says_what_other_thresholds_would_have_done(home):
    found = run(
        home, "what-if", "v1", "--from", "2025-03-01", "--review", "0.8", "--block", "0.95", "--challenge", "0.6"
    )
    assert (found["transactions"], found["judged"]) == (300, 250)
    assert found["was"]["decisions"]["challenge"] == 0
    assert 0 < found["would_be"]["decisions"]["review"] < found["was"]["decisions"]["review"]
    assert found["moved"]["review"]["challenge"] > 0
    assert len(found["was"]["days"]) == len(found["would_be"]["days"]) == 10
    said = run(home, "what-if", "v1", "--review", "0.8", as_json=False)
    assert "300 transactions scored by v1 from 2025-03-01T00:00:00Z to 2025-03-10T00:00:00Z" in said
    assert "with review from 0.8: as it was would be" in said
    assert "no transaction is known to be legitimate" not in said


def test_silence_counts_as_legitimate_once_it_is_old_enough(home):
    given = ("what-if", "v1", "--review", "0.8")
    assert run(home, *given, "--label-delay", "30d")["judged"] == 300
    assert run(home, *given, "--label-delay", "36500d")["judged"] == 250


def test_where_only_frauds_are_told_of_it_says_what_that_does_to_the_cost(tmp_path, home, made):
    shutil.copytree(home / "models", tmp_path / "models")
    log, schema = FileLog(log_folder(tmp_path), BEGIN_US), read_manifest(home / "models" / "v1").plan.schema
    rows = [{"id": f"d{n}", "score": n / 30, "amount": 60.0} for n in range(30)]
    position = log.write(Kind.DECIDED, 30, BEGIN_US, made.decided(rows, schema_id(schema)))
    said = run(tmp_path, "what-if", "v1", "--review", "0.8", as_json=False)
    assert "no transaction is known to be legitimate" in said
    assert " cost " not in said.partition("would be")[2].partition("note:")[0]
    outcomes = [{"id": "d29", "is_fraud": True, "about": position + 29}]
    log.write(Kind.OUTCOMES, 1, BEGIN_US + 1, made.outcomes(outcomes))
    log.close()
    assert "no transaction is known to be legitimate" in run(
        tmp_path, "what-if", "v1", "--review", "0.8", as_json=False
    )
    heard = run(tmp_path, "what-if", "v1", "--review", "0.8", "--label-delay", "30d", as_json=False)
    assert "no transaction is known to be legitimate" not in heard


def test_without_thresholds_it_is_those_of_the_model(home):
    found = run(home, "what-if", "v1")
    assert found["thresholds"] == read_manifest(home / "models" / "v1").thresholds


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["thresholds", "v7"], "v7"),
        (["thresholds", "v1", "--move", "approve"], "--move is 'approve'; choose one of challenge, review, block"),
        (["thresholds", "v1", "--costs", "revue=3"], "there is no 'revue'; use missed_fraud_share"),
        (["thresholds", "v1", "--costs", "review=much"], "review is 'much'; give a number"),
        (["thresholds", "v1", "--costs", "review=-3"], "review is -3.0; give an amount"),
        (["thresholds", "v1", "--plot", "x.gif"], "end the name in .png"),
        (["thresholds", "v1", "--from", "2031-01-01"], "v1 scored nothing from 2031-01-01"),
        (["thresholds", "v1", "--from", "soon"], "soon"),
        (["what-if", "v1", "--from", "2025-03-05", "--to", "2025-03-04"], "must be later than --from"),
        (["thresholds", "v1", "--label-delay", "7d"], "--label-delay is for the log"),
        (["what-if", "v1", "--label-delay", "soon"], "soon"),
        (["what-if", "v1", "--block", "0.5"], "give --review as well"),
        (["what-if", "v1", "--review", "0.5", "--block", "0.4"], "--review, and that at most --block"),
        (["what-if", "v1", "--review", "1.5"], "thresholds are from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(home, given, text):
    assert text in run(home, *given, code=1)


def test_a_model_of_before_says_that_it_has_to_be_trained_anew(home, tmp_path, shop_home):
    copy = tmp_path / "home"
    shutil.copytree(shop_home, copy)
    path = copy / "models" / "v1" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["metrics"]["score_curve"], manifest["policy"]
    path.write_text(json.dumps(manifest))
    Registry(copy / "models").record("v1", path.read_bytes(), "accepted")
    assert "trained before thresholds could be compared" in run(copy, "thresholds", "v1", code=1)
