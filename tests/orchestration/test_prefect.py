"""The flows of Prefect, on a real server of it."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from sentinel.commands.server_process import ServerProcess, free_port

FLOWS = Path(__file__).parents[2] / "deploy" / "prefect"
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import flows
getattr(flows, sys.argv[2])(*sys.argv[3:])
"""


@pytest.fixture(scope="module")
def prefect(environment_of, tmp_path_factory):
    """Its environment variables: a server that runs."""
    programs, port = environment_of("prefect") / "bin", free_port("127.0.0.1")
    home = tmp_path_factory.mktemp("prefect")
    variables = {
        "PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_UI_ENABLED": "false",
    }  # fmt: skip
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, **variables}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + 240
    while not _answers(f"{variables['PREFECT_API_URL']}/health"):
        assert server.poll() is None, (home / "server.log").read_text()[-2000:]
        assert time.monotonic() < until
        time.sleep(0.5)
    yield variables | {"python": str(programs / "python")}
    os.killpg(server.pid, signal.SIGTERM)
    server.wait()


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def run(prefect, work, *arguments):
    variables = {name: value for name, value in prefect.items() if name != "python"}
    command = [prefect["python"], "-c", RUN, FLOWS, *arguments]
    return subprocess.run(command, env={**work, **variables}, capture_output=True, text=True)


def runs_on_server(prefect):
    asked = urllib.request.Request(
        f"{prefect['PREFECT_API_URL']}/flow_runs/filter",
        b'{"sort": "START_TIME_DESC"}',
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.timeout(900)
def test_a_retraining_on_the_server(prefect, work):
    done = run(prefect, work, "retrain_weekly", "monday")
    assert done.returncode == 0, done.stderr[-3000:]
    newest = runs_on_server(prefect)[0]
    assert newest["state_type"] == "COMPLETED"
    assert "_retrain_" in newest["name"]
    ended = json.loads((Path(work["SENTINEL_HOME"]) / "retraining" / "monday" / "run.json").read_text())
    assert ended["ended"] == "shadow"


@pytest.mark.timeout(900)
def test_a_step_that_fails_is_tried_three_times_and_stops_the_rest(prefect, work, tmp_path):
    broken = {**work, "SENTINEL_HISTORY": str(tmp_path / "none.parquet")}
    done = run(prefect, broken, "retrain_weekly", "tuesday")
    assert done.returncode != 0
    assert done.stderr.count("there is no file") >= 3
    assert runs_on_server(prefect)[0]["state_type"] == "FAILED"
    assert not (Path(work["SENTINEL_HOME"]) / "models" / "v2").exists()


@pytest.mark.timeout(900)
def test_the_health_job_really_asks_the_api(prefect, work):
    port = free_port("127.0.0.1")
    asking = {**work, "SENTINEL_URL": f"http://127.0.0.1:{port}"}
    assert run(prefect, asking, "health_daily").returncode != 0
    server = ServerProcess(Path(work["SENTINEL_HOME"]), "127.0.0.1", port)
    try:
        server.start()
        done = run(prefect, asking, "health_daily")
        assert done.returncode == 0, done.stderr[-2000:]
    finally:
        server.stop()
