"""What serves needs no extra: all that a serving machine does goes on without what trains, and without what streams."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"
OF_EXTRAS = (
    "alembic", "argon2", "catboost", "confluent_kafka", "fastavro", "imblearn", "jinja2", "joserfc", "lightgbm", "matplotlib",
    "mlflow", "obstore", "onnx", "optuna", "pandas", "polars", "psycopg", "pyarrow", "python_multipart", "redis", "scipy",
    "sklearn", "xgboost",
)  # fmt: skip
BLOCKED = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OF_EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def home(two_models_home, tmp_path):
    return shutil.copytree(two_models_home, tmp_path / "home")


@pytest.fixture
def serving(tmp_path):
    """The environment of processes that have none of the libraries, and nor do their children."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKED)
    path = os.pathsep.join([str(tmp_path / "site"), *(one for one in sys.path if one)])
    return {"PYTHONPATH": path, "SENTINEL_DRIFT_WINDOW": "500"}


def run(serving, *command, code=0):
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=120, env={**os.environ, **serving}
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done


@pytest.mark.parametrize("name", OF_EXTRAS)
def test_they_are_really_absent_here(serving, name):
    assert "ModuleNotFoundError" in run(serving, "-c", f"import {name}", code=1).stderr


def test_a_server_decides_compares_and_looks_for_drift(home, serving, post, get):
    server = ServerProcess(home, HOST, free_port(HOST), environment=serving)
    try:
        server.start()
        post(server.port, "/admin/shadow/start", {"version": "v2"})
        for begin in range(0, 1500, 300):
            decided = post(server.port, "/v1/score", [payment(begin + i) for i in range(300)])
            assert {one["model_version"] for one in decided} == {"v1"}
        drift = get(server.port, "/admin/drift")
        assert (drift["enough_data"], drift["drift_detected"]) == (True, True)
        assert all(one["psi_threshold"] is None or one["psi_threshold"] > 0 for one in drift["per_feature"])
        post(server.port, "/admin/reload", {"version": "v2"})
        assert post(server.port, "/v1/score", payment(9999))["model_version"] == "v2"
        assert get(server.port, "/v1/decisions/t9999")["model_version"] == "v2"
    finally:
        server.stop()
    assert "Traceback" not in (home / "server.log").read_text()


def payment(i):
    when = f"2025-02-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z"
    return {"transaction_id": f"t{i}", "event_time": when, "amount": 5000 + i, "card": f"c{i % 9}", "shop": "s"}


def test_the_commands_of_a_serving_machine_work(home, serving):
    for command in (
        ["doctor", "--port", str(free_port(HOST))],
        ["models", "list"],
        ["models", "promote", "v2"],
        ["models", "accept", "v1"],
    ):
        run(serving, "-m", "sentinel", *command, "--home", str(home))


@pytest.mark.parametrize("command", [["train", "--data", "x.csv"], ["simulate", "--out", "x.parquet"], ["demo"]])
def test_a_command_that_trains_says_what_to_install(home, serving, command):
    said = (
        run(serving, "-m", "sentinel", *command, "--home", str(home), code=1)
        if command[0] != "simulate"
        else run(serving, "-m", "sentinel", *command, code=1)
    )
    told = " ".join(said.stderr.split())
    assert "sentinel-fraud[train]" in told
    assert "Traceback" not in told


@pytest.fixture
def get():
    import urllib.request

    def getting(port, path):
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=30) as answer:
            return json.load(answer)

    return getting


@pytest.fixture
def post():
    import urllib.request

    def posting(port, path, body):
        named = {"content-type": "application/json"}
        asked = urllib.request.Request(f"http://{HOST}:{port}{path}", json.dumps(body).encode(), named)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)

    return posting
