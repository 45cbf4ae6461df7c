"""Prefect 3: health every day at nine, a new model every week; each task is one call of the command line.

`python deploy/prefect/flows.py` serves both until it is ended, with PREFECT_API_URL naming the server. What is
retrained comes from the environment: SENTINEL_PROGRAM (the command, `sentinel`), SENTINEL_HOME, SENTINEL_HISTORY and
SENTINEL_DETECTOR; with SENTINEL_RETRAIN_WARM_START=1 trees are added to the champion, too. SENTINEL_URL is the API
whose health is asked, SENTINEL_RETRY_S the pause before a retry.
"""

import os
import subprocess
import urllib.request
from datetime import UTC, datetime

from prefect import flow, get_run_logger, serve, task

PROGRAM = os.environ.get("SENTINEL_PROGRAM", "sentinel").split()
RETRIES = {"retries": 2, "retry_delay_seconds": float(os.environ.get("SENTINEL_RETRY_S", "5"))}


def call(*arguments: str) -> str:
    """What the command prints. Raises CalledProcessError where it fails, with what it said in the log of the run."""
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)
    get_run_logger().info("%s\n%s%s", " ".join(arguments), done.stdout, done.stderr)
    done.check_returncode()
    return done.stdout


def retrain(until: str, run: str) -> str:
    """The retraining of this name, up to a step."""
    data, detector = os.environ["SENTINEL_HISTORY"], os.environ.get("SENTINEL_DETECTOR", "payments")
    warm = ["--warm-start"] if os.environ.get("SENTINEL_RETRAIN_WARM_START") == "1" else []
    return call("retrain", "--data", data, "--detector", detector, "--run", run, "--until", until, *warm, "--json")


@task(**RETRIES)
def collect(run: str) -> str:
    """Take the history with its labels."""
    return retrain("collect", run)


@task(**RETRIES)
def train(run: str) -> str:
    """Train a candidate."""
    return retrain("train", run)


@task(**RETRIES)
def gate(run: str) -> str:
    """Compare it with the champion; a candidate that is refused fails here, and nothing follows."""
    return retrain("gate", run)


@task(**RETRIES)
def shadow(run: str) -> str:
    """Register it, and have it score in the shadow."""
    return retrain("shadow", run)


def named(what: str) -> str:
    """The name of a run, by its date: `30-11-26_retrain_03-00`."""
    return f"{datetime.now(UTC):%d-%m-%y}_{what}_{datetime.now(UTC):%H-%M}"


@flow(name="retrain", flow_run_name=lambda: named("retrain"))
def retrain_weekly(run: str | None = None) -> str:
    """From labels to a challenger in the shadow. The same `run` goes on where it stopped; without one it is today."""
    run = run or f"{datetime.now(UTC):%Y-%m-%d}"
    collect(run)
    train(run)
    gate(run)
    return shadow(run)


@task(**RETRIES)
def ask_health(url: str) -> str:
    """What the API says of itself; a server that is not ready answers 503, which fails."""
    with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:
        return answer.read().decode()


@flow(name="health", flow_run_name=lambda: named("health"))
def health_daily() -> str:
    """Ask the API whether it decides."""
    return ask_health(os.environ.get("SENTINEL_URL", "http://127.0.0.1:8000"))


if __name__ == "__main__":
    serve(
        health_daily.to_deployment(name="daily", cron="0 9 * * *"),
        retrain_weekly.to_deployment(name="weekly", cron="0 0 * * 0"),
    )
