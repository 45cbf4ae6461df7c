"""Where the servers of `make services` are, as compose.services.yaml takes it."""

from collections.abc import Mapping

from deploy.compose.passwords import StackFailed
from services.catalog import CATALOG
from services.keeper import Keeper
from services.service import Running

NEEDED = ("kafka", "postgres", "redis", "s3")


def addresses_of_services(keeper: Keeper | None = None) -> dict[str, str]:
    """The settings STACK_... that name them. Raises StackFailed where one that is needed does not run."""
    keeper = keeper or Keeper(CATALOG)
    running = {found.name: found for found in keeper.all_running()}
    absent = [name for name in NEEDED if name not in running]
    if absent:
        raise StackFailed(f'not running: {", ".join(absent)}. Start them: make services NAMES="{" ".join(NEEDED)}"')
    return settings_of(running)


def settings_of(running: Mapping[str, Running]) -> dict[str, str]:
    """The same of services that run."""
    database, s3 = running["postgres"].environment, running["s3"].environment
    user, password = database["PGUSER"], database["PGPASSWORD"]
    found = {
        "STACK_KAFKA": running["kafka"].environment["SENTINEL_KAFKA"],
        "STACK_DATABASE_URL": (
            f"postgresql://{user}:{password}@{database['PGHOST']}:{database['PGPORT']}/{database['PGDATABASE']}"
        ),
        "STACK_REDIS_URL": running["redis"].environment["REDIS_URL"],
        "STACK_S3_URL": s3["AWS_ENDPOINT_URL"],
        "STACK_S3_USER": s3["AWS_ACCESS_KEY_ID"],
        "STACK_S3_PASSWORD": s3["AWS_SECRET_ACCESS_KEY"],
    }
    if "mlflow" in running:
        found["STACK_MLFLOW_URL"] = running["mlflow"].environment["MLFLOW_TRACKING_URI"]
    return found
