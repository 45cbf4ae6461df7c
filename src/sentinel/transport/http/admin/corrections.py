"""Admin calls: what is taken back of what the log says, and what is erased of it."""

import asyncio
import time
from contextlib import closing
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.events.wire import MAX_TEXT, TEXT
from sentinel.record.audit import Change
from sentinel.record.erasure import Erasure, erase
from sentinel.record.log import Record
from sentinel.record.standing import wait_until_it_stands
from sentinel.record.subjects import SubjectKeys
from sentinel.record.written.written_database import FILE, WrittenDatabase
from sentinel.review.case_store.forgetting import Subject, erase_in_cases
from sentinel.serve.engine import Engine
from sentinel.transport.http.admin.changes import Changes, by_caller
from sentinel.transport.http.api import Api
from sentinel.transport.http.bodies import read_as, shown_body
from sentinel.transport.http.imports import ImportBody, Imported, import_here
from sentinel.transport.http.replies import ok
from sentinel.transport.http.revocations import RevokeBody, revoke


class EraseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose personal data is to be erased: a key of the schema, and its value."""

    key: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    value: TEXT


def add_corrections(router: APIRouter, changes: Changes) -> None:
    """Outcomes of a key, and what is personal of a subject."""
    api = changes.api

    @router.post("/outcomes/revoke", openapi_extra=shown_body(RevokeBody))
    async def revoke_outcomes(request: Request) -> Response:
        """Take back what an API key has told, a bounded part of the log at a time: go on while there is `more`."""
        asked = await read_as(request, RevokeBody)
        return ok(await run_in_threadpool(revoke, api.deciding(), asked, by_caller(request)))

    @router.post("/outcomes/import", openapi_extra=shown_body(ImportBody))
    async def import_outcomes(request: Request) -> Response:
        """Record outcomes of a file, up to 100 a call, told by `import:<batch>`; what is known is left as it is."""
        asked = await read_as(request, ImportBody)
        request.state.asked = msgspec.json.encode({"batch": asked.batch, "source": asked.source})
        worker, by = api.deciding(), by_caller(request)

        def errand(engine: Engine) -> tuple[Imported, Record | None]:
            return import_here(engine.journal, engine.learn, api.reader(engine), asked, by, time.time_ns() // 1000)

        done, written = await asyncio.wrap_future(worker.between_batches(errand))
        if written is not None:
            await run_in_threadpool(wait_until_it_stands, worker.log, written)
        return ok(done)

    @router.post("/erase", openapi_extra=shown_body(EraseBody))
    async def erase_subject(request: Request) -> Response:
        """Destroy the key of what is personal of a subject, `{"key": "card_id", "value": ".."}`.

        What people wrote in cases of the subject goes as well. It is durable when this is answered; do it again after
        a fault.
        """
        asked = await read_as(request, EraseBody)
        request.state.asked = msgspec.json.encode({"key": asked.key})  # the audit has the value as it is stored only
        worker, now_us = api.deciding(), time.time_ns() // 1000

        def errand(engine: Engine) -> tuple[Erasure, Record, SubjectKeys]:
            log, subjects = engine.journal.log, engine.journal.subjects
            assert subjects is not None  # noqa: S101 - a server's journal has them
            reader, by = api.reader(engine), by_caller(request)
            note = Change.of(by, {}, {"erased": asked.key, "value": reader.text(asked.key, asked.value)}, now_us)
            done = erase(log, subjects, reader, (asked.key, asked.value), now_us, note)
            return done, log.at(done.position), subjects

        done, written, subjects = await asyncio.wrap_future(worker.between_batches(errand))
        await run_in_threadpool(subjects.purge)
        await run_in_threadpool(wait_until_it_stands, worker.log, written)
        reader = api.reader(worker.ready_engine())
        subject = Subject(asked.key, reader.texts(asked.key, asked.value))
        return ok(msgspec.structs.replace(done, cases=await run_in_threadpool(_erase_in_cases, api, subject)))


def _erase_in_cases(api: Api, subject: Subject) -> int:
    settings = api.settings
    if settings.database_url is None and not (settings.home / FILE).exists():
        return 0
    with closing(WrittenDatabase(settings.home, settings.database_url)) as database:
        return erase_in_cases(database, api.view, subject)
