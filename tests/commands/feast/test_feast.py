"""A model's features in Feast: what its own client reads, as of a moment and online, is what the kernel computed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.feast.export import export_repository
from sentinel.commands.feast.files import connection
from sentinel.commands.feast.run import run_in_feast
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.errors import BundleProblem, DataProblem, InvalidDefinition
from sentinel.events.files import history_of_frame
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.features.key_views import views_of
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import read_manifest
from sentinel.record.online.layout import FeatureRow, encode_values
from sentinel.record.online.place import open_online

READ_BACK = """import json
import sys

import pandas as pd
from feast import FeatureStore

asked = json.load(sys.stdin)
store = FeatureStore(sys.argv[1])
found = {}
for name, view in asked["online"].items():
    features = [f"{name}:{one}" for one in view["columns"]]
    found[name] = store.get_online_features(features, view["entities"]).to_dict()
history = {}
for name, view in asked["historical"].items():
    entities = pd.DataFrame(view["entities"])
    entities["event_timestamp"] = pd.to_datetime(entities["event_timestamp"], unit="us", utc=True)
    entities["n"] = range(len(entities))
    features = [f"{name}:{one}" for one in view["columns"]]
    frame = store.get_historical_features(entities, features).to_df().set_index("n")
    frame = frame.reindex(entities["n"])  # rows of entities that nothing is known of then are left out
    history[name] = {one: [None if pd.isna(x) else x for x in frame[one]] for one in view["columns"]}
json.dump({"online": found, "historical": history}, sys.stdout)
"""  # run by Feast's own interpreter: its client takes JSON, and prints some
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def settings(shop_home):
    return Settings(home=shop_home)


def export(settings, shop_detector, frame, folder, redis="127.0.0.1:6379"):
    data = folder.with_suffix(".csv")
    frame.write_csv(data)
    return export_repository(settings, shop_detector, data, Reading(), folder, version=None, redis=redis, registry=None)


def computed(settings, frame):
    """The plan of v1, and the features of these transactions by its kernel."""
    plan = read_manifest(settings.models_folder / "v1").plan
    history = history_of_frame(frame, plan.schema).frame
    return plan, history, MemoryStore(plan).advance(columns_of_frame(plan.schema, history)).rows


def test_every_key_has_a_view_and_every_feature_is_in_one_of_transactions(settings):
    plan = read_manifest(settings.models_folder / "v1").plan
    views = {view.keys: view for view in views_of(plan)}
    assert list(views[("transaction_id",)].columns.values()) == list(range(len(plan.features)))
    for key in {part.key for feature in plan.features for part in feature.all_parts if part.key}:
        for place in views[key].columns.values():
            assert {part.key for part in plan.features[place].all_parts if part.key} == {key}


def test_a_feature_with_the_name_of_its_key_gets_another_one():
    views = {view.keys: view for view in views_of(load_detector("ieee").plan({}))}
    assert "card1" in views[("TransactionID",)].columns
    assert "card1" not in views[("card1",)].columns


def test_the_files_have_the_features_of_the_kernel(settings, shop_detector, shop_history, tmp_path):
    facts = export(settings, shop_detector, shop_history, tmp_path / "repository")
    plan, history, rows = computed(settings, shop_history)
    for view, of in zip(views_of(plan), facts.views, strict=True):
        written = pl.read_parquet(tmp_path / "repository" / "data" / f"{view.name}.parquet")
        last = history.with_row_index("row").drop_nulls(view.keys)
        last = last.unique([*view.keys, "event_time"], keep="last", maintain_order=True)
        assert len(written) == of.rows == len(last)
        for column, place in view.columns.items():
            expected = rows[last["row"].to_numpy(), place]
            assert np.array_equal(written[column].fill_null(np.nan).to_numpy(), expected, equal_nan=True), column


def test_of_two_payments_of_a_card_in_one_instant_the_later_one_is_kept(
    settings, shop_detector, shop_history, tmp_path
):
    twice = pl.concat([shop_history[:100], shop_history[99:100].with_columns(transaction_id=pl.lit("again"))])
    facts = export(settings, shop_detector, twice, tmp_path / "repository")
    by_keys = {tuple(one.probe): one.rows for one in facts.views}
    assert by_keys[("transaction_id",)] == 101
    assert by_keys[("card",)] == 100


@pytest.mark.parametrize(("redis", "said"), [("http://x", "write redis://"), ("redis://x/one", "write redis://")])
def test_an_address_that_is_none(redis, said):
    with pytest.raises(InvalidDefinition, match=said):
        connection(redis)


def test_a_repository_of_another_detector_is_refused(settings, shop_file, tmp_path):
    with pytest.raises(BundleProblem, match="is of the detector 'shop', not 'payments'"):
        export_repository(
            settings, "payments", shop_file, Reading(), tmp_path / "r", version=None, redis="x:1", registry=None
        )
    assert not (tmp_path / "r").exists()


def test_without_feast_it_says_how_to_have_it(settings, shop_detector, shop_history, tmp_path):
    with pytest.raises(DataProblem, match="no repository that `sentinel feast export` wrote"):
        run_in_feast(settings, "apply", tmp_path)
    export(settings, shop_detector, shop_history[:200], tmp_path / "r")
    with pytest.raises(InvalidDefinition, match="SENTINEL_FEAST_PYTHON"):
        run_in_feast(settings, "apply", tmp_path / "r")
    with pytest.raises(InvalidDefinition, match="cannot be run"):
        run_in_feast(msgspec.structs.replace(settings, feast_python=tmp_path / "none"), "apply", tmp_path / "r")
    broken = msgspec.structs.replace(settings, feast_python=Path(sys.executable))
    with pytest.raises(DataProblem, match=r"Feast could not apply .*No module named 'feast'"):
        run_in_feast(broken, "apply", tmp_path / "r")


class Repository:
    """A repository that grows, and what Feast's client reads of it."""

    def __init__(self, settings, feast_python, shop_detector, folder, redis):
        self.settings = msgspec.structs.replace(settings, feast_python=feast_python)
        self.detector, self.folder, self.redis, self.python = shop_detector, folder, redis, feast_python

    def export(self, frame):
        return export(self.settings, self.detector, frame, self.folder, self.redis)

    def run(self, action):
        return run_in_feast(self.settings, action, self.folder)

    def hows(self):
        return {one["view"]: one["how"] for one in self.run("materialize")["views"]}

    def read(self, online=None, historical=None):
        asked = json.dumps({"online": online or {}, "historical": historical or {}})
        done = subprocess.run([self.python, "-c", READ_BACK, self.folder], input=asked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout[done.stdout.index('{"online"') :])

    def check_online(self, frame):
        """The newest row of every key is online, to the bit."""
        plan, history, rows = computed(self.settings, frame)
        wanted, expected = {}, {}
        for view in views_of(plan):
            last = history.with_row_index("row").drop_nulls(view.keys)
            last = last.unique(list(view.keys), keep="last", maintain_order=True)[-150:]
            entities = {key: last[key].to_list() for key in view.keys}
            wanted[view.name] = {"columns": list(view.columns), "entities": entities}
            expected[view.name] = {name: rows[last["row"].to_numpy(), at] for name, at in view.columns.items()}
        found = self.read(online=wanted)["online"]
        for name, columns in expected.items():
            for column, values in columns.items():
                assert same(found[name][column], values), (name, column)


def same(found, expected):
    return np.array_equal(np.array([np.nan if one is None else one for one in found], float), expected, equal_nan=True)


@pytest.fixture
def repository(settings, feast_python, shop_detector, tmp_path, redis, flush):
    return Repository(settings, feast_python, shop_detector, tmp_path / "repository", redis)


@pytest.mark.timeout(1800)
def test_feast_reads_back_what_the_kernel_computed(repository, make_shop_frame, flush):
    """One walk, as each process of Feast takes half a minute to start: apply, full, nothing new, incremental, lost."""
    frame = make_shop_frame(3000)
    first = frame[:2500]
    repository.export(first)
    with pytest.raises(DataProblem, match="sentinel feast apply"):
        repository.run("materialize")
    assert "card_features" in repository.run("apply")["applied"]
    assert set(repository.hows().values()) == {"full"}
    repository.check_online(first)

    plan, history, rows = computed(repository.settings, first)
    view = next(one for one in views_of(plan) if one.keys == ("card",))
    sample = history.with_row_index("row").drop_nulls("card").sample(300, seed=1)
    before = sample.filter(pl.col("event_time") > 0)
    as_of = {
        "card": before["card"].to_list() + before["card"].to_list(),
        "event_timestamp": before["event_time"].to_list() + (before["event_time"] - 1).to_list(),
    }
    found = repository.read(historical={view.name: {"columns": list(view.columns), "entities": as_of}})
    of_card, lasts_us = history.with_row_index("row").drop_nulls("card"), plan.compiled.horizon_us
    for column, place in view.columns.items():
        expected = []
        for card, at in zip(as_of["card"], as_of["event_timestamp"], strict=True):
            earlier = of_card.filter(pl.col("card") == card, pl.col("event_time").is_between(at - lasts_us, at))
            expected.append(rows[earlier["row"][-1], place] if len(earlier) else np.nan)
        got = found["historical"][view.name][column]
        assert same(got, np.array(expected)), (column, list(zip(got, expected, strict=True))[:5])

    assert set(repository.hows().values()) == {"no new rows"}
    repository.export(frame)
    assert set(repository.hows().values()) == {"incremental"}
    repository.check_online(frame)
    flush()
    assert set(repository.hows().values()) == {"full"}
    repository.check_online(frame)


def newest_live(repository, frame, view):
    """Writes later features of some cards, as the live view does, before the refill brings all of the history."""
    store = open_online(repository.settings.home, "shop", repository.redis)
    rng = np.random.default_rng(3)
    cards = frame["card"].unique().sort()[:20].to_list()
    rows = rng.normal(size=(len(cards), len(view.columns)))
    rows[0, 0] = np.nan
    after_us, far_ms = int(frame["event_time"].max()) + DAY_US, 4_000_000_000_000
    written = [FeatureRow((card,), after_us, far_ms, one) for card, one in zip(cards, encode_values(rows), strict=True)]
    assert store.write_features(view.name, view.keys, list(view.columns), written) == len(cards)
    store.close()
    return dict(zip(cards, rows, strict=True))


@pytest.mark.timeout(1800)
def test_feast_reads_what_was_written_live_and_an_older_refill_does_not_replace_it(repository, make_shop_frame):
    frame = make_shop_frame(300)
    repository.export(frame)
    repository.run("apply")
    plan, _, _ = computed(repository.settings, frame)
    view = next(one for one in views_of(plan) if one.keys == ("card",))
    live = newest_live(repository, frame, view)
    assert set(repository.hows().values()) == {"full"}
    asked = {"columns": list(view.columns), "entities": {"card": list(live)}}
    found = repository.read(online={view.name: asked})["online"][view.name]
    for place, column in enumerate(view.columns):
        assert same(found[column], np.array([features[place] for features in live.values()])), column


def test_the_command_exports(settings, shop_detector, shop_file, tmp_path):
    folder = tmp_path / "repository"
    asked = ["feast", "export", str(folder), "--data", str(shop_file), "--detector", shop_detector]
    done = CliRunner().invoke(app, [*asked, "--home", str(settings.home), "--redis", "redis://:pw@h:1/2", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model_version"] == "v1"
    assert (folder / "feature_store.yaml").stat().st_mode & 0o077 == 0
    compile((folder / "definitions.py").read_text(), "definitions.py", "exec")
    shutil.rmtree(folder)
