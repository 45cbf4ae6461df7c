"""What an operator may change: read once from the environment and the command line, then handed on as values."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sentinel.errors import InvalidDefinition
from sentinel.events.times import duration_us

DEFAULT_HOME = Path(".sentinel")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a server. Every one can be given as `SENTINEL_<NAME>` in the environment.

    - `home`: the folder of models, log, snapshots and views.
    - `host`, `port`, `workers`: where to listen, in how many processes. Anything but loopback is for you to protect.
    - `tls_certificate`, `tls_key`: PEM files; with both the server speaks HTTPS.
    - `cors_origins`: web pages that may call the API from a browser, such as `https://console.example`.
    - `admin_key`: what admin calls must bear; without one they are answered to this machine only.
    - `max_body_bytes`, `max_batch`: the largest request body, and the most transactions in one.
    - `max_waiting`: transactions that may wait for a decision before callers get 503.
    - `deadline_ms`: when an answer is due. Requests that wait too long are decided by the fallback rules.
    - `circuit_threshold_ms`: how long one model call may take. `force_circuit_open` and `inject_latency_ms` are there
      to try what happens when the model is away or slow.
    - `cache_entries`, `cache_ttl_s`: scores of feature vectors that are remembered, and for how long.
    - `false_alarm_cost`: what a false alarm costs, in the unit of the amount, for experiments.
    - `drift_window`: transactions that are compared with the training history.
    - `shadow_scores`: the newest scores of shadows that are kept in `shadow.db`, about 160 bytes each.
    - `snapshot_every`: entries after which the features' state is saved again.  `last_snapshot_s`: how long the last
      save at the end may take.
    - `keep_log`: how long the log is kept, such as `180d`, or `forever`.  `remember_ids`: how long a transaction that
      is sent again gets its stored answer; the log is never kept for less.  `archive`: a folder that what leaves the
      log is copied to.
    - `log_style`: `text` or `json`.  `log_level`: the lowest that is logged.  `log_to`: a file for the
      own messages, instead of standard error; rotated at 5 MB, five older ones are kept.
    - `otlp_endpoint`: where to send traces; needs the extra `tracing`.
    - `shutdown_s`: how long requests in flight may take to finish after SIGTERM.
    """

    home: Path = DEFAULT_HOME
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8000
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    cors_origins: tuple[str, ...] = ()
    admin_key: str | None = None
    max_body_bytes: int = 2**20
    max_batch: int = 1000
    max_waiting: int = 10_000
    deadline_ms: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    circuit_threshold_ms: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    force_circuit_open: bool = False
    inject_latency_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    cache_entries: Annotated[int, msgspec.Meta(ge=0)] = 10_000
    cache_ttl_s: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    false_alarm_cost: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    drift_window: Annotated[int, msgspec.Meta(ge=500)] = 5000
    shadow_scores: Annotated[int, msgspec.Meta(ge=1)] = 5_000_000
    snapshot_every: Annotated[int, msgspec.Meta(ge=1)] = 250_000
    last_snapshot_s: Annotated[float, msgspec.Meta(ge=0)] = 15.0
    keep_log: str = "180d"
    remember_ids: str = "180d"
    archive: Path | None = None
    log_style: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "WARNING"
    log_to: Path | None = None
    otlp_endpoint: str | None = None
    shutdown_s: int = 10

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidDefinition("tls_certificate and tls_key belong together; give both or none")

        duration_us(self.remember_ids)
        age_us(self.keep_log)

    @property
    def models(self) -> Path:
        """Folder of the bundles."""
        return self.home / "models"

    @property
    def snapshots(self) -> Path:
        """Folder of the snapshots."""
        return self.home / "snapshots"


def age_us(text: str) -> int | None:
    """Microseconds of a duration such as `180d`; None for `forever`. Raises InvalidDefinition."""
    return None if text == "forever" else duration_us(text)


def read_settings(given: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from `given` (None means not given), else from the environment, else the defaults."""
    values: dict[str, object] = {
        name: environment[variable]
        for name in Settings.__struct_fields__
        if (variable := f"SENTINEL_{name.upper()}") in environment
    }
    values |= {name: value for name, value in given.items() if value is not None}
    if isinstance(values.get("cors_origins"), str):
        values["cors_origins"] = [one.strip() for one in str(values["cors_origins"]).split(",") if one.strip()]
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f"a setting is wrong: {error} (from the command line or SENTINEL_...)") from None


def _path(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(kind)
