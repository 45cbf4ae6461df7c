"""What an operator may change: read once from the environment and the command line, then handed on as values."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from sentinel.errors import InvalidDefinition

DEFAULT_HOME = Path(".sentinel")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a server. Every one can be given as `SENTINEL_<NAME>` in the environment.

    - `home`: the folder of models, journal and snapshots.
    - `model`: the version to serve; none means the champion.
    - `host`, `port`: where to listen. Anything but loopback is for you to protect.
    - `max_body_bytes`, `max_batch`: the largest request body, and the most transactions in one.
    - `max_waiting`: transactions that may wait for the engine before callers are told to come back.
    - `shutdown_s`: how long requests in flight may take to finish after SIGTERM.
    """

    home: Path = DEFAULT_HOME
    model: str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8000
    max_body_bytes: int = 2**20
    max_batch: int = 1000
    max_waiting: int = 10_000
    shutdown_s: int = 10

    @property
    def models(self) -> Path:
        """Folder of the bundles."""
        return self.home / "models"

    @property
    def journal(self) -> Path:
        """File of the journal."""
        return self.home / "journal.db"

    @property
    def snapshots(self) -> Path:
        """Folder of the snapshots."""
        return self.home / "snapshots"


def read_settings(given: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from `given` (None means not given), else from the environment, else the defaults."""
    values: dict[str, object] = {
        name: environment[variable]
        for name in Settings.__struct_fields__
        if (variable := f"SENTINEL_{name.upper()}") in environment
    }
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f"a setting is wrong: {error} (from the command line or SENTINEL_...)") from None


def _path(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(kind)
