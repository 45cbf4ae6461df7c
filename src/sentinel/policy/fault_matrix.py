"""The fault matrix: each thing that Sentinel depends on, each fault of it, and what is answered then.

`fail_policy` decides by it, a test brings about each of its faults, and `docs/fail-policy.md` is generated from it.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from sentinel.policy.model_call import CIRCUIT_OPEN, FAILED, OVERLOADED, TOO_SLOW


class Dependency(StrEnum):
    """What a decision, or what is known about decisions, depends on."""

    MODEL = "model"
    QUEUE = "queue"
    FEATURES = "feature state"
    LOG = "log"
    IDS = "id index"
    DEPLOYMENT = "deployment change"
    SNAPSHOTTER = "snapshotter"
    PROJECTOR = "projector"
    VIEW = "view"
    SHADOW = "shadow"
    OBSERVERS = "drift and tallies"
    TRACES = "trace exporter"


class Fault(StrEnum):
    """What can be wrong with it."""

    TIMEOUT = "timeout"
    ERROR = "error"
    STALE = "stale"
    ABSENT = "absent"
    FULL = "full"


class Then(StrEnum):
    """What a caller who asks for a decision gets."""

    DECIDED = "decided"
    CHOSEN = "chosen"
    REFUSED = "refused"
    HELD = "held"
    NOT_STARTED = "not started"
    NEVER = "never"


MEANING: Mapping[Then, str] = {
    Then.DECIDED: "decided by the model, on exact features, as without the fault",
    Then.CHOSEN: "decided in the model's place, as the detector chose in `on_fault`; `degraded` says why",
    Then.REFUSED: "503 with the reason, and nothing is stored; send it again with the same id",
    Then.HELD: "no answer while it lasts: a decision that is not durable is never answered",
    Then.NOT_STARTED: "the server does not start, and names what is wrong",
    Then.NEVER: "cannot occur",
}


class Cell(NamedTuple):
    """What one fault of one dependency means, what is answered, and where it shows.

    Of a cell that a team may choose, `reason` is what `degraded` says, and `choice` the field of `FailPolicy`.
    """

    dependency: Dependency
    fault: Fault
    means: str
    then: Then
    shows: str = ""
    reason: str | None = None
    choice: str | None = None


def _row(dependency: Dependency, *cells: tuple[str, Then, str] | tuple[str, Then, str, str, str]) -> list[Cell]:
    """A cell for every fault, in their order."""
    return [Cell(dependency, fault, *cell) for fault, cell in zip(Fault, cells, strict=True)]


_SHED = "`sentinel_shed_decisions`"

MATRIX: Sequence[Cell] = (
    *_row(
        Dependency.MODEL,
        ("a call takes longer than `circuit_threshold_ms`", Then.CHOSEN, _SHED, TOO_SLOW, "too_slow"),
        ("it raises, or gives NaN or anything that is no probability", Then.CHOSEN, _SHED, FAILED, "failed"),
        ("its files were changed or removed after it was loaded", Then.DECIDED, "a later start names the file"),
        ("it failed too often, and is left alone", Then.CHOSEN, "`sentinel_breaker_state`", CIRCUIT_OPEN, "left_alone"),
        ("all the threads that it may have hang", Then.CHOSEN, _SHED, TOO_SLOW, "too_slow"),
    ),
    *_row(
        Dependency.QUEUE,
        ("half of the deadline went, or will go, into waiting for others", Then.CHOSEN, _SHED, OVERLOADED, "no_time"),
        ("it is memory of the deciding process", Then.NEVER, ""),
        ("it is memory of the deciding process", Then.NEVER, ""),
        ("it is memory of the deciding process", Then.NEVER, ""),
        ("`max_waiting` wait, or the caller's own take their share, or all the time of one in haste", Then.REFUSED,
         "`sentinel_queue_length`, `sentinel_errors`"),
    ),
    *_row(
        Dependency.FEATURES,
        ("it is still being loaded", Then.REFUSED, "`/health/ready`"),
        ("a snapshot is damaged: an older one, or the log, takes its place", Then.DECIDED, "a message at the start"),
        ("the transaction is older than the newest of one of its keys", Then.DECIDED, "`features_state` is `late`"),
        ("there is no snapshot: it is made again from the log", Then.DECIDED, "`/health` `snapshots.lag`"),
        ("memory runs out and the process is killed: refused until it is back", Then.REFUSED, "the process ends"),
    ),
    *_row(
        Dependency.LOG,
        ("the disk does not return from a write", Then.HELD, "nothing is answered, `/health/live` neither"),
        ("a write fails", Then.REFUSED, "`/health/ready`, `sentinel_log_writable`"),
        ("it was put back from an older copy: what that lacks is decided anew", Then.DECIDED, "messages at the start"),
        ("a segment is gone", Then.NOT_STARTED, "the position that is missing"),
        ("the disk is full", Then.REFUSED, "`/health/ready`, `sentinel_log_writable`"),
    ),
    *_row(
        Dependency.IDS,
        ("a file of it is not written in time: it stays in memory", Then.DECIDED, "nothing is late"),
        ("a file of it is damaged: it is made again from the log", Then.DECIDED, "a message at the start"),
        ("its files lack the newest entries: they are read from the log", Then.DECIDED, "a start takes longer"),
        ("its folder is gone: it is made again from the log", Then.DECIDED, "a start takes longer"),
        ("there is no room for its files: it stays in memory", Then.DECIDED, "a message"),
    ),
    *_row(
        Dependency.DEPLOYMENT,
        ("a model takes long to load: what is in force decides meanwhile", Then.DECIDED, "the admin call waits"),
        ("its bundle was altered: the change is refused with 400", Then.DECIDED, "the admin call"),
        ("another model while an experiment runs: the change is refused with 409", Then.DECIDED, "the admin call"),
        ("there is no champion, or its bundle is gone at a start", Then.REFUSED, "`/health/ready`"),
        ("it cannot be recorded: it is refused with 503, and so is all else", Then.REFUSED, "`/health/ready`"),
    ),
    *_row(
        Dependency.SNAPSHOTTER,
        ("it hangs", Then.DECIDED, "`sentinel_snapshot_lag`"),
        ("it was killed: it is started again", Then.DECIDED, "`sentinel_snapshotter_restarts`"),
        ("snapshots are behind the log: a start replays the rest", Then.DECIDED, "`sentinel_snapshot_lag`"),
        ("the folder of snapshots is gone", Then.DECIDED, "`/health` `snapshots.status`"),
        ("there is no room for a snapshot", Then.DECIDED, "`/health` `snapshots.status`"),
    ),
    *_row(
        Dependency.PROJECTOR,
        ("it hangs: what the view lacks is found in the log", Then.DECIDED, "`sentinel_view_lag`"),
        ("it was killed: it is started again", Then.DECIDED, "a message"),
        ("the view is behind the log: what it lacks is found in the log", Then.DECIDED, "`sentinel_view_lag`"),
        ("it cannot do its work: the log must wait for nothing", Then.DECIDED, "`/health` `view.status`"),
        ("there is no room for the view", Then.DECIDED, "`/health` `view.status`"),
    ),
    *_row(
        Dependency.VIEW,
        ("another process locks it", Then.DECIDED, "searches are 503 after a second"),
        ("its file is damaged", Then.DECIDED, "`/health` `view.status`; `sentinel views rebuild` makes it anew"),
        ("it is of another log, or ahead of this one", Then.DECIDED, "`/health` `view.status`"),
        ("its file was removed: it is made again from the log", Then.DECIDED, "`sentinel_view_lag`"),
        ("its rows are those of the log, and leave with it", Then.NEVER, ""),
    ),
    *_row(
        Dependency.SHADOW,
        ("it hangs: it is killed and started again", Then.DECIDED, "`/admin/shadow/status`"),
        ("it was killed: it is started again", Then.DECIDED, "`/admin/shadow/status`"),
        ("it is more than 20,000 entries behind: it skips scores", Then.DECIDED, "`/admin/shadow/status` `dropped`"),
        ("its bundle is gone", Then.DECIDED, "`/admin/shadow/status`"),
        ("there is no room for its scores", Then.DECIDED, "`/admin/shadow/status`"),
    ),
    *_row(
        Dependency.OBSERVERS,
        ("the log is slow to read for them", Then.DECIDED, "`/admin/drift` waits"),
        ("they cannot read the log", Then.DECIDED, "a message"),
        ("they are behind the log", Then.DECIDED, "`/admin/drift` catches up first"),
        ("there is no log, only vectors", Then.DECIDED, "vectors are counted all the same"),
        ("the window is full: the oldest leave", Then.DECIDED, "`current_count` of `/admin/drift`"),
    ),
    *_row(
        Dependency.TRACES,
        ("the endpoint does not answer", Then.DECIDED, "messages"),
        ("the endpoint answers 500", Then.DECIDED, "messages"),
        ("a span is of the past whenever it is sent", Then.NEVER, ""),
        ("nobody listens at the endpoint", Then.DECIDED, "messages"),
        ("more spans than its queue takes: the rest is dropped", Then.DECIDED, "spans are missing"),
    ),
)  # fmt: skip

CHOICE_OF: Mapping[str, str] = {one.reason: one.choice for one in MATRIX if one.reason and one.choice}
"""The field of `FailPolicy` for each reason that `degraded` may give; the rules decide for all others."""
