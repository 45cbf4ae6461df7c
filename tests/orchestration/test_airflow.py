"""The DAG of Airflow, run by `airflow dags test`."""

import json
import subprocess
from pathlib import Path

import pytest

DAGS = Path(__file__).parents[2] / "deploy" / "airflow"
NAME = "sentinel_mlops_pipeline"


@pytest.fixture(scope="module")
def airflow(environment_of, tmp_path_factory):
    """Runs the command of Airflow."""
    program, home = environment_of("airflow") / "bin" / "airflow", tmp_path_factory.mktemp("airflow")
    variables = {
        "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False", "SCARF_ANALYTICS": "false",
    }  # fmt: skip

    def run(work, *arguments):
        return subprocess.run([program, *arguments], env={**work, **variables}, capture_output=True, text=True)

    return run


def run_of(work, day):
    return json.loads((Path(work["SENTINEL_HOME"]) / "retraining" / day / "run.json").read_text())


@pytest.mark.timeout(1800)
def test_the_tasks_run_one_after_the_other_and_a_failure_stops_the_rest(airflow, environment_of, work, redis, tmp_path):
    made = airflow(work, "db", "migrate")
    assert made.returncode == 0, made.stderr[-2000:]
    given = {**work, "SENTINEL_FEAST": str(tmp_path / "feast"), "SENTINEL_REDIS": redis}
    failing = airflow({**given, "SENTINEL_FEAST_PYTHON": "/bin/false"}, "dags", "test", NAME, "2026-11-01")
    assert failing.returncode != 0
    assert "Feast could not apply" in failing.stdout + failing.stderr
    assert not (Path(work["SENTINEL_HOME"]) / "retraining").exists()

    python = environment_of("feast") / "bin" / "python"
    done = airflow({**given, "SENTINEL_FEAST_PYTHON": str(python)}, "dags", "test", NAME, "2026-11-02")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert run_of(work, "2026-11-02")["ended"] == "shadow"
