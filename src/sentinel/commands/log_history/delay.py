"""`sentinel history delay`: how long frauds took to become known, by the log of a home folder."""

from contextlib import closing

import msgspec

from sentinel.commands.log_history.survey import ages, survey
from sentinel.commands.progress import Stage
from sentinel.commands.registry_of_home import champion_manifest, registry_of
from sentinel.config import Settings
from sentinel.events.stamps import LogPart
from sentinel.events.times import iso
from sentinel.record.home_reader import open_log
from sentinel.review.label_delay import LabelDelay

DAY_US = 86_400_000_000


class DelayReport(msgspec.Struct, frozen=True):
    """The delay of labels as it stands at `as_of`; `early` frauds bear a time before that of their transaction."""

    delay: LabelDelay
    as_of: str
    early: int


def label_delay(settings: Settings, stage: Stage) -> DelayReport:
    """The delay of labels, from the outcomes that the champion trusts. Raises SentinelError."""
    registry, plan = registry_of(settings), champion_manifest(settings).plan
    with closing(open_log(settings.home)) as log:
        part = LogPart(log.log_id, log.first, log.durable)
        found = ages(log, survey(log, part, plan, registry, stage).known, plan.schema.time, part.end, stage)
    return DelayReport(found.delay, iso(found.as_of_us), found.early)
