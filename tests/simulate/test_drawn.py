"""Rows that are drawn on their own: the seven numbers of `velocity`, and a file of the shape of `creditcard`."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame, read_history
from sentinel.events.reading import Reading
from sentinel.model.registry import Registry
from sentinel.simulate.creditcard import COMPONENTS, creditcard_rows
from sentinel.simulate.velocity import velocity_numbers
from sentinel.train.pipeline import train

VELOCITY, CREDITCARD = load_detector("velocity"), load_detector("creditcard")


@pytest.fixture(scope="module")
def numbers():
    return velocity_numbers(48_000, 2_000, 42)


def test_the_columns_are_those_of_sentinel_stream(numbers):
    assert numbers.columns == [
        "amount", "hour_of_day", "days_since_last_txn", "txn_count_24h", "distinct_merchants_24h", "avg_amount_7d",
        "channel_online", "is_fraud",
    ]  # fmt: skip
    assert len(numbers) == 50_000


def test_the_api_would_take_every_row(numbers):
    assert len(history_of_frame(numbers, VELOCITY.schema, Reading(strict=True))) == 50_000
    for name in ("hour_of_day", "txn_count_24h", "distinct_merchants_24h", "channel_online"):
        assert (numbers[name] == numbers[name].round()).all()
    assert numbers["hour_of_day"].min() == 0
    assert numbers["hour_of_day"].max() == 23
    assert set(numbers["channel_online"].unique()) == {0.0, 1.0}
    assert (numbers["distinct_merchants_24h"] <= numbers["txn_count_24h"]).all()


def test_four_labels_in_a_thousand_are_turned_round():
    """The labels are drawn last: without the flips the same rows would be all frauds, or none."""
    flipped_legitimate = velocity_numbers(100_000, 1, 1)["is_fraud"].sum()
    assert 399 <= flipped_legitimate <= 401
    frauds = velocity_numbers(1, 100_000, 1)["is_fraud"].sum()
    assert 99_600 <= frauds <= 99_602


def test_the_distributions_are_the_published_ones():
    """Means and shares within five standard errors of what was published (the noise has the mean zero)."""
    legitimate, frauds = (velocity_numbers(*kind, 3) for kind in ((200_000, 1), (1, 200_000)))
    expected = {
        "amount": (np.exp(3.5 + 0.5), np.exp(5.2 + 1.1**2 / 2)),
        "txn_count_24h": (2.0, 14.0),
        "days_since_last_txn": (2.0, 0.155),
        "avg_amount_7d": (np.exp(3.2 + 0.32), np.exp(3.0 + 0.405)),
        "channel_online": (0.35, 0.72),
        "hour_of_day": (11.5, 0.45 * 2.5 + 0.55 * 11.5),
    }
    for name, means in expected.items():
        for frame, mean in zip((legitimate, frauds), means, strict=True):
            assert frame[name].mean() == pytest.approx(mean, rel=0.03), name


def test_the_same_seed_draws_the_same_rows(numbers):
    assert numbers.equals(velocity_numbers(48_000, 2_000, 42))
    assert not numbers.equals(velocity_numbers(48_000, 2_000, 43))


def test_a_model_passes_the_floors_of_sentinel_stream(tmp_path, numbers):
    """Its gate asks for an average precision of 0.72 and an AUC of 0.82."""
    metrics = train(VELOCITY, history_of_frame(numbers, VELOCITY.schema), Registry(tmp_path), lambda *_: None).metrics
    assert metrics["average_precision"]["value"] > 0.72
    assert metrics["auc_roc"]["value"] > 0.82


def test_a_file_of_the_shape_of_the_card_data(tmp_path):
    frame = creditcard_rows(28_000, 60, 7)
    assert frame.columns == ["Time", *COMPONENTS, "Amount", "Class"]
    assert frame["Time"].is_sorted()
    assert frame["Class"].sum() == 60
    frame.write_csv(tmp_path / "creditcard.csv")
    history = read_history(tmp_path / "creditcard.csv", CREDITCARD.schema, Reading(strict=True))
    assert len(history) == 28_060
    precision = train(CREDITCARD, history, Registry(tmp_path), lambda *_: None).metrics["average_precision"]
    assert precision["value"] > 0.3
    assert precision["value"] < 0.999  # some frauds look like legitimate payments


def test_the_command_draws(tmp_path):
    out = tmp_path / "v.parquet"
    asked = ["simulate", "--detector", "velocity", "--legit", "900", "--fraud", "100", "--out", str(out), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["transactions"] == len(pl.read_parquet(out)) == 1_000


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--legit", "5"], "belong together"),
        (["--legit", "5", "--fraud", "5", "-n", "10"], "no place for --transactions"),
        (["--legit", "5", "--fraud", "5", "--detector", "payments"], "say --transactions"),
        (["--legit", "5", "--fraud", "0", "--detector", "velocity"], "at least one of each"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, asked, said):
    done = CliRunner().invoke(app, ["simulate", "--out", str(tmp_path / "v.csv"), *asked])
    assert done.exit_code == 1
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "v.csv").exists()
