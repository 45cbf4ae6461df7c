"""Run by the interpreter of an environment that has Feast, and imports nothing of Sentinel: apply, or materialize.

`python in_feast.py apply|materialize REPOSITORY SCRIPT` prints one JSON object; the rest goes to standard error.
"""

import contextlib
import importlib
import json
import runpy
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_KEYS_AT_ONCE = 256
_A_MOMENT = timedelta(microseconds=1)


def apply(store: Any, folder: Path) -> dict[str, Any]:
    """Register what the definitions declare, and take out what they declare no longer."""
    objects = runpy.run_path(str(folder / "definitions.py"))["OBJECTS"]
    names = {(type(one).__name__, one.name) for one in objects}
    known = [*store.list_feature_views(), *(one for one in store.list_entities() if one.name != "__dummy")]
    gone = [one for one in known if (type(one).__name__, one.name) not in names]
    store.apply(objects, objects_to_delete=gone, partial=False)
    return {"applied": sorted(one.name for one in objects), "removed": sorted(one.name for one in gone)}


def materialize(store: Any, folder: Path) -> dict[str, Any]:
    """Bring each view's newest rows into the online store: all of them the first time, then what has come since.

    How far it got the last time is what Feast's registry says. Where the online store has lost what it was given, all
    of it is brought again.
    """
    facts = json.loads((folder / "sentinel.json").read_text())
    overlap = timedelta(microseconds=facts["overlap_us"])
    views = {one.name: one for one in store.list_feature_views()}
    missing = [one["name"] for one in facts["views"] if one["name"] not in views]
    if missing:
        sys.exit(f"{', '.join(missing)} is not in the registry; run `sentinel feast apply` first")
    return {"views": [_materialize(store, views[one["name"]], one, overlap) for one in facts["views"] if one["rows"]]}


def _materialize(store: Any, view: Any, facts: dict[str, Any], overlap: timedelta) -> dict[str, Any]:
    first, last = (_instant(facts[name]) for name in ("first_us", "last_us"))
    until = view.most_recent_end_time
    is_there = until is not None and _is_online(store, view, facts["probe"])
    if is_there and last < until:
        return {"view": view.name, "how": "no new rows", "until": until.isoformat()}
    begin = max(first, until - overlap) if is_there else first
    store.materialize(begin, last + _A_MOMENT, [view.name])
    how = "incremental" if is_there else "full"
    return {"view": view.name, "how": how, "from": begin.isoformat(), "until": (last + _A_MOMENT).isoformat()}


def _is_online(store: Any, view: Any, probe: dict[str, str]) -> bool:
    """Whether the online store knows the key of one of the oldest rows: of an unknown one Redis has no moment."""
    feature = f"{view.name}:{view.features[0].name}"
    found = store.get_online_features([feature], [probe]).proto.results[-1]
    return any(moment.seconds or moment.nanos for moment in found.event_timestamps)


def write_where_newer(script: str) -> None:
    """Have Feast's writer ask and write in one step, by the script that the live view is written with.

    Its own asks for the moments first: what is written live in between would be replaced by what is older.
    """
    store, helpers = (importlib.import_module(f"feast.infra.online_stores.{one}") for one in ("redis", "helpers"))
    field_of, name_of = helpers._mmh3, helpers._redis_key  # noqa: SLF001 - the layout of its own client
    timestamp = importlib.import_module("google.protobuf.timestamp_pb2").Timestamp

    def encoded(moment: datetime) -> bytes:
        found = timestamp()
        found.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        return bytes(found.SerializeToString())

    def online_write_batch(self: Any, config: Any, table: Any, data: Any, progress: Any) -> None:
        newer_wins = self._get_client(config.online_store).register_script(script)
        fields = {one.name: field_of(f"{table.name}:{one.name}") for one in table.features}
        version = config.entity_key_serialization_version
        for begin in range(0, len(data), _KEYS_AT_ONCE):
            some = data[begin : begin + _KEYS_AT_ONCE]
            arguments = ["0", f"_ts:{table.name}", len(fields), *fields.values()]
            for _, values, moment, _ in some:
                arguments += [encoded(moment), "", *(values[name].SerializeToString() for name in fields)]
            keys = [name_of(config.project, entity, version) for entity, _, _, _ in some]
            newer_wins(keys=keys, args=arguments)
            if progress:
                progress(len(some))

    store.RedisOnlineStore.online_write_batch = online_write_batch


def _instant(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def main() -> None:
    """Do what the command line says."""
    action, folder = sys.argv[1], Path(sys.argv[2])
    with contextlib.redirect_stdout(sys.stderr):
        if action == "materialize":
            write_where_newer(Path(sys.argv[3]).read_text())
        store = importlib.import_module("feast").FeatureStore(str(folder))
        done = {"apply": apply, "materialize": materialize}[action](store, folder)
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
