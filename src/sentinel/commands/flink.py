"""`sentinel flink run`: looks at the model and the topics, then has the environment with PyFlink run the job."""

import os
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.homes import DETECTORS
from sentinel.model.bundle import Bundle, load_bundle, load_warm
from sentinel.policy.thresholds import Thresholds
from sentinel.record.applied import HomeDeployment
from sentinel.record.kafka.place import topics_of
from sentinel.record.online.rows import key_views_of
from sentinel.transport.flink.job_spec import JobSpec, encode_spec
from sentinel.transport.flink.kafka_client import kafka_client
from sentinel.transport.flink.profile_writing import keeper_store
from sentinel.transport.wide.sufficing import check_profiles_suffice

TOPICS = ("transactions", "outcomes", "decisions", "dead-letters")
_SOURCES = Path(__file__).parents[2]


class FlinkRun(NamedTuple):
    """How the job is to run.

    `cluster` is host:port of a cluster's REST interface, None for a cluster in the job's own process. `checkpoints` is
    where they go; `checkpoint_ms` is how often, and so how long decisions wait to be seen. `restore` is what to go on
    from, nothing is the beginning of the topics.
    """

    cluster: str | None
    parallelism: int
    checkpoint_ms: int
    checkpoints: str
    restore: str | None = None
    flink: Mapping[str, str] = {}


def home_of(settings: Settings, detector: str) -> Settings:
    """The settings with the home of the detector of this name, if it has one below the home."""
    below = settings.home / DETECTORS / detector
    return msgspec.structs.replace(settings, home=below) if below.is_dir() else settings


def job_of(
    settings: Settings, detector: str, version: str | None, run: FlinkRun, environment: Mapping[str, str] = os.environ
) -> JobSpec:
    """The job of a version of this detector, the champion when None is named, once it has scored here.

    Raises InvalidDefinition for what a job cannot do, BundleProblem for a version that cannot decide.
    """
    settings = home_of(settings, detector)
    deployment = HomeDeployment(settings.home)
    version = version or deployment.champion()
    bundle = load_warm(registry_of(settings), version)
    found = bundle.manifest.detector
    if found != detector and settings.home.name != detector:
        raise InvalidDefinition(f"{version} in {settings.home} is of the detector {found}, not of {detector}")
    check_profiles_suffice(bundle.manifest.plan, settings)
    if settings.has_fronts_key:
        settings.fronts_keys()  # a key that cannot be used is told before workers read it
    in_force = deployment.read()
    client = kafka_client(environment)
    return JobSpec(
        name=detector,
        home=settings.home.absolute(),
        bundle=registry_of(settings).path(version).absolute(),
        thresholds=_thresholds(bundle, in_force.thresholds if in_force.champion == version else None),
        kafka=client.java,
        prefix=client.prefix + topics_of(settings.home),
        jars=jars_of(_python_of(settings)),
        parallelism=run.parallelism,
        checkpoint_ms=run.checkpoint_ms,
        flink={"execution.checkpointing.dir": run.checkpoints, **run.flink},
        cluster=None if run.cluster is None else _address_of(run.cluster),
        restore=run.restore,
        writes_profiles=settings.redis_url is not None,
    )


def check_topics_of(spec: JobSpec, environment: Mapping[str, str] = os.environ) -> list[str]:
    """What may be wrong with the job's topics, in sentences. Raises StorageProblem for what is, or without Kafka."""
    try:
        from sentinel.transport.flink.topics import check_topics  # only who has Kafka needs its client
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka]'") from error
    return check_topics(kafka_client(environment).librdkafka, spec.prefix, TOPICS)


def begin_profiles(spec: JobSpec) -> None:
    """Make Redis ready for the profiles of a job, where it writes them. Raises StorageProblem where that cannot be."""
    if not spec.writes_profiles:
        return
    bundle = load_bundle(spec.bundle)
    views = [view.keys for view in key_views_of(bundle.manifest.plan)]
    with closing(keeper_store(spec, bundle)) as store:
        store.begin(views, goes_on=spec.restore is not None)


def run_job(settings: Settings, spec: JobSpec) -> int:
    """Run the job until it ends; its exit code. Its messages go to ours."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(_SOURCES),
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(settings.home.absolute() / "numba")),
    }
    command = [_python_of(settings), "-m", "sentinel.transport.flink"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as job:  # noqa: S603
        try:
            job.communicate(encode_spec(spec))
        except KeyboardInterrupt:
            job.wait()
            raise
        return job.returncode


def jars_of(python: str) -> tuple[str, ...]:
    """The jars beside an interpreter. Raises InvalidDefinition where the connector is not among them."""
    folder = Path(python).absolute().parents[1] / "jars"
    found = tuple(sorted(map(str, folder.glob("*.jar"))))
    if not any("flink-connector-kafka" in Path(one).name for one in found):
        raise InvalidDefinition(
            f"{folder} has no flink-connector-kafka; `python -m services install flink` fetches it with what it needs"
        )
    return found


def _python_of(settings: Settings) -> str:
    python = settings.flink_python
    if python is None or not os.access(python, os.X_OK):
        raise InvalidDefinition(
            "SENTINEL_FLINK_PYTHON has to be the python of an environment with PyFlink and what this package needs; "
            "`python -m services install flink` makes one, and says where"
        )
    return str(python)


def _thresholds(bundle: Bundle, in_force: Thresholds | None) -> Thresholds:
    return in_force or bundle.thresholds


def _address_of(cluster: str) -> tuple[str, int]:
    host, _, port = cluster.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidDefinition(f"--cluster is {cluster}; write host:port of the REST interface of a Flink cluster")
    return host, int(port)
