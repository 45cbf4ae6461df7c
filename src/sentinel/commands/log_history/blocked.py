"""`sentinel history blocked`: what was turned away, told from the few that were approved instead."""

from collections.abc import Sequence
from contextlib import closing

import msgspec

from sentinel.commands.log_history.export import labelling_asked, part_asked, said_of_blocked
from sentinel.commands.log_history.rows import HistoryRows
from sentinel.commands.log_history.survey import ages, records_of, survey
from sentinel.commands.progress import Stage
from sentinel.commands.registry_of_home import champion_manifest, registry_of
from sentinel.config import Settings
from sentinel.errors import DataProblem
from sentinel.events.times import iso
from sentinel.record.home_reader import open_log
from sentinel.review.held_out import BlockedEstimate, Span


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of what was turned away, of transactions that were `label_delay_days` old at `as_of`.

    The precision of turning away is the `share` of `blocked`; `recall` is the share of all fraud that it finds, and
    `fraud_share` that of fraud among all, where `fraud_share_known` is that among what has a label. Each but the last
    is None where none was held out and is known.
    """

    blocked: BlockedEstimate
    recall: Span | None
    fraud_share: Span | None
    fraud_share_known: float
    label_delay_days: float
    as_of: str

    @property
    def said(self) -> Sequence[str]:
        """The same in words."""
        found = said_of_blocked(self.blocked, self.fraud_share, self.fraud_share_known, self.recall)
        return found or ["no transaction of that time could have been held out; a detector needs a `Holdout` for it"]


def blocked_in(
    settings: Settings, period: tuple[str | None, str | None], delay: str | None, as_of: str | None, stage: Stage
) -> Blocked:
    """Estimate it from what was received in [since, until). Raises SentinelError, DataProblem for no decision."""
    registry, plan = registry_of(settings), champion_manifest(settings).plan
    with closing(open_log(settings.home)) as log:
        found = survey(log, part_asked(log, *period), plan, registry, stage)
        if found.decisions == 0:
            raise DataProblem("nothing was decided in that time; give another with --from and --to")
        begin, end = found.part.begin, found.part.end
        labelling = labelling_asked(ages(log, found.known, plan.schema.time, end, stage), delay, as_of)
        rows = HistoryRows(plan.schema, found, labelling)
        for _ in rows.of_log(records_of(log, begin, end, lambda done: stage("transactions", done, end - begin))):
            pass  # what counts is what is counted on the way
    counts = rows.counts
    return Blocked(
        blocked=counts.blocked,
        recall=counts.blocked_recall,
        fraud_share=counts.fraud_share,
        fraud_share_known=counts.fraud_share_known,
        label_delay_days=round(labelling.mature_us / 86_400_000_000, 3),
        as_of=iso(labelling.as_of_us),
    )
