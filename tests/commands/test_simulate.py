import json

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.cli.training import metric_lines
from sentinel.commands.simulate import simulate_to_file
from sentinel.detectors import load_detector
from sentinel.errors import InvalidDefinition
from sentinel.events.files import read_history
from sentinel.events.reading import Reading
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.fallback import Fallback
from sentinel.policy.thresholds import Action, Thresholds
from sentinel.simulate.payments import simulate
from sentinel.train.pipeline import train

VELOCITY = load_detector("velocity")


@pytest.fixture(scope="module")
def velocity_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("velocity") / "v.parquet"
    facts = simulate_to_file(path, 30_000, 42, "velocity")
    assert facts["frauds"] == 210
    return path


def test_velocity_rows_are_what_the_detector_reads(velocity_file):
    frame = read_history(velocity_file, VELOCITY.schema, Reading(strict=True)).frame
    assert set(frame.columns) == {*VELOCITY.schema.fields, "is_fraud"}
    assert len(frame) == 30_000


def test_velocity_rows_say_what_happened_to_the_card(velocity_file):
    payments, rows = simulate(30_000, 42), pl.read_parquet(velocity_file)
    card = payments["card_id"].value_counts().sort("count", "card_id")["card_id"][-1]
    mine = payments.with_row_index("row").filter(pl.col("card_id") == card)
    pauses = mine["event_time"].diff().dt.total_microseconds() / 86_400e6
    found = rows[mine["row"].to_list()]
    assert found["days_since_last_txn"].to_list() == pytest.approx(pauses.clip(0, 30).fill_null(30).to_list())
    for at, count, merchants, mean in found.select(
        "event_time", "txn_count_24h", "distinct_merchants_24h", "avg_amount_7d"
    ).iter_rows():
        age = at - pl.col("event_time")
        since = mine.filter(age >= pl.duration(), age < pl.duration(hours=24))
        assert (count, merchants) == (len(since), since["merchant_id"].n_unique())
        week = mine.filter(age >= pl.duration(), age < pl.duration(days=7))
        assert mean == pytest.approx(week["amount"].mean())
    assert found["hour_of_day"].to_list() == mine["event_time"].dt.hour().to_list()
    assert found["channel_online"].to_list() == (mine["channel"] == "online").cast(pl.Float64).to_list()


def test_a_model_learns_from_them_and_carries_its_rules(tmp_path, velocity_file):
    registry = Registry(tmp_path)
    manifest = train(VELOCITY, read_history(velocity_file, VELOCITY.schema), registry, lambda *_: None)
    precision, amount = manifest.metrics["average_precision"], manifest.metrics["baselines"]["amount"]
    assert precision["value"] > 3 * amount["value"]
    assert precision["low"] > 2 * amount["value"], "by card, of which few have a fraud"
    assert manifest.metrics["block"] is None
    assert "  block: never" in metric_lines(manifest.version, manifest.metrics)
    stored = load_bundle(registry.folder / manifest.version).manifest
    assert msgspec.convert(stored.fallback, Fallback) == VELOCITY.fallback
    thresholds = msgspec.convert(stored.thresholds, Thresholds)
    assert thresholds.action(1.0) == Action.REVIEW


def test_payments_are_written_for_known_detectors_only(tmp_path):
    with pytest.raises(InvalidDefinition, match="'ieee'; take payments or velocity"):
        simulate_to_file(tmp_path / "x.csv", 50, 1, "ieee")


def test_the_command_takes_the_detector(tmp_path):
    out = tmp_path / "v.csv"
    done = CliRunner().invoke(app, ["simulate", "--detector", "velocity", "-n", "500", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["transactions"] == 500
    assert len(read_history(out, VELOCITY.schema, Reading(strict=True))) == 500
