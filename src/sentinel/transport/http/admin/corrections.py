"""Admin calls: what is taken back of what the log says, and what is erased of it."""

import asyncio
import time

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.record.erasure import Erasure, erase
from sentinel.record.subjects import SubjectKeys
from sentinel.serve.engine import Engine
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.bodies import read_as, shown_body
from sentinel.transport.http.replies import ok
from sentinel.transport.http.revocations import RevokeBody, revoke

_A_MOMENT_S = 0.01


class EraseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose personal data is to be erased: a key of the schema, and its value."""

    key: str
    value: str


def add_corrections(router: APIRouter, changes: Changes) -> None:
    """Outcomes of a key, and what is personal of a subject."""
    api = changes.api

    @router.post("/outcomes/revoke", openapi_extra=shown_body(RevokeBody))
    async def revoke_outcomes(request: Request) -> Response:
        """Take back what an API key has told, a bounded part of the log at a time: go on while there is `more`."""
        asked = await read_as(request, RevokeBody)
        done = await run_in_threadpool(revoke, api.deciding(), asked)
        if done.outcomes and not asked.dry_run:
            await changes.note(request, {}, {"outcomes": done.outcomes})
        return ok(done)

    @router.post("/erase", openapi_extra=shown_body(EraseBody))
    async def erase_subject(request: Request) -> Response:
        """Destroy the key of what is personal of a subject, `{"key": "card_id", "value": ".."}`.

        It is durable when this is answered.
        """
        asked = await read_as(request, EraseBody)
        request.state.asked = msgspec.json.encode({"key": asked.key})  # the audit does not say whose
        worker = api.deciding()

        def errand(engine: Engine) -> tuple[Erasure, SubjectKeys]:
            journal, now_us = engine.journal, time.time_ns() // 1000
            subjects = journal.subjects
            assert subjects is not None  # noqa: S101 - a server's journal has them
            return erase(journal.log, subjects, api.reader(engine), (asked.key, asked.value), now_us), subjects

        done, subjects = await asyncio.wrap_future(worker.between_batches(errand))
        await run_in_threadpool(subjects.purge)
        while worker.log.durable <= done.position:
            worker.ready_engine()
            await asyncio.sleep(_A_MOMENT_S)
        await changes.note(request, {}, {"erased_at": done.position})
        return ok(done)
