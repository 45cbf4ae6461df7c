"""A home that lived: what it decided is exported, replays to the same bits, and trains the next model."""

import json
import random
import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.detectors import load_detector
from sentinel.events.context_files import read_whole_history
from sentinel.events.files import history_of_frame
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import MODEL_FILE, read_manifest
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.feature_state import first_after_history
from sentinel.record.log_reader import FileLogReader
from sentinel.record.retrainings import runs_of
from sentinel.train.pipeline import train
from sentinel.train.rows.dataset import replay

HOST = "127.0.0.1"
BEGIN_S = 1_738_400_000
COUNTING = """import msgspec
from sentinel import count, seconds_since
from sentinel.detectors import load_detector

shop = load_detector({shop!r})
since = seconds_since("refund", by="card")
detector = msgspec.structs.replace(shop, features=(*shop.features, count(event="login", by="card", over="1d"), since))
"""


def payment(i, rng):
    late = rng.choice((0, 0, 0, 900))
    return {
        "transaction_id": f"t{i}", "event_time": BEGIN_S + 240 * i - late, "amount": 5 + 7 * i % 290,
        "card": f"card-{rng.randint(0, 20)}", "shop": f"shop-{rng.randint(0, 4)}",
        "channel": rng.choice(("web", "chip", None)), "risk": rng.random(),
    }  # fmt: skip


def live(post, port, rng):
    """Payments, some late, with events and outcomes between them; some outcomes are taken back or contradicted."""
    for begin in range(0, 2_000, 20):
        post(port, "/v1/score", [payment(i, rng) for i in range(begin, begin + 20)])
        at = BEGIN_S + 240 * (begin + 20)
        events = [
            {"event": rng.choice(("login", "password_change")), "event_id": f"e{begin}-{n}", "event_time": at,
             "card": f"card-{rng.randint(0, 20)}"}
            for n in range(3)
        ]  # fmt: skip
        events.append(
            {"event": "refund", "event_id": f"r{begin}", "event_time": at, "card": "card-1", "shop": "s", "amount": 2.5}
        )
        post(port, "/v1/events", events)
        told = rng.sample(range(begin + 20), 3)
        post(port, "/v1/outcomes", [
            {"transaction_id": f"t{i}", "is_fraud": rng.random() < 0.7, "time": BEGIN_S + 240 * max(i, begin) + 3600}
            for i in told
        ])  # fmt: skip


@pytest.fixture(scope="module")
def lived(tmp_path_factory, make_shop_frame, post):
    """A home with 2,000 decisions of a model, and the history that it was trained on."""
    folder = tmp_path_factory.mktemp("lived")
    file = folder / "counting.py"
    file.write_text(COUNTING.format(shop=str(Path(__file__).parents[2] / "shop_with_events_detector.py")))
    detector = load_detector(str(file))
    home, earlier = folder / "home", folder / "earlier.parquet"
    make_shop_frame(6000).write_parquet(earlier)
    history = history_of_frame(make_shop_frame(6000), detector.schema)
    HomeDeployment(home).promote(train(detector, history, Registry(home / "models"), lambda *_: None).version)
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        live(post, server.port, random.Random(3))
        undone = CliRunner().invoke(
            app, ["outcomes", "revoke", "--key", "operator", "--reason", "of a test", "--home", str(home), "--json"]
        )
        assert json.loads(undone.stdout)["outcomes"] > 100
        live_again = random.Random(4)
        post(
            server.port,
            "/v1/outcomes",
            [
                {
                    "transaction_id": f"t{i}",
                    "is_fraud": True,
                    "time": BEGIN_S + 240 * i + live_again.randint(1, 200_000),
                }
                for i in range(0, 2_000, 9)
            ],
        )
        post(server.port, "/v1/score", [payment(i, live_again) for i in range(2_000, 2_100)])
    finally:
        server.stop()
    return home, earlier, file


def export(home, out, *given):
    done = CliRunner().invoke(app, ["history", "export", str(out), "--home", str(home), "--json", *map(str, given)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_replay_of_the_export_gives_the_stored_features_to_the_bit(lived, tmp_path):
    home, earlier, _ = lived
    said = export(
        home, tmp_path / "h.parquet", "--with", earlier, "--events-file", tmp_path / "e.parquet", "--label-delay", "1d"
    )
    assert (said["transactions"], said["earlier"], said["context_events"]) == (8_100, 6_000, 400)
    plan = read_manifest(Registry(home / "models").path("v1")).plan
    history = read_whole_history(tmp_path / "h.parquet", plan.schema, Reading(events=tmp_path / "e.parquet"))
    assert not history.skipped
    rows = replay(
        MemoryStore(plan), columns_of_frame(plan.schema, history.frame, None, history.context), lambda *_: None
    )
    stored = pl.read_parquet(tmp_path / "h.parquet")
    assert stored["transaction_id"].to_list() == history.frame["transaction_id"].to_list()
    online = stored[6_000:].select([f"feature.{name}" for name in plan.names]).to_numpy()
    differs = rows[6_000:].view(np.int64) != online.view(np.int64)
    at = [(int(i), plan.names[j], rows[6_000 + i, j], online[i, j]) for i, j in np.argwhere(differs)[:8]]
    assert not differs.any(), (differs.sum(axis=0).tolist(), at)
    assert stored["log.late"][6_000:].sum() > 50
    assert np.nanmax(online[:, list(plan.names).index("fraud_rate_by_shop_7d_delayed_1d")]) > 0


def test_the_next_model_trains_on_it_and_its_state_goes_on_behind_it(lived, tmp_path):
    home, earlier, file = lived
    shutil.copytree(home, tmp_path / "home")
    home = tmp_path / "home"
    export(
        home, tmp_path / "h.parquet", "--with", earlier, "--events-file", tmp_path / "e.parquet", "--label-delay", "1d"
    )
    given = ["--data", tmp_path / "h.parquet", "--events-file", tmp_path / "e.parquet", "--detector", file]
    done = CliRunner().invoke(app, ["train", *map(str, given), "--home", str(home), "--json"])
    assert done.exit_code == 0, done.output
    manifest = read_manifest(Registry(home / "models").path("v2"))
    with closing(FileLogReader(log_folder(home))) as log:
        assert (manifest.history.log_id, manifest.history.transactions) == (log.log_id, 8_100)
        assert first_after_history(log, manifest) == manifest.history.log_end
        assert log.at(manifest.history.log_end - 1)


def test_labels_wait_until_they_are_mature_and_silence_says_nothing_before(lived, tmp_path):
    home, _, _ = lived
    young = export(home, tmp_path / "a.parquet", "--label-delay", "3650d")
    assert (young["fraud"], young["legitimate"], young["immature"]) == (0, 0, 2_100)
    mature = export(home, tmp_path / "b.parquet", "--label-delay", "2d", "--csv")
    frame = pl.read_parquet(tmp_path / "b.parquet")
    newest = max(frame["event_time"].max(), frame["log.outcome_time"].max())
    is_old = frame["event_time"] <= newest - timedelta(days=2)
    assert frame.filter(~is_old)["is_fraud"].null_count() == (~is_old).sum() == mature["immature"]
    told = frame.filter(is_old & frame["log.outcome_time"].is_not_null())
    assert set(told["is_fraud"]) == {"1"}, "what was told before is taken back, and every ninth told anew"
    silent = frame.filter(is_old & frame["log.outcome_time"].is_null())
    assert (
        silent.filter("log.blocked")["is_fraud"].null_count()
        == mature["blocked_unknown"]
        == silent["log.blocked"].sum()
    )
    assert set(silent.filter(~pl.col("log.blocked"))["is_fraud"]) == {"0"}
    schema = read_manifest(Registry(home / "models").path("v1")).plan.schema
    one, other = (read_whole_history(tmp_path / f"b.{end}", schema, Reading()) for end in ("parquet", "csv"))
    assert one.frame.equals(other.frame)


def test_a_part_of_the_log_by_when_it_was_received(lived, tmp_path):
    home, _, _ = lived
    received = pl.read_parquet(export(home, tmp_path / "a.parquet")["out"])["log.received_us"]
    middle = received[1_000]
    first = export(home, tmp_path / "b.parquet", "--to", middle / 1e6)
    rest = export(home, tmp_path / "c.parquet", "--from", middle / 1e6)
    assert first["transactions"] == (received < middle).sum()
    assert first["transactions"] + rest["transactions"] == 2_100


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["h.txt"], "told by its ending"),
        (["nowhere/h.parquet"], "there is no folder"),
        (["h.parquet", "--to", "2020-01-01"], "nothing was decided"),
        (["h.parquet", "--label-delay", "soon"], "soon"),
        (["h.parquet", "--with", "none.csv"], "there is no file"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(lived, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["history", "export", *given, "--home", str(lived[0])])
    assert done.exit_code == 1
    assert said in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_the_delay_of_the_labels_of_a_log(lived):
    done = CliRunner().invoke(app, ["history", "delay", "--home", str(lived[0]), "--json"])
    found = json.loads(done.stdout)
    assert found["delay"]["frauds"] == len(range(0, 2_000, 9))
    assert 150_000 < found["delay"]["mature_us"] / 1e6 < 201_000, "told within 200,000 seconds, evenly"
    said = CliRunner().invoke(app, ["history", "delay", "--home", str(lived[0])])
    assert "95% are known within" in said.stderr


def test_a_retraining_without_a_file_learns_from_the_log(lived, tmp_path):
    home, earlier, file = lived
    home = shutil.copytree(home, tmp_path / "home")
    asked = ["retrain", "--with", str(earlier), "--detector", str(file), "--home", str(home), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code in (0, 1), done.output
    run = json.loads(done.stdout)
    found = {one["name"]: one["found"] for one in run["steps"]}
    assert (found["collect"]["exported"]["transactions"], found["collect"]["exported"]["earlier"]) == (8_100, 6_000)
    assert found["train"]["transactions"] == 8_100
    compared = found["gate"]["compared"]
    assert compared["transactions"] > 100, "on what is later than the champion's history, and mature"
    assert run["ended"] == ("shadow" if found["gate"]["passed"] else "refused")
    again = CliRunner().invoke(app, asked)
    assert json.loads(again.stdout)["name"] == run["name"], "nothing has come to the log since"


def test_what_could_not_be_learned_from_is_not_tried_again_once_the_log_has_more(lived, tmp_path):
    home, earlier, file = lived
    home = shutil.copytree(home, tmp_path / "home")
    model = home / "models" / "v1" / MODEL_FILE
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    asked = ["retrain", "--with", str(earlier), "--detector", str(file), "--home", str(home)]
    for _ in range(2):
        assert CliRunner().invoke(app, asked).exit_code == 1
    (failed,) = runs_of(home)
    assert failed.failed.step == "train"
    model.write_bytes(whole)
    told = tmp_path / "told.csv"
    told.write_text("transaction_id\nt2050\n")
    assert CliRunner().invoke(app, ["outcomes", "import", str(told), "--home", str(home)]).exit_code == 0
    done = CliRunner().invoke(app, [*asked, "--until", "collect"])
    assert done.exit_code == 0, done.output
    first, second = runs_of(home)
    assert (first, second.failed) == (failed, None)
    assert second.position > first.position
    files = [{one.name for one in (home / "retraining" / run.name).iterdir()} for run in (first, second)]
    assert files == [{"run.json"}, {"run.json", "history.parquet", "events.parquet"}], "no history is kept for good"
