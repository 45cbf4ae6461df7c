"""Admin calls: the audit."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import InvalidInput
from sentinel.record.applied import HomeDeployment
from sentinel.record.audit import LONGEST, AuditPage, By, Change, audit_page
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.bodies import read_as, schema_of
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import JSON, ok

_MOST, _MOST_TOLD = 500, 100
_NAME = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_TEXT = Annotated[str, msgspec.Meta(max_length=LONGEST + 100)]


class ToldChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person did or looked at where people work: the fields of an entry, `at_us` in microseconds since 1970."""

    who: _NAME
    where: _NAME
    what: _NAME
    at_us: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    asked: _TEXT = ""
    before: _TEXT = "null"
    after: _TEXT = "null"


class ToldBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some of them, the oldest first."""

    changes: Annotated[list[ToldChange], msgspec.Meta(min_length=1, max_length=_MOST_TOLD)]


_BODY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "changes": {"type": "array", "minItems": 1, "maxItems": _MOST_TOLD, "items": schema_of(ToldChange)},
    },
    "required": ["changes"],
    "additionalProperties": False,
}


def add_audit(router: APIRouter, changes: Changes) -> None:
    """Who changed what."""

    @router.get("/audit")
    async def audit(request: Request) -> Response:
        """The newest changes: who, from where, with which call, before and after. `limit` and `cursor` as elsewhere."""
        limit, cursor = _number(request, "limit", 50), _number(request, "cursor", 0)
        if not 1 <= limit <= _MOST:
            raise InvalidInput(f"Expected 1 to {_MOST}, got {limit}", "$.limit")
        return ok(await run_in_threadpool(_page, limit, cursor))

    @router.post("/audit", openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": _BODY}}}})
    async def tell(request: Request) -> Response:
        """Write down what people did or looked at in the console, each under their name and that of the console's key.

        Entries are only ever added. One that is told again, as its answer was lost, is there twice.
        """
        told = (await read_as(request, ToldBody)).changes
        teller = request.state.caller.name
        await changes.write([_change(one, teller) for one in told])
        return ok({"status": "ok", "written": len(told)})

    def _page(limit: int, cursor: int) -> AuditPage:
        worker = changes.api.worker
        if worker is not None:
            return audit_page(worker.log, limit, cursor)
        return HomeDeployment(changes.api.settings.home).audit(limit, cursor)


def _change(told: ToldChange, teller: str) -> Change:
    by = By(f"{told.who} (by {teller})", told.where, told.what, told.asked)
    return Change.of(by, told.before, told.after, told.at_us)


def _number(request: Request, name: str, otherwise: int) -> int:
    given = request.query_params.get(name)
    return otherwise if given is None else whole_number(given, name)
