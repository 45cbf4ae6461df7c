"""The export of a log with a holdout: a weight for each label, and what the blocked are beside what is known."""

import importlib.util
import shutil
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

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
