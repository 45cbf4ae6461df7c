"""Admin calls: the audit."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import InvalidInput
from sentinel.record.applied import HomeDeployment
from sentinel.record.audit import AuditPage, audit_page
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.replies import ok

_MOST = 500


def add_audit(router: APIRouter, changes: Changes) -> None:
    """Who changed what."""

    @router.get("/audit")
    async def audit(request: Request) -> Response:
        """The newest changes: who, from where, with which call, before and after. `limit` and `cursor` as elsewhere."""
        limit, cursor = _number(request, "limit", 50), _number(request, "cursor", 0)
        if not 1 <= limit <= _MOST:
            raise InvalidInput(f"Expected 1 to {_MOST}, got {limit}", "$.limit")
        return ok(await run_in_threadpool(_page, limit, cursor))

    def _page(limit: int, cursor: int) -> AuditPage:
        worker = changes.api.worker
        if worker is not None:
            return audit_page(worker.log, limit, cursor)
        return HomeDeployment(changes.api.settings.home).audit(limit, cursor)


def _number(request: Request, name: str, otherwise: int) -> int:
    given = request.query_params.get(name)
    if given is None:
        return otherwise
    if not given.isascii() or not given.isdecimal() or len(given) > 18:
        raise InvalidInput(f"Expected a whole number, got {given[:40]!r}", f"$.{name}")
    return int(given)
