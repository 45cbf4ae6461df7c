"""What independent readers find after kills, in the log, in the database and in Redis: lost, twice, or different."""

import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import redis
import sqlalchemy as sa

from sentinel.model.bundle import load_bundle
from sentinel.record.entries import decision_rows, outcome_rows
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind
from sentinel.record.online.place import open_online
from sentinel.record.online.rows import key_views_of
from sentinel.record.projector import Projector, schemas_of
from sentinel.record.views.key_index import key_entries  # noqa: F401 - a table of the metadata
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.sqlite import SqliteView
from sentinel.record.views.tables import metadata
from tests.scenarios.kafka_streams import Consuming, decided_in_kafka, read_all, records_in_kafka, sentinel, until
from tests.scenarios.load_beside import Load


class Found(NamedTuple):
    """How much there is, and how much of it is not as it has to be."""

    decisions: int
    outcomes: int
    values: int
    view_rows: int
    redis_values: int
    lost: int
    twice: int
    answered_otherwise: int
    letters_wrong: int
    differing: int
    view_differing: int
    redis_differing: int

    @property
    def faults(self) -> dict[str, int]:
        """What is not zero, and has to be."""
        return {name: n for name, n in list(self._asdict().items())[5:] if n}


def wait_for_views(pair: list[Consuming]) -> None:
    """Until the views have all that the log has."""

    def is_there() -> bool:
        health = pair[0].health()
        end = health["log"]["end"]
        return health["view"].get("lag") == 0 and health["online"]["lag"] == 0 and health["log"]["end"] == end

    until(is_there, 300)


def found_in(home: Path, load: Load, environment: dict[str, str], letters_before: list[bytes]) -> Found:
    """Count in the log what is there once, twice and not at all; compute all again from it; hold the views against it.

    No server runs by then.
    """
    topics = load.topics
    rows = decided_in_kafka(topics)
    names = Counter(row.transaction_id for row in rows)
    told = Counter(
        row.transaction_id
        for one in records_in_kafka(topics) if one.record.kind == Kind.OUTCOMES
        for row in outcome_rows(one.record)
    )  # fmt: skip
    dead = [value for _, value in read_all(topics, "dead-letters")]
    differing, values = bits_that_differ(home)
    view_differing, view_rows = view_rows_that_differ(home, environment["SENTINEL_DATABASE_URL"], rows)
    redis_differing, redis_values = redis_values_that_differ(home, environment)
    return Found(
        decisions=len(rows), outcomes=told.total(), values=values, view_rows=view_rows, redis_values=redis_values,
        lost=len(load.ids - set(names)) + len(set(load.outcomes) - set(told)),
        twice=names.total() - len(names) + told.total() - len(told),
        answered_otherwise=_answered_otherwise(load, rows),
        letters_wrong=(Counter(dead) - Counter(load.letters + letters_before)).total()
        + (Counter(load.letters + letters_before) - Counter(dead)).total(),
        differing=differing, view_differing=view_differing, redis_differing=redis_differing,
    )  # fmt: skip


def _answered_otherwise(load: Load, rows) -> int:
    """Of how many payments another decision was answered than is in the log."""
    of = {row.transaction_id: (row.decision, row.fraud_probability) for row in rows}
    return sum(of.get(name) != (said["decision"], said["fraud_probability"]) for name, said in load.answers.items())


def bits_that_differ(home: Path) -> tuple[int, int]:
    """Of how many features and scores other bits are stored than one offline replay of the log gives; and of how many.

    A decision without the model has no score to compare: it counts as a difference, and none was called for.
    """
    bundles = {one.name: load_bundle(one) for one in (home / "models").iterdir() if one.is_dir()}
    bundle = bundles["v1"]  # the features of all of them are the same
    differing = values = 0
    with closing(open_log(home)) as log:
        begin = activation_of(log, bundle.state_id)
        state = FeatureState(bundle, begin)
        state.store = bundle.new_store()
        for record in (one for page in Follower(log, begin).rest() for one in page):
            found = state.take(record)
            if record.kind == Kind.DECIDED:
                stored = np.array([row.exact_features for row in decision_rows(record)])
                again = np.ascontiguousarray(found.rows)
                same = (stored.view(np.int64) == again.view(np.int64)) | (np.isnan(stored) & np.isnan(again))
                told = np.array([(row.exact or row).fraud_probability for row in decision_rows(record)], float)
                versions = np.array([row.exact_decider.model_version for row in decision_rows(record)])
                for version in set(versions.tolist()):
                    its = versions == version
                    scores = bundles[version].scorer.score(again[its]).astype(float)
                    differing += int(np.count_nonzero(scores != told[its]))
                differing += int(np.count_nonzero(~same))
                values += stored.size + told.size
    return differing, values


def view_rows_that_differ(home: Path, url: str, rows) -> tuple[int, int]:
    """Of how many rows the database has others than a new view of the log; and of how many.

    And its decisions are held against the log row by row.
    """
    path = home / "again.db"
    with closing(open_log(home)) as log, closing(SqliteView(path)) as view:
        projector = Projector(view, log, lambda: schemas_of(home))
        while projector.step():
            pass
    again = _tables(sa.create_engine(f"sqlite:///{path}"), None)
    place = ViewPlace(home, url)
    there = _tables(place._database.engine, place._database.schema)
    place.close()
    differing = sum(((there[name] - again[name]) + (again[name] - there[name])).total() for name in again)
    stored = Counter((row.position, row.transaction_id, row.decision, row.fraud_probability) for row in rows)
    columns = [metadata.tables["decisions"].c.keys().index(name) for name in
               ("position", "transaction_id", "decision", "fraud_probability")]  # fmt: skip
    shown = Counter(tuple(row[n] for n in columns) for row in there["decisions"].elements())
    differing += ((stored - shown) + (shown - stored)).total()
    return differing, sum(one.total() for one in again.values())


def _tables(engine: sa.Engine, schema: str | None) -> dict[str, Counter]:
    """The rows of every table; of how far the view is, without when that was written."""
    found = {}
    with engine.connect() as reader:
        for table in metadata.sorted_tables:
            rows = [tuple(row) for row in reader.execute(sa.select(table))]
            found[table.name] = Counter(row[:3] for row in rows) if table.name == "progress" else Counter(rows)
    engine.dispose()
    return found


def redis_values_that_differ(home: Path, environment: dict[str, str]) -> tuple[int, int]:
    """Of how many keys Redis has other features than the newest in the log, or another profile than one made anew.

    It is rebuilt by its one command for that. Keys that only the training history knew may be there from before they
    were forgotten, until they expire: who reads them takes them for new, so they are not held against it.
    """
    differing, values = _features_that_differ(home, environment["SENTINEL_REDIS_URL"])
    there = _profiles(environment["SENTINEL_REDIS_URL"])
    sentinel(environment, "views", "rebuild", "--online", "--json", "--home", str(home))
    again = _profiles(environment["SENTINEL_REDIS_URL"])
    differing += sum(there.get(key) != profile for key, profile in again.items())
    return differing + _features_that_differ(home, environment["SENTINEL_REDIS_URL"])[0], values + len(again)


def _features_that_differ(home: Path, url: str) -> tuple[int, int]:
    bundle = load_bundle(home / "models" / "v1")
    plan = bundle.manifest.plan
    differing = values = 0
    with closing(open_log(home)) as log, closing(open_online(home, bundle.manifest.detector, url)) as store:
        for view in key_views_of(plan):
            for key, (_, row) in _newest(log, plan.schema, view.keys).items():
                found = store.features(view.name, view.keys, list(view.columns), key)
                want = [row.features[place] for place in view.columns.values()]
                have = [None] * len(want) if found is None else list(found.features.values())
                values += len(want)
                differing += sum(not _same(a, b) for a, b in zip(want, have, strict=True))
    return differing, values


def _newest(log, schema, names):
    """By the values of these keys, the newest decision: of equally new ones the last."""
    found = {}
    for page in Follower(log, log.first).rest():
        for record in page:
            for row in decision_rows(record) if record.kind == Kind.DECIDED else ():
                content = json.loads(row.content)
                key = tuple(content[name] for name in names)
                if key not in found or content[schema.time] >= found[key][0]:
                    found[key] = content[schema.time], row
    return found


def _same(want: float, have: float | None) -> bool:
    return have is None if np.isnan(want) else have == want


def _profiles(url: str) -> dict[bytes, bytes]:
    with redis.Redis.from_url(url) as tool:
        return {name: tool.hget(name, "profile") for name in tool.scan_iter("sentinel:profile:*", count=10_000)}
