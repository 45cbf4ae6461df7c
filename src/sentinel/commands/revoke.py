"""`sentinel outcomes revoke`: the server that owns the log is asked, or it is done here while nobody owns the log."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec

from sentinel.commands.audited import note_in_log
from sentinel.commands.owner import ask_owner
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.card_numbers import masked
from sentinel.events.times import clock_us
from sentinel.record.applied import log_folder
from sentinel.record.entries import OutcomeRow
from sentinel.record.home_log import HomeLog
from sentinel.record.home_reader import open_log
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.revoking import Step, TakenBack, revoke_step, taken_back
from sentinel.transport.http.revocations import RevokeBody, revocation_of

_PATIENCE_S = 600.0  # of one step


def revoke_outcomes(
    settings: Settings, *, key: str, reason: str, since: str | None, until: str | None, dry_run: bool
) -> Step:
    """Take back what this key told and the log received in [since, until): to its end as it is now.

    What was taken back before is left as it is. Raises SentinelError; when it was cut short it may be done again.
    """
    given = {"key": key, "reason": reason, "from": _moment(since), "to": _moment(until), "dry_run": dry_run}
    try:
        asked = msgspec.convert(given, RevokeBody)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f"{error}; give a key, and a reason of at most 256 characters") from None
    step = None
    outcomes = transactions = changed = 0
    for step in _steps(settings, asked):
        outcomes += step.outcomes
        transactions += step.transactions
        changed += step.changed
    assert step is not None  # noqa: S101 - there is one at least
    return msgspec.structs.replace(step, outcomes=outcomes, transactions=transactions, changed=changed)


def _moment(text: str | None) -> str | float | None:
    """A time as it is given: ISO 8601, or a Unix number."""
    return float(text) if text is not None and text.replace(".", "", 1).isdecimal() else text


def _steps(settings: Settings, asked: RevokeBody) -> Iterator[Step]:
    while (said := ask_owner(settings, "/admin/outcomes/revoke", msgspec.to_builtins(asked), _PATIENCE_S)) is not None:
        step = msgspec.convert(said, Step)
        yield step
        if not step.more:
            return
        asked = msgspec.structs.replace(asked, position=step.position, before=step.before)
    yield from _steps_here(settings, asked)


def _steps_here(settings: Settings, asked: RevokeBody) -> Iterator[Step]:
    """The next server takes it from the log, as it takes everything."""
    folder = log_folder(settings.home)
    with closing(open_log(settings.home)):
        pass  # a folder without a log is not made one
    with (
        closing(HomeLog.open(folder, clock_us())) as log,
        closing(Journal(log, IdIndex(settings.home / "ids", log))) as journal,
    ):
        revocation = revocation_of(asked, log.durable)

        def take_back(rows: Sequence[OutcomeRow]) -> TakenBack:
            taken = taken_back(journal, revocation, rows)
            if taken.entry is not None and not asked.dry_run:
                journal.append_revoked(taken.entry, log.clock(clock_us()))
            return taken

        position, outcomes, more = asked.position, 0, True
        try:
            while more:
                step = revoke_step(log, revocation, position, take_back, dry_run=asked.dry_run)
                position, outcomes, more = step.position, outcomes + step.outcomes, step.more
                yield step
        finally:
            if outcomes and not asked.dry_run:
                note_in_log(log, "outcomes revoke", _shown(asked), {}, {"outcomes": outcomes})


def _shown(asked: RevokeBody) -> str:
    """What was asked for, as the audit shows it: without card numbers, and without where it went on."""
    return masked(msgspec.json.encode(msgspec.structs.replace(asked, position=0, before=None)).decode())
