"""What is applied: the deployment in force is the newest APPLIED entry of the log, and every change is one more."""

import os
import pwd
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgspec

from sentinel.errors import BundleProblem, DeploymentRefused
from sentinel.model.registry import manifest_sha256
from sentinel.policy.deployment import Deployment, RulesInForce
from sentinel.record import audit
from sentinel.record.audit import AuditPage, By, append_change, audit_page, differences
from sentinel.record.file_log import FileLog
from sentinel.record.home_log import HomeLog
from sentinel.record.home_reader import has_log, open_log
from sentinel.record.log import Kind, Log, LogReader

NAME = "applied"
_T = TypeVar("_T")
Change = Callable[[Deployment], Deployment]
Check = Callable[[LogReader], None]
"""Raises what speaks against a change, of the log as it is then."""

_decode = msgspec.json.Decoder(Deployment).decode  # made once, before there are threads


def deployment_in(log: LogReader) -> Deployment:
    """What is in force; an empty deployment when nothing ever was. Raises BundleProblem when it cannot be read."""
    record = log.standing().get(NAME)
    if record is None:
        return Deployment()
    try:
        return _decode(record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleProblem(
            f"the deployment at position {record.position} of the log is of another version of Sentinel ({error}); "
            "run that version, or a fresh --home"
        ) from error


def apply(log: Log, change: Change, now_us: int, by: By = audit.SENTINEL) -> Deployment:
    """Replace what is in force by what `change` makes of it, durable when this returns if the log writes at once.

    Its entry of the audit comes first: there is no change without one. From the thread of the log's writer. No entry
    leaves the log meanwhile: `change` can look at what the log still has. Raises DeploymentRefused for a share or a
    split outside its range, StorageProblem when the log cannot be written, and whatever `change` raises; then nothing
    is changed.
    """
    with log.leaving:
        before = deployment_in(log)
        after = change(before)
        if after == before:
            return before
        if after.rules is not None and after.rules != before.rules:
            after = msgspec.structs.replace(after, rules=_following(after.rules, before, log))
        body = msgspec.json.encode(msgspec.structs.replace(after, revision=before.revision + 1))
        try:
            after = _decode(body)
        except msgspec.ValidationError as error:
            raise DeploymentRefused(f"this deployment could not be read back ({error}); nothing is changed") from error
        append_change(log, audit.Change.of(by, *differences(before, after), now_us), now_us)
        log.write(Kind.APPLIED, 1, now_us, body, standing=NAME)
        return after


def _following(rules: RulesInForce, before: Deployment, log: LogReader) -> RulesInForce:
    """Rules that say where what was in force before them is."""
    record = log.standing().get(NAME)
    earlier = 0 if record is None else record.position
    return msgspec.structs.replace(rules, since_revision=before.revision + 1, earlier=earlier)


class HomeDeployment:
    """The deployment of a home folder for a process that does not own its log: it reads on, and writes for a moment."""

    def __init__(self, home: Path) -> None:
        self._folder = log_folder(home)
        self._reader: LogReader | None = None
        self._known = -1, Deployment()

    def read(self) -> Deployment:
        """What is in force; little work while nothing is new. Raises BundleProblem, StorageProblem."""
        if self._reader is None:
            if not has_log(self._folder.parent):
                return Deployment()
            self._reader = open_log(self._folder.parent)
        end = self._reader.durable
        if end != self._known[0]:
            self._known = end, deployment_in(self._reader)
        return self._known[1]

    def champion(self) -> str:
        """The champion's version. Raises BundleProblem when there is none."""
        champion = self.read().champion
        if champion is None:
            raise BundleProblem(
                f"{self._folder.parent} has no champion; run `sentinel train`, or `sentinel models promote VERSION`"
            )
        return champion

    def change(self, change: Change, by: By | None = None, check: Check = lambda _log: None) -> Deployment:
        """Take the writer's lock, change what is in force once `check` has let it pass, and release it.

        It is this user's change unless `by` says whose. Raises StorageProblem while another process owns the log, what
        `check` raises, and what `apply` does.
        """
        by = by or by_this_user("change of the deployment")

        def write(log: FileLog, now_us: int) -> Deployment:
            check(log)  # with the writer's lock: nobody prunes what it looks at
            return apply(log, change, now_us, by)

        return self.as_writer(write)

    def promote(self, version: str, forced_because: str | None = None, check: Check = lambda _log: None) -> None:
        """Make a version the champion, as it is here now; the audit has why it was forced, if it was.

        Raises DeploymentRefused while an experiment runs, and what `check` raises.
        """
        try:
            seen = manifest_sha256(self._folder.parent / "models" / version)
        except BundleProblem:  # whoever loads it is told
            seen = ""

        def promoted(deployment: Deployment) -> Deployment:
            after = deployment.with_champion(version)
            return after.vouching(version, seen) if seen else after

        asked = version if forced_because is None else f"{version}, forced because {forced_because}"
        self.change(promoted, by_this_user("promote", asked), check)

    def note(self, changes: Sequence[audit.Change]) -> None:
        """Take the writer's lock and append entries of the audit; raises StorageProblem as `change` does."""

        def append(log: FileLog, now_us: int) -> None:
            for one in changes:
                append_change(log, one, now_us)

        self.as_writer(append)

    def audit(self, limit: int, cursor: int = 0) -> AuditPage:
        """A page of the audit; see `audit_page`. It is empty while there is no log."""
        if not has_log(self._folder.parent):
            return AuditPage([], None)
        with closing(open_log(self._folder.parent)) as log:
            return audit_page(log, limit, cursor)

    def as_writer(self, write: Callable[[FileLog, int], _T]) -> _T:
        """Take the writer's lock, have this written at a moment of the log's clock, and release it.

        Raises StorageProblem while another process owns the log.
        """
        now_us = time.time_ns() // 1000
        log = HomeLog.open(self._folder, now_us)
        try:
            return write(log, log.clock(now_us))
        finally:
            log.close()


def by_this_user(what: str, asked: str = "") -> By:
    """A change that is made on the command line, by the user of this process: not by whoever LOGNAME says."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # nobody has this number
        name = str(os.getuid())
    return By(f"user {name}", "command line", what, asked)


def log_folder(home: Path) -> Path:
    """Where a home folder keeps its log."""
    return home / "log"
