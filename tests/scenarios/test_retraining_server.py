"""A server that has itself retrained: when labels have come, and without harm when that fails."""

import json
import shutil
import time
import urllib.request

import numpy as np
import polars as pl
import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.errors import SentinelError
from sentinel.record.applied import HomeDeployment

HOST = "127.0.0.1"


@pytest.fixture
def home(shop_home, tmp_path):
    return shutil.copytree(shop_home, tmp_path / "home")


@pytest.fixture
def serve(home, shop_detector):
    started = []

    def serving(data, **environment):
        given = {
            "SENTINEL_RETRAIN_ON": "labels:3", "SENTINEL_RETRAIN_DATA": str(data), "SENTINEL_LOG_LEVEL": "INFO",
            "SENTINEL_RETRAIN_DETECTOR": shop_detector, **environment,
        }  # fmt: skip
        server = ServerProcess(home, HOST, free_port(HOST), environment=given)
        started.append(server)
        server.start()
        return server

    yield serving
    for server in started:
        server.stop()


def ask(server, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"http://{HOST}:{server.port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return answer.read().decode()


def tell(server, n):
    payments = [
        {
            "transaction_id": f"t{i}",
            "event_time": f"2025-02-01T10:00:{i:02}Z",
            "amount": 20 + i,
            "card": "c1",
            "shop": "s",
        }
        for i in range(n)
    ]
    ask(server, "/v1/score", payments)
    ask(server, "/v1/outcomes", [{"transaction_id": f"t{i}", "is_fraud": i == 0} for i in range(n)])


def figure(server, name):
    return next(float(line.split()[-1]) for line in ask(server, "/metrics/prom").splitlines() if line.startswith(name))


def wait_for(condition, seconds=240):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.5)


def test_new_labels_bring_a_challenger_into_the_shadow(serve, home, make_shop_frame, tmp_path):
    frame = make_shop_frame(9000, seed=2).with_columns(pl.col("event_time") + 10 * 86_400_000_000)
    logit = 3 * frame["risk"].to_numpy() + np.log(frame["amount"].to_numpy()) - 9
    known = np.random.default_rng(3).random(len(frame)) < 1 / (1 + np.exp(-logit))
    frame.with_columns(is_fraud=pl.Series(known)).write_parquet(tmp_path / "history.parquet")
    server = serve(tmp_path / "history.parquet")
    tell(server, 2)
    time.sleep(3)
    assert figure(server, "sentinel_retraining_running") == 0
    tell(server, 4)  # two of these are corrections of nothing: told before, they are no news
    wait_for(lambda: figure(server, 'sentinel_retrainings{ended="done"}') == 1)
    assert json.loads(ask(server, "/admin/version"))["shadow"] == "v2"
    assert json.loads(ask(server, "/health"))["model_version"] == "v1"
    (run,) = [one for one in (home / "retraining").iterdir() if one.is_dir()]
    assert json.loads((run / "run.json").read_text())["ended"] == "shadow"


def test_a_retraining_that_fails_is_counted_and_harms_nothing(serve, home, tmp_path):
    server = serve(tmp_path / "not-there.parquet")
    tell(server, 4)
    wait_for(lambda: figure(server, 'sentinel_retrainings{ended="failed"}') == 1)
    assert "there is no file" in (home / "server.log").read_text()
    assert json.loads(ask(server, "/v1/score", {"transaction_id": "after", "event_time": "2025-02-01T11:00:00Z",
                                                "amount": 1, "card": "c1", "shop": "s"}))["model_version"] == "v1"  # fmt: skip
    assert HomeDeployment(home).read().shadow is None


def test_too_little_memory_fails_and_is_said(serve, home, shop_file):
    server = serve(shop_file, SENTINEL_RETRAIN_MEMORY_MB="256")
    tell(server, 4)
    wait_for(lambda: figure(server, 'sentinel_retrainings{ended="failed"}') == 1)
    assert "took more than 256 MB and was killed" in (home / "server.log").read_text()
    assert HomeDeployment(home).read().shadow is None


@pytest.mark.parametrize("wrong", [{"SENTINEL_RETRAIN": "often"}, {"SENTINEL_RETRAIN_ON": "labels:none"}])
def test_a_schedule_that_is_none_stops_the_start(serve, wrong, tmp_path):
    with pytest.raises(SentinelError, match="retrain"):
        serve(tmp_path / "x", **wrong)
