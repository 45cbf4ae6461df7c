"""The text of a Feast repository: `feature_store.yaml` and the definitions."""

import urllib.parse
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from sentinel.errors import InvalidDefinition
from sentinel.features.key_views import TIME, View

DATA = "data"
_REDIS_PORT = 6379
_CACHE_S = 60


def store_settings(project: str, folder: Path, redis: str, registry: str | None) -> str:
    """`feature_store.yaml`: Redis online, Parquet files offline, the registry in SQL.

    `redis` is `redis://HOST:PORT/DB` or Feast's own form; `registry` an address of SQLAlchemy, without one it is SQLite
    in the folder. Feast replaces `${VARIABLE}` in either by the environment's. Raises InvalidDefinition.
    """
    settings: dict[str, Any] = {
        "project": project,
        "provider": "local",
        "registry": {
            "registry_type": "sql",
            "path": registry or f"sqlite:///{folder.absolute() / 'registry.db'}",
            "cache_ttl_seconds": _CACHE_S,
        },
        "online_store": {"type": "redis", "connection_string": connection(redis)},
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }
    return yaml.safe_dump(settings, sort_keys=False)


def connection(redis: str) -> str:
    """An address of Redis as Feast writes it.

    >>> connection("redis://:secret@cache:6380/2"), connection("rediss://cache"), connection("a:1,b:2")
    ('cache:6380,username=default,password=secret,db=2', 'cache:6379,ssl=true,db=0', 'a:1,b:2')
    """
    if "://" not in redis:
        return redis
    found = urllib.parse.urlsplit(redis)
    database = found.path.strip("/") or "0"
    if found.scheme not in ("redis", "rediss") or not found.hostname or not database.isdecimal():
        raise InvalidDefinition("--redis: write redis://HOST:PORT/DATABASE, or HOST:PORT,password=...")
    parts = [f"{found.hostname}:{found.port or _REDIS_PORT}"]
    if found.password:
        parts += [f"username={found.username or 'default'}", f"password={urllib.parse.unquote(found.password)}"]
    if found.scheme == "rediss":
        parts.append("ssl=true")
    return ",".join([*parts, f"db={database}"])


def definitions(views: Sequence[View], version: str, horizon: timedelta) -> str:
    """`definitions.py`: entities, sources and views of Feast. `horizon` is how long what is known of a key counts."""
    fields = dict.fromkeys(key for view in views for key in view.keys)
    names = {key: f"ENTITY_{number}" for number, key in enumerate(fields)}
    lines = [
        f'"""What model {version} of Sentinel sees, as features of Feast. Written by `sentinel feast export`."""',
        "",
        "from datetime import timedelta",
        "from pathlib import Path",
        "",
        "from feast import Entity, FeatureView, Field, FileSource, ValueType",
        "from feast.types import Float64, String",
        "",
        f'DATA = Path(__file__).parent / "{DATA}"',
        "",
        *(f"{names[key]} = Entity(name={key!r}, join_keys=[{key!r}], value_type=ValueType.STRING)" for key in fields),
        "",
    ]
    for number, view in enumerate(views):
        keys = "".join(f"        Field(name={key!r}, dtype=String),\n" for key in view.keys)
        columns = "".join(f"        Field(name={column!r}, dtype=Float64),\n" for column in view.columns)
        lines += [
            f"SOURCE_{number} = FileSource(",
            f"    name={view.name!r}, path=str(DATA / {view.name + '.parquet'!r}), timestamp_field={TIME!r}",
            ")",
            f"VIEW_{number} = FeatureView(",
            f"    name={view.name!r},",
            f"    entities=[{', '.join(names[key] for key in view.keys)}],",
            f"    ttl=timedelta(seconds={int(horizon.total_seconds()) if view.ages else 0}),",
            f"    schema=[\n{keys}{columns}    ],",
            f"    source=SOURCE_{number},",
            "    online=True,",
            ")",
            "",
        ]
    listed = [*names.values(), *(f"VIEW_{number}" for number in range(len(views)))]
    return "\n".join([*lines, f"OBJECTS = [{', '.join(listed)}]", ""])
