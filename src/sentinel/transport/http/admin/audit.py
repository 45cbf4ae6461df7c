"""Admin calls: the audit."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import InvalidInput
from sentinel.record.applied import HomeDeployment
from sentinel.record.audit import AuditPage, audit_page
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.queries import whole_number
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
    return otherwise if given is None else whole_number(given, name)
