"""What a job is told when it is started: everything but secrets of the data, which every worker reads for itself."""

from pathlib import Path

import msgspec

from sentinel.policy.thresholds import Thresholds


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A job over the bundle in a folder, which every worker has to find at that place.

    - `kafka`: settings of the Java client, `bootstrap.servers` among them.  `prefix`: of the names of topics.
    - `flink`: further settings of Flink, such as where checkpoints go.  `jars`: the connector's.
    - `checkpoint_ms`: how often results are committed.  `restore`: a checkpoint or savepoint to go on from.
    - `writes_profiles`: to the Redis that the environment of each worker names.
    - `cluster`: host and port of the REST interface of a cluster; None has one within the process.
    """

    name: str
    home: Path
    bundle: Path
    thresholds: Thresholds
    kafka: dict[str, str]
    prefix: str = ""
    jars: tuple[str, ...]
    parallelism: int = 1
    checkpoint_ms: int = 1_000
    flink: dict[str, str] = {}
    restore: str | None = None
    writes_profiles: bool = False
    cluster: tuple[str, int] | None = None


decode_spec = msgspec.json.Decoder(JobSpec, dec_hook=lambda _, value: Path(value)).decode


def encode_spec(spec: JobSpec) -> bytes:
    """As `decode_spec` reads it."""
    return msgspec.json.encode(spec, enc_hook=str)
