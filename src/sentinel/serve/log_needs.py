"""What needs the log besides what is derived from it: the shadow, the case opener, and who tells others of results."""

from collections.abc import Iterator
from pathlib import Path

from sentinel.policy.deployment import Deployment
from sentinel.record.log import LogReader
from sentinel.record.pruning import Needs
from sentinel.record.retention import Need
from sentinel.record.whole_snapshots import WholeSnapshots
from sentinel.record.written.readings import RESULTS, read_before
from sentinel.record.written.written_database import OpenedLate, WrittenDatabase
from sentinel.review.case_store.progress import cases_position
from sentinel.shadow.needs import shadow_needs


def log_needs(database_url: str | None, *, opens_cases: bool, tells_others: bool) -> Needs:
    """What finds them for a home folder; it raises StorageProblem, BundleProblem."""
    opened: dict[Path, OpenedLate] = {}

    def with_readers(home: Path, deployment: Deployment, log: LogReader, whole: WholeSnapshots) -> list[Need]:
        database = opened.setdefault(home, OpenedLate(home, database_url)).get()
        read = [*_of_cases(database)] if opens_cases else []
        read += _of_results(database, log.log_id) if tells_others else []
        return [*read, *shadow_needs(home, deployment, log, whole)]

    return with_readers if opens_cases or tells_others else shadow_needs


def _of_cases(database: WrittenDatabase) -> Iterator[Need]:
    position = cases_position(database) or 0
    yield Need(position, f"the case opener has read up to position {position}")


def _of_results(database: WrittenDatabase, log_id: str) -> Iterator[Need]:
    """Who never told of any begins at the end of the log, and needs nothing before it."""
    with database.reading() as reader:
        position = read_before(reader, RESULTS, log_id)
    if position is not None:
        yield Need(position, f"results are told of up to position {position}")
