"""The export of a log with a holdout: a weight for each label, and what the blocked are beside what is known."""

import importlib.util
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.log_history.blocked import Blocked
from sentinel.commands.log_history.export import Asked, export_history
from sentinel.config import Settings
from sentinel.events.reading import Reading
from sentinel.model.bundle import load_bundle
from sentinel.policy.holdout import Holdout
from sentinel.policy.thresholds import Thresholds
from sentinel.review.held_out import estimate_blocked
from sentinel.serve.lineup import Contender, Lineup


@pytest.fixture
def home(shop_home, tmp_path):
    """A home that blocks what scores 0.1 or more, but for a fifth; every third payment is fraud, where it is seen."""
    path = Path(__file__).parents[2] / "serve" / "conftest.py"
    spec = importlib.util.spec_from_file_location("serve_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "home"
    shutil.copytree(shop_home, folder)
    bundle = load_bundle(folder / "models" / "v1")
    bundle.holdout = Holdout(share=0.2, most_amount=250.0, budget_a_day=1e6, seed="a seed that nobody knows")
    home = module.Home(folder, Lineup(1, Contender(bundle, Thresholds(review=0.1, block=0.1))))
    home.open()
    home.pay(range(900), at_once=50)
    seen = [i for i, row in enumerate(home.decisions()) if row.decision == "approve" and i % 3 == 0]
    home.handle([home.outcome(i) for i in seen])
    home.rows = home.decisions()
    home.close()
    return home


def test_labels_of_the_held_out_stand_for_those_that_were_not(home, tmp_path):
    out = tmp_path / "next.parquet"
    done = export_history(
        Settings(home=home.folder), Asked(out, delay="1s", as_of="2025-06-01"), Reading(), lambda *_: None
    )
    frame = pl.read_parquet(out)
    eligible = frame.filter(pl.col("log.propensity").is_not_null())
    held = frame.filter("log.holdout")
    assert held["log.weight"].to_list() == [5.0] * len(held)
    assert eligible.filter(~pl.col("log.holdout"))["log.weight"].to_list() == [None] * (len(eligible) - len(held))
    through = frame.filter(pl.col("log.propensity").is_null() & ~pl.col("log.blocked"))
    assert through["log.weight"].to_list() == [1.0] * len(through)
    assert len(through) > 0
    drawn = {row.transaction_id: row.drawn.is_approved for row in home.rows if row.drawn is not None}
    assert dict(eligible.select("transaction_id", "log.holdout").iter_rows()) == drawn
    labels = (held["is_fraud"] == "1").to_numpy()
    by_hand = estimate_blocked(np.full(len(held), 0.2), labels, len(eligible))
    assert msgspec.structs.astuple(done.blocked) == msgspec.structs.astuple(by_hand)
    frauds = int((through["is_fraud"] == "1").sum())
    assert done.fraud_share == by_hand.fraud_share(frauds, len(through))
    assert done.fraud_share_known == pytest.approx((frauds + labels.sum()) / (len(through) + len(held)))
    assert f"{len(eligible):,} could have been held out, {len(held):,} were" in done.said_of_blocked[0]
    assert "by the labels alone" in done.said_of_blocked[1]
    assert done.blocked_recall == by_hand.recall(frauds)
    assert f"turning them away finds {done.blocked_recall.estimate:.1%} of all fraud" in done.said_of_blocked[2]


def test_precision_and_recall_of_blocking_without_a_file(home):
    """The truth of a simulation: of the blocked every third is fraud, and so it is of those that got through."""
    asked = ["history", "blocked", "--label-delay", "1s", "--as-of", "2025-06-01", "--home", str(home.folder)]
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    is_fraud = {f"t{i}": i % 3 == 0 for i in range(900)}
    names = [row.transaction_id for row in home.rows if row.drawn is not None]
    assert found["blocked"]["eligible"] == len(names)
    blocked = sum(is_fraud[name] for name in names)
    assert found["blocked"]["low"] < blocked / len(names) < found["blocked"]["high"]
    assert found["recall"]["low"] < blocked / 300 < found["recall"]["high"]
    assert found["fraud_share"]["low"] < 1 / 3 < found["fraud_share"]["high"]
    shown = CliRunner().invoke(app, asked)
    assert "turning them away finds" in shown.output
    nothing = CliRunner().invoke(app, [*asked, "--from", "2090-01-01"])
    assert nothing.exit_code == 1


def test_a_log_without_a_holdout_says_so():
    found = Blocked(
        blocked=estimate_blocked(np.zeros(0), np.zeros(0, np.bool_), 0), recall=None, fraud_share=None,
        fraud_share_known=0.01, label_delay_days=30.0, as_of="2025-06-01T00:00:00Z",
    )  # fmt: skip
    assert found.said == ["no transaction of that time could have been held out; a detector needs a `Holdout` for it"]
