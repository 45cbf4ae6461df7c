"""What commands change is in the audit, whether a server runs or not: who changed it, where, and what it was."""

import contextlib
from typing import Any

from sentinel.config import Settings
from sentinel.errors import StorageProblem
from sentinel.events.times import clock_us
from sentinel.homes import keys_home_of
from sentinel.record.applied import HomeDeployment, by_this_user, log_folder
from sentinel.record.audit import Change, append_change
from sentinel.record.lock import owner_of
from sentinel.record.log import Log
from sentinel.transport.access.store import KeyStore


def note_in_log(log: Log, what: str, asked: str, before: Any, after: Any) -> None:
    """Write a change to the audit of a log that this process owns. Raises StorageProblem."""
    now_us = log.clock(clock_us())
    append_change(log, Change.of(by_this_user(what, asked), before, after, now_us), now_us)


def note(settings: Settings, what: str, asked: str, before: Any, after: Any) -> None:
    """Have a change in the audit of a home, whoever owns its log. Raises StorageProblem, InvalidDefinition.

    While another process does, or there is no log yet, it waits beside the keys, which the server looks at.
    """
    change = Change.of(by_this_user(what, asked), before, after, clock_us())
    folder = log_folder(settings.home)
    if folder.exists() and owner_of(folder) is None:
        with contextlib.suppress(StorageProblem):  # a server starts right now, or the log is damaged
            HomeDeployment(settings.home).note([change])
            return
    KeyStore(keys_home_of(settings.home)).change(lambda ring: ring.noting(change))
