"""What needs the log besides what is derived from it: the shadow, and the case opener where cases are opened."""

from contextlib import closing
from pathlib import Path

from sentinel.policy.deployment import Deployment
from sentinel.record.log import LogReader
from sentinel.record.pruning import Needs
from sentinel.record.retention import Need
from sentinel.record.whole_snapshots import WholeSnapshots
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.progress import cases_position
from sentinel.shadow.needs import shadow_needs


def log_needs(database_url: str | None, *, opens_cases: bool) -> Needs:
    """What finds them for a home folder; it raises StorageProblem, BundleProblem."""

    def with_cases(home: Path, deployment: Deployment, log: LogReader, whole: WholeSnapshots) -> list[Need]:
        with closing(WrittenDatabase(home, database_url)) as database:
            position = cases_position(database)
        read = Need(position or 0, f"the case opener has read up to position {position or 0}")
        return [read, *shadow_needs(home, deployment, log, whole)]

    return with_cases if opens_cases else shadow_needs
