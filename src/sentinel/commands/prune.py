"""`sentinel log prune`: the server that owns the log is asked, or the log is pruned here while nobody owns it."""

import time
from collections.abc import Iterator
from contextlib import closing

import msgspec

from sentinel.commands.archive import archive_now
from sentinel.commands.audited import note_in_log
from sentinel.commands.owner import ask_owner
from sentinel.config import Settings, age_us
from sentinel.errors import InvalidDefinition
from sentinel.events.times import clock_us, duration_us
from sentinel.record.applied import log_folder
from sentinel.record.archive.place import address_of
from sentinel.record.file_log import FileLog
from sentinel.record.home_log import HomeLog
from sentinel.record.kafka.place import place_in
from sentinel.record.log_reader import FileLogReader
from sentinel.record.pruning import Needs, Outlook, Pruned, Pruner, Retention
from sentinel.record.views.place import ViewPlace
from sentinel.serve.log_needs import log_needs

_PATIENCE_S = 3_600.0  # of one step: segments may have to be copied to a slow disk


def prune_log(settings: Settings, keep: str | None, archive: str | None) -> Pruned:
    """Remove what is older than `keep` (SENTINEL_KEEP_LOG) and needed by nobody. Raises SentinelError.

    What leaves is in `archive` before (SENTINEL_ARCHIVE).
    """
    _refuse_in_kafka(settings)
    removed = size = 0
    for step in _steps(settings, keep, archive):
        removed, size = removed + step.removed, size + step.removed_bytes
    return msgspec.structs.replace(step, removed=removed, removed_bytes=size)


def look_at_log(settings: Settings, keep: str | None) -> Pruned:
    """What `prune_log` would remove now. Raises SentinelError."""
    _refuse_in_kafka(settings)
    retention = _retention(settings, keep, None)
    said = ask_owner(settings, "/admin/log/prune", _body(keep, None) | {"dry_run": True}, _PATIENCE_S)
    if said is not None:
        return msgspec.convert(said, Pruned)
    with closing(FileLogReader(log_folder(settings.home))) as log:
        would = msgspec.structs.replace(retention, archive=None)  # it is archived before
        return Outlook(settings.home, log, _view(settings), _needs(settings)).look(would, clock_us())


def _needs(settings: Settings) -> Needs:
    tells_others = bool(settings.webhook_url or settings.mail_to)
    return log_needs(settings.database_url, opens_cases=settings.cases, tells_others=tells_others)


def _steps(settings: Settings, keep: str | None, archive: str | None) -> Iterator[Pruned]:
    retention = _retention(settings, keep, archive)
    while (
        said := ask_owner(settings, "/admin/log/prune", _body(keep, archive or settings.archive), _PATIENCE_S)
    ) is not None:
        step = msgspec.convert(said, Pruned)
        yield step
        if not step.more:
            return
    with closing(FileLogReader(log_folder(settings.home))):
        pass  # a folder without a log is not made one
    with closing(HomeLog.open(log_folder(settings.home), clock_us())) as log:
        outlook = Outlook(settings.home, log, _view(settings), _needs(settings))
        pruner = Pruner(log, outlook, _Here(log, settings, retention.archive), time.sleep)
        first, more = log.first, True
        while more:
            step = pruner.step(retention, clock_us())
            more = step.more
            yield step
        if log.first != first:  # only now: an entry before it would keep the newest segment
            note_in_log(log, "log prune", "", {"first": first}, {"first": log.first})


def _refuse_in_kafka(settings: Settings) -> None:
    place = place_in(settings.home)
    if place is not None:
        raise InvalidDefinition(
            f"the log of {settings.home} is {place.spoken}: Kafka removes its entries by their age; set retention.ms "
            "of the topic"
        )


def _view(settings: Settings) -> ViewPlace:
    return ViewPlace(settings.home, settings.database_url)


class _Here:
    """This process owns the log, and has no ids in memory."""

    def __init__(self, log: FileLog, settings: Settings, archive: str | None) -> None:
        self._log, self._settings, self._archive = log, settings, archive

    def close_segment(self, made_before_us: int) -> None:
        """See FileLog.close_segment; then have all that is closed in the archive, if there is one."""
        self._log.close_segment(made_before_us, clock_us())
        if self._archive is not None:
            archive_now(self._settings, self._archive)

    def forget_ids(self, before: int) -> None:
        """The next server begins without them."""


def _retention(settings: Settings, keep: str | None, archive: str | None) -> Retention:
    keep_us = age_us(keep or settings.keep_log)
    if keep_us is None:
        raise InvalidDefinition("the log is kept for ever (SENTINEL_KEEP_LOG); say how much of it to keep with --keep")
    return Retention(keep_us, duration_us(settings.remember_ids), archive or settings.archive)


def _body(keep: str | None, archive: str | None) -> dict[str, object]:
    """What is not given is left to the server."""
    given = {"keep": keep, "archive": archive and address_of(archive)}
    return {name: value for name, value in given.items() if value is not None}
