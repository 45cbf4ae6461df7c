"""The admin call that takes back outcomes, a bounded part of the log at a time."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from sentinel.errors import BadBody, InvalidInput
from sentinel.events.times import LATEST_US, instant_us
from sentinel.record.entries import OutcomeRow, Revocation
from sentinel.record.revoking import Step, TakenBack, revoke_step, taken_back, wait_until_durable
from sentinel.serve.worker import Worker

_PATIENCE_S = 30.0


class RevokeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose outcomes are taken back, and why; received from `from` up to `to`, without it; all of them without either.

    The answer says in `position` and `before` where the next call goes on while there is `more`. With `dry_run` it only
    tells what would be taken back.
    """

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    from_: str | int | float | None = msgspec.field(default=None, name="from")
    to: str | int | float | None = None
    dry_run: bool = False
    position: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    before: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


def revoke(worker: Worker, asked: RevokeBody) -> Step:
    """Take back a part; from a thread that may wait. Raises BadBody, NotReady, StorageProblem."""
    engine, log = worker.ready_engine(), worker.log
    revocation = revocation_of(asked, log.durable)
    end = 0

    def take_back(rows: Sequence[OutcomeRow]) -> TakenBack:
        nonlocal end
        if asked.dry_run:
            return taken_back(engine.journal, revocation, rows)
        taken = worker.revoke(revocation, rows).result(_PATIENCE_S)
        end = max(end, taken.end)
        return taken

    step = revoke_step(log, revocation, asked.position, take_back, dry_run=asked.dry_run)
    wait_until_durable(log, end)
    return step


def revocation_of(asked: RevokeBody, end: int) -> Revocation:
    """What is asked of a log that ends before position `end`. Raises BadBody."""
    try:
        from_us = 0 if asked.from_ is None else instant_us(asked.from_, "$.from")
        to_us = LATEST_US if asked.to is None else instant_us(asked.to, "$.to")
    except InvalidInput as error:
        raise BadBody(str(error)) from None
    if from_us >= to_us:
        raise BadBody("from is not before to; outcomes are taken back that were received from `from` up to `to`")
    before = end if asked.before is None else min(asked.before, end)
    return Revocation(asked.key, asked.reason, from_us, to_us, before)
