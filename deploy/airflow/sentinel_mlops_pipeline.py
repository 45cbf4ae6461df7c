"""Airflow 3: every day features are applied and materialised, and a model is trained and gated.

Each task is one call of the command line; one that fails stops the rest, and is tried once more after five minutes
(SENTINEL_RETRY_S). What is worked on comes from the environment of the scheduler: SENTINEL_PROGRAM (the command,
`sentinel`), SENTINEL_HOME, SENTINEL_HISTORY, SENTINEL_DETECTOR, SENTINEL_FEAST (the folder of the repository),
SENTINEL_REDIS and SENTINEL_FEAST_PYTHON; where SENTINEL_RETRAIN_WARM_START is set, trees are added to the champion,
too.
"""

import os
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag

PROGRAM = os.environ.get("SENTINEL_PROGRAM", "sentinel")
RETRY = timedelta(seconds=float(os.environ.get("SENTINEL_RETRY_S", "300")))


def call(task_id: str, arguments: str) -> BashOperator:
    """A task that is one call; arguments name variables of the environment, and the day of the run."""
    return BashOperator(task_id=task_id, bash_command=f"{PROGRAM} {arguments} ", append_env=True)


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "sentinel_admin", "retries": 1, "retry_delay": RETRY},
    tags=["sentinel", "fraud_detection"],
)
def sentinel_mlops_pipeline() -> None:
    """Apply, materialise, train and gate, one after the other."""
    history = '--data "$SENTINEL_HISTORY" --detector "${SENTINEL_DETECTOR:-payments}"'
    apply = call(
        "apply_feature_definitions",
        f'feast export "$SENTINEL_FEAST" {history} ${{SENTINEL_REDIS:+--redis "$SENTINEL_REDIS"}} && '
        f'{PROGRAM} feast apply "$SENTINEL_FEAST"',
    )
    materialise = call("sync_features_to_redis", 'feast materialize "$SENTINEL_FEAST" --json')
    train = call("train_and_gate", f"retrain {history} --run '{{{{ ds }}}}' --json")
    apply >> materialise >> train


sentinel_mlops_pipeline()
