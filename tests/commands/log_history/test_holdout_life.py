"""A holdout from its declaration to the next training: manifest, answers over HTTP, export, weights."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.model.bundle import read_manifest
from sentinel.policy.holdout import Holdout

HOST = "127.0.0.1"
DETECTOR = """import msgspec
from sentinel import Holdout
from sentinel.detectors import load_detector

shop = load_detector({shop!r})
detector = msgspec.structs.replace(
    shop, holdout=Holdout(share=0.25, most_amount=400.0, budget_a_day=1e6, seed="a seed that nobody knows")
)
"""
BEGIN_S = 1_738_400_000


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout)


def payment(i):
    return {
        "transaction_id": f"p{i}", "event_time": BEGIN_S + 240 * i, "amount": 1 + 7 * i % 290, "card": f"card-{i % 50}",
        "shop": f"shop-{i % 9}", "channel": "web", "risk": 0.1,
    }  # fmt: skip


@pytest.fixture
def detector(shop_detector, tmp_path):
    path = tmp_path / "held.py"
    path.write_text(DETECTOR.format(shop=str(Path(shop_detector).resolve())))
    return path


def test_from_the_declaration_to_the_next_training(detector, shop_file, tmp_path, post):
    home, out = tmp_path / "home", tmp_path / "next.parquet"
    run("train", "--detector", detector, "--data", shop_file, "--quick", "--home", home)
    manifest = read_manifest(home / "models" / "v1")
    declared = Holdout(share=0.25, most_amount=400.0, budget_a_day=1e6, seed="a seed that nobody knows")
    assert manifest.holdout["share"] == 0.25
    server = ServerProcess(home, HOST, free_port(HOST))
    try:
        server.start()
        post(server.port, "/admin/thresholds", {"review": 0.05, "block": 0.05})
        answers = []
        for begin in range(0, 1_200, 100):
            answers += post(server.port, "/v1/score", [payment(i) for i in range(begin, begin + 100)])
        held = [one for one in answers if one.get("holdout")]
        assert held
        assert all((one["decision"], one["would_be"]) == ("approve", "block") for one in held)
        assert all(declared.chooses(one["transaction_id"]) for one in held)
        blocked = [one for one in answers if one["decision"] == "block"]
        assert blocked
        assert not any(declared.chooses(one["transaction_id"]) for one in blocked)
        frauds = [one["transaction_id"] for one in answers if one["decision"] == "approve"][::3]
        post(server.port, "/v1/outcomes", [{"transaction_id": name, "is_fraud": True} for name in frauds])
    finally:
        server.stop()
    asked = ["--label-delay", "1s", "--as-of", "2025-06-01", "--home", home]
    done = run("history", "export", out, *asked)
    assert (done["blocked"]["held_out"], done["blocked"]["eligible"]) == (len(held), len(held) + len(blocked))
    assert run("history", "blocked", *asked)["recall"] == done["blocked_recall"]
    frame = pl.read_parquet(out)
    assert frame.filter("log.holdout")["log.weight"].unique().to_list() == [4.0]
    shutil.rmtree(home)
    run("train", "--detector", detector, "--data", out, "--quick", "--home", home)
    training = read_manifest(home / "models" / "v1").training
    labelled = frame.filter(pl.col("log.weight").is_not_null())
    assert sum(training["rows"].values()) == len(labelled)
    assert sum(training["stand_for"].values()) == len(labelled) + 3 * len(held)
