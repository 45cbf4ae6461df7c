"""The projector: derives a view from the log. `python -m sentinel.record.projector --home H` runs one as a process."""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from sentinel.child_process import die_with_parent
from sentinel.errors import SentinelError, StorageProblem
from sentinel.events.schema import Schema
from sentinel.model.registry import Registry
from sentinel.record.disk import check_room
from sentinel.record.entries import schema_id
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind, LogReader, Traced
from sentinel.record.private import keep_private
from sentinel.record.problem import tell_problem
from sentinel.record.views import View, ViewMoved
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.rows import KeyReader, rows_of
from sentinel.telemetry.tracing import Tracer, open_tracer, parse_traceparent

STEP = 4_096
"""About how many entries are stored in one transaction."""

DATABASE = "SENTINEL_DATABASE_URL"
"""The variable with the address of the database, which has a password: arguments are seen by everyone at a machine."""

TRACING = "SENTINEL_OTLP_ENDPOINT"
"""The variable with the address that spans are sent to."""

_PAUSE_S, _RETRY_S = 0.5, 2.0
_REBUILD = "if that log was replaced, `sentinel views rebuild` makes the view anew"
_logger = logging.getLogger(__name__)


class Projector:
    """Brings a view up to the end of the log, a step at a time, and prunes it where the log was pruned.

    `schemas` finds the schemas there are by their ids. A view of another log raises StorageProblem. A step that raises
    it has changed nothing, and may be tried again.
    """

    def __init__(self, view: View, log: LogReader, schemas: Callable[[], Mapping[str, Schema]]) -> None:
        self._view, self._log, self._schemas = view, log, schemas
        self._readers: dict[str, KeyReader | None] = {}
        self._position = _checked_position(view, log)

    @property
    def lag(self) -> int:
        """How many positions are durable and not in the view yet."""
        return Follower(self._log, self._position).lag

    def step(self) -> bool:
        """Store what comes next, in one transaction; whether there is more to do at once."""
        first = self._log.first
        records = Follower(self._log, self._position).next(STEP)
        if records:
            rows = rows_of(records, self._reader_of)
            try:
                self._view.project(rows, self._log.log_id, self._position, time.time_ns() // 1_000)
            except ViewMoved:  # others project too, or a copy of the database was put back
                self._position = _checked_position(self._view, self._log)
                return True
            self._position = rows.end
        return self._view.prune(first) or sum(record.rows for record in records) >= STEP

    def _reader_of(self, schema: str) -> KeyReader | None:
        if schema not in self._readers:
            found = self._schemas().get(schema)
            if found is None:
                _logger.warning("no model has the schema %s: its decisions are projected without keys", schema)
            self._readers[schema] = None if found is None else KeyReader(found)
        return self._readers[schema]


def _checked_position(view: View, log: LogReader) -> int:
    """How far the view is; StorageProblem when that is no place of this log."""
    log_id, position, chain, _ = view.position
    if position > log.durable:
        raise StorageProblem(
            f"the view is at position {position} already, the log ends before {log.durable}; {_REBUILD}"
        )
    if log_id and (log_id != log.log_id or not _continues(log, position, chain)):
        raise StorageProblem(f"the view belongs to another log; {_REBUILD}")
    if log_id and position < log.first:
        _logger.warning("the log no longer has what the view lacks: positions %d to %d", position, log.first)
    return position


def _continues(log: LogReader, position: int, chain: bytes) -> bool:
    """Whether the log bears this chain before a position; so it is taken where the log cannot tell any more."""
    if position <= log.first:
        return True
    record = log.at(position - 1)
    return record.kind == Kind.LOSS or record.chain == chain


class _Plan(msgspec.Struct):
    schema: Schema


class _Manifest(msgspec.Struct):
    """What is needed of `sentinel.model.bundle.Manifest`, whose import would cost 90 MB."""

    plan: _Plan


def schemas_of(home: Path) -> dict[str, Schema]:
    """The schemas of all models in a home folder, by their ids; a bundle that cannot be read has none."""
    registry, found = Registry(home / "models"), []
    for version in registry.versions():
        with contextlib.suppress(OSError, msgspec.MsgspecError, SentinelError):
            manifest = (registry.path(version) / "manifest.json").read_bytes()
            found.append(msgspec.json.decode(manifest, type=_Manifest).plan.schema)
    return {schema_id(schema): schema for schema in found}


def follow(home: Path, place: ViewPlace, wanted: Callable[[], bool], tracer: Tracer | None = None) -> None:
    """Keep the view of a home folder up to date while it is wanted, whatever happens to the view or the log.

    After a StorageProblem everything is opened anew, again and again; `problem_of` tells of it meanwhile.
    """
    while wanted():
        try:
            with closing(open_log(home)) as log, closing(place.open()) as view:
                projector = Projector(view, log, lambda: schemas_of(home))
                while wanted():
                    check_room(home)
                    begun_ns = time.monotonic_ns()
                    more = projector.step()
                    if tracer is not None and isinstance(log, Traced):
                        note_traces(log, tracer, begun_ns)
                    tell_problem(home, "projector", None)
                    time.sleep(0 if more else _PAUSE_S)
        except StorageProblem as problem:
            tell_problem(home, "projector", str(problem))
            time.sleep(_RETRY_S)


def note_traces(log: Traced, tracer: Tracer, begun_ns: int) -> None:
    """Record when what was traced came into the view."""
    ended_ns = time.monotonic_ns()
    while log.traces:
        position, header = log.traces.popleft()
        tracer.span("project", parse_traceparent(header), begun_ns, ended_ns, {"position": position})


def _step_back() -> None:
    """Let decisions go first, with a share of a processor that they keep busy: or the lag would only grow."""
    os.setpriority(os.PRIO_PROCESS, 0, 10)


def main() -> int:
    """Run until killed, or until the parent process is gone."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.record.projector", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    _step_back()
    place = ViewPlace(given.home, os.environ.get(DATABASE))
    tracer = open_tracer(os.environ.get(TRACING) or None)
    try:
        follow(given.home, place, die_with_parent(given.parent), tracer)
    finally:
        tracer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
