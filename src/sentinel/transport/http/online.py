"""`GET /v1/features`: the newest features of a key, as the online view in Redis has them."""

import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from sentinel.errors import InvalidInput, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.secrets import Secrets
from sentinel.events.times import iso
from sentinel.features.key_views import View, views_of
from sentinel.model.bundle import Manifest
from sentinel.record.online.place import open_online
from sentinel.serve.worker import Worker
from sentinel.transport.http.replies import Reply

_TOGETHER = "+"
_encode = msgspec.json.Encoder().encode


class OnlineLookups:
    """Reads the online view, without one (`url` is None) there is nothing; may be called from any thread."""

    def __init__(self, home: Path, worker: Worker, secrets: Secrets, url: str | None) -> None:
        self._home, self._worker, self._secrets, self._url = home, worker, secrets, url

    def features(self, key: str, value: str, others: Mapping[str, str]) -> Reply:
        """The newest features of a key of the champion's plan, and how old they are.

        Of several fields together (`card+shop`) `value` is that of the first, `others` has those of the rest. Raises
        NotFound, NotReady, InvalidInput, and StorageProblem while Redis is away.
        """
        engine = self._worker.ready_engine()
        if self._url is None:
            raise NotFound("There is no online view here: SENTINEL_REDIS_URL is not set")
        manifest = engine.lineup.champion.bundle.manifest
        view = _view_named(manifest, key)
        given = {view.keys[0]: value, **others}
        if given.keys() != set(view.keys):
            raise InvalidInput(f"Expected {', '.join(view.keys[1:]) or 'nothing'} beside the value, as a query")
        reader, columns = TransactionReader(engine.schema, self._secrets), list(view.columns)
        store = open_online(self._home, manifest.detector, self._url)
        try:
            for values in product(*(reader.texts(name, given[name]) for name in view.keys)):
                found = store.features(view.name, view.keys, columns, values)
                if found is not None:
                    at = store.position()
                    break
            else:
                raise NotFound(f"Nothing is known of {key} {quoted(value, 200)}: it was never seen, or is forgotten")
        finally:
            store.close()
        shown: dict[str, Any] = {
            "key": dict(zip(view.keys, values, strict=True)),
            "view": view.name,
            "features": found.features,
            "event_time": iso(found.time_us),
            "age_ms": max(time.time_ns() // 1_000_000 - found.time_us // 1_000, 0),
            "lag": None if at is None else max(engine.journal.log.durable - at.position, 0),
            "model_version": manifest.version,
        }
        return Reply(200, _encode(shown))


def _view_named(manifest: Manifest, key: str) -> View:
    views = {_TOGETHER.join(view.keys): view for view in views_of(manifest.plan) if view.ages}
    if key not in views:
        raise NotFound(f"No feature follows {quoted(key)} alone; there are {', '.join(views) or 'none'}")
    return views[key]
