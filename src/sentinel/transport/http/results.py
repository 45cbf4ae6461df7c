"""Results over HTTP: what became of a decision is told once, and where its transaction stands is answered."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.events.card_numbers import masked
from sentinel.events.times import clock_us, iso
from sentinel.events.wire import read_json
from sentinel.policy.results import Result, State
from sentinel.record.audit import Change
from sentinel.record.concluding import Telling
from sentinel.record.results import ResultRow
from sentinel.record.standing import wait_until_it_stands
from sentinel.transport.http.admin.changes import by_caller
from sentinel.transport.http.api import Api
from sentinel.transport.http.bodies import MOST_OF_ADMIN, read_body, shown_body
from sentinel.transport.http.lookups import Lookups
from sentinel.transport.http.replies import ok

_BY_PEOPLE = frozenset({Result.REVIEW_TAKEN, Result.REVIEW_APPROVED, Result.REVIEW_DECLINED})


class ResultBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a decision, and why."""

    result: Result
    reason: Annotated[str, msgspec.Meta(max_length=256)] = ""


class ToldResult(msgspec.Struct, frozen=True):
    """A result as the log has it; `state` is where the transaction stands after it, `replayed` that it was told before.

    `told_by` is who told it first.
    """

    transaction_id: str
    result: Result
    state: State
    replayed: bool
    told_by: str
    told_at: str
    position: int


_read = msgspec.json.Decoder(ResultBody).decode


class ResultCalls:
    """Has results recorded."""

    def __init__(self, api: Api, lookups: Lookups) -> None:
        self._api, self._lookups = api, lookups

    async def tell(self, request: Request, transaction_id: str, position: str | None) -> ToldResult:
        """Record a result; it is durable when this returns.

        Raises BadBody, InvalidInput, NotFound, Conflict, StorageProblem, TooLarge.
        """
        asked: ResultBody = read_json(_read, await read_body(request, MOST_OF_ADMIN))
        worker, by = self._api.deciding(), by_caller(request)
        row = await run_in_threadpool(self._lookups.stored, transaction_id, position)
        earlier = await run_in_threadpool(self._lookups.earlier, row)
        telling = Telling(asked.result, by.who, masked(asked.reason))
        note = None
        if asked.result in _BY_PEOPLE:
            said = {"transaction_id": row.transaction_id, "result": asked.result, "reason": telling.reason}
            note = Change.of(by, {}, said, clock_us())
        done = await asyncio.wrap_future(worker.conclude(row, telling, note, earlier))
        await run_in_threadpool(wait_until_it_stands, worker.log, done.record)
        return told(done.row, replayed=done.replayed)


def told(row: ResultRow, *, replayed: bool) -> ToldResult:
    """A result as it is answered."""
    result, state = Result(row.result), State(row.state)
    return ToldResult(row.transaction_id, result, state, replayed, row.told_by, iso(row.received_us), row.position)


def add_results(app: FastAPI, calls: ResultCalls) -> None:
    """The call `/v1/decisions/{transaction_id}/result`."""

    @app.post(
        "/v1/decisions/{transaction_id:any_text}/result", openapi_extra=shown_body(ResultBody), tags=["decisions"]
    )
    async def tell(request: Request, transaction_id: str, position: str | None = None) -> Response:
        """Tell what became of a decision: `{"result": "challenge_passed", "reason": ..}`.

        `challenge_passed`, `challenge_failed`, `challenge_abandoned`, `review_taken`, `review_approved`,
        `review_declined`, `captured` or `refunded`. What was told before is `replayed`; what contradicts it, or cannot
        follow on it, is 409. `position` is that of a decision whose id is no longer remembered.
        """
        return ok(await calls.tell(request, transaction_id, position))
