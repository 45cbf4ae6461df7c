"""The admin call that takes back outcomes, a bounded part of the log at a time."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Annotated

import msgspec

from sentinel.errors import BadBody, InvalidInput, StorageProblem
from sentinel.events.card_numbers import masked
from sentinel.events.times import LATEST_US, bound_us
from sentinel.record.audit import By, Change
from sentinel.record.entries import OutcomeRow, Revocation
from sentinel.record.log import Record
from sentinel.record.revoking import Step, TakenBack, revoke_step, taken_back
from sentinel.record.standing import wait_until_it_stands
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


def revoke(worker: Worker, asked: RevokeBody, by: By) -> Step:
    """Take back a part, with an entry of the audit before the first; from a thread that may wait.

    Raises BadBody, NotReady, StorageProblem.
    """
    engine, log = worker.ready_engine(), worker.log
    revocation = revocation_of(asked, log.durable)
    about = {"outcomes_of": revocation.told_by, "position": asked.position}
    note = Change.of(by, {}, about, time.time_ns() // 1000)
    written: list[Record] = []

    def take_back(rows: Sequence[OutcomeRow]) -> TakenBack:
        if asked.dry_run:
            return taken_back(engine.journal, revocation, rows)
        taken = _result_of(worker.revoke(revocation, rows, None if written else note))
        written.extend([taken.record] if taken.record else [])
        return taken

    step = revoke_step(log, revocation, asked.position, take_back, dry_run=asked.dry_run)
    for one in written:
        wait_until_it_stands(log, one)
    return step


def _result_of(errand: Future[TakenBack]) -> TakenBack:
    try:
        return errand.result(_PATIENCE_S)
    except TimeoutError:
        raise StorageProblem(
            f"the server was too busy for {_PATIENCE_S:g} s, and whether the outcomes are taken back is not known; run "
            "the revocation again"
        ) from None


def revocation_of(asked: RevokeBody, end: int) -> Revocation:
    """What is asked of a log that ends before position `end`. Raises BadBody."""
    try:
        from_us = 0 if asked.from_ is None else bound_us(asked.from_, "$.from")
        to_us = LATEST_US if asked.to is None else bound_us(asked.to, "$.to")
    except InvalidInput as error:
        raise BadBody(str(error)) from None
    if from_us >= to_us:
        raise BadBody("from is not before to; outcomes are taken back that were received from `from` up to `to`")
    before = end if asked.before is None else min(asked.before, end)
    return Revocation(asked.key, masked(asked.reason), from_us, to_us, before)
