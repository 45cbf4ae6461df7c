"""One retraining from its first step to its last, or on from where it stopped."""

import contextlib
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from sentinel.commands.progress import Stage
from sentinel.commands.retraining import steps
from sentinel.commands.retraining.fitting import fit, fit_warm
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, SentinelError, StorageProblem
from sentinel.events.reading import Reading
from sentinel.record.home_reader import has_log, open_log
from sentinel.record.log import Follower, Kind
from sentinel.record.retrainings import (
    STEPS,
    Asked,
    Failure,
    Run,
    Step,
    folder_of,
    keep_record_only,
    one_at_a_time,
    read_run,
    runs_of,
    write_run,
)

Now = Callable[[], datetime]
_OF_HISTORY = frozenset((Kind.DECIDED, Kind.OUTCOMES, Kind.REVOKED, Kind.UNMATCHED, Kind.CONTEXT))


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def retrain(
    settings: Settings, detector: str, data: str | None, reading: Reading, stage: Stage, *, earlier: str | None = None,
    warm_start: bool = False, name: str | None = None, until: str = STEPS[-1], clock: Now = now,
) -> Run:  # fmt: skip
    """Do every step up to `until` that is not done yet, and write each down.

    Without a name, a run that was begun with the same things and did not end is taken up, and one on the same data that
    did end is what is answered; else a new one is named after the moment, and what those before it have made beside
    their record is removed. A step that fails leaves all before it, and the champion, as they were. Raises
    SentinelError, StorageProblem while another retraining runs or where the disk takes no more, and OSError where not
    even the run can be written down.
    """
    if data is not None and earlier is not None:
        raise InvalidDefinition("--with is for what came before the log; with --data all is in that file")
    if until not in STEPS:
        raise InvalidDefinition(f"--until is {until!r}; take one of {', '.join(STEPS)}")
    asked = Asked(detector, data, msgspec.to_builtins(reading, enc_hook=str), earlier, warm_start)
    began = f"{clock():%Y-%m-%dT%H-%M-%S}"
    with one_at_a_time(settings.home, name or began, _iso(clock)):
        run = _begun(settings, asked, name, began, clock)
        if run.ended is not None:
            return run
        work = steps.Work(settings, folder_of(settings.home, run.name), detector, reading, stage)
        for step in STEPS[: STEPS.index(until) + 1]:
            if run.ended is None and run.found(step) is None:
                run = _done(settings, work, run, step, clock)
        return run


def _begun(settings: Settings, asked: Asked, name: str | None, began: str, clock: Now) -> Run:
    """The run that goes on, that has ended, or that begins. Raises InvalidDefinition for one of other things."""
    runs = runs_of(settings.home)
    if name is not None:
        known = read_run(settings.home, name)
        if known is not None and known.asked != asked:
            raise InvalidDefinition(f"the run {name} was begun with other data or options; name another one")
        if known is not None:
            return known
    else:
        alike = [one for one in runs if one.asked == asked and _is_current(settings, one)]
        if alike:
            return alike[-1]
    for one in runs:
        is_over = one.ended is not None or (name is None and one.asked == asked)
        if is_over and not _is_in(folder_of(settings.home, one.name), asked):
            keep_record_only(settings.home, one)
    return write_run(settings.home, Run(name or began, _iso(clock), _log_end(settings), asked))


def _is_in(folder: Path, asked: Asked) -> bool:
    """Whether a folder has a file that is asked for."""
    files = [Path(one).resolve() for one in (asked.data, asked.earlier) if one is not None]
    return any(folder.resolve() in file.parents for file in files)


def _is_current(settings: Settings, run: Run) -> bool:
    """Whether the data are still what the run collected, or would collect.

    What the log had when the run began is also enough for one that was cut short, or that has its candidate. One that
    failed before is not tried again on what could perhaps not be learned from, once there is more.
    """
    collected = run.found("collect")
    if run.asked.data is not None:
        return collected is None or steps.fingerprint(Path(run.asked.data)) == collected["sha256"]
    if run.ended is None and (run.failed is None or run.found("train") is not None):
        return True
    return not _has_news(settings, run.position)


def _has_news(settings: Settings, position: int) -> bool:
    """Whether the log has anything since a position that a history is made of."""
    with closing(open_log(settings.home)) as log:
        pages = Follower(log, position).rest()
        return any(record.kind in _OF_HISTORY for page in pages for record in page)


def _done(settings: Settings, work: steps.Work, run: Run, step: str, clock: Now) -> Run:
    """The run with one more step done, written down."""
    began = time.monotonic()
    try:
        found = _do(work, run, step)
    except (SentinelError, OSError) as error:
        problem = error if isinstance(error, SentinelError) else _of_the_disk(error)
        with contextlib.suppress(OSError):  # a full disk has no room for why it failed, either
            write_run(settings.home, msgspec.structs.replace(run, failed=Failure(step, _iso(clock), str(problem))))
        raise problem from error
    done = Step(step, _iso(clock), round(time.monotonic() - began, 3), found)
    ended = "refused" if step == "gate" and not found["passed"] else "shadow" if step == STEPS[-1] else None
    return write_run(settings.home, msgspec.structs.replace(run, steps=[*run.steps, done], ended=ended, failed=None))


def _of_the_disk(error: OSError) -> StorageProblem:
    named = f"{error.filename}: " if error.filename else ""
    return StorageProblem(f"{named}{error.strerror or error}; free or repair the disk, and ask for the same run again")


def _do(work: steps.Work, run: Run, step: str) -> dict[str, Any]:
    collected, fitted = run.found("collect") or {}, run.found("train") or {}
    match step:
        case "collect":
            return steps.collect(work, run.asked.data, run.asked.earlier)
        case "train":
            return fit_warm(work, collected) if run.asked.warm_start else fit(work, collected)
        case "gate":
            return steps.judge(work, collected, fitted)
        case "register":
            return steps.register(work, fitted)
        case _:
            return steps.watch(work, run.found("register") or {})


def _log_end(settings: Settings) -> int:
    if not has_log(settings.home):
        return 0
    with closing(open_log(settings.home)) as log:
        return log.durable


def _iso(clock: Now) -> str:
    return clock().isoformat(timespec="seconds")
