"""Admin calls: who is told of what, and what became of it."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import BadBody, Conflict, InvalidDefinition
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import ok
from sentinel.transport.messages.overview import list_notifications, retry_notification, try_destinations

_MOST = 500


def add_notifications(router: APIRouter, changes: Changes) -> None:
    """Destinations, deliveries, a test, and another try."""
    settings = changes.api.settings

    @router.get("/notifications")
    def notifications(request: Request, state: str | None = None) -> Response:
        """Where messages go, and the newest deliveries (`limit`, 50), of one `state`: waiting, delivered, parked."""
        limit = min(whole_number(request.query_params.get("limit", "50"), "limit"), _MOST)
        try:
            return ok(list_notifications(settings, state, limit))
        except InvalidDefinition as error:
            raise BadBody(str(error)) from None

    @router.post("/notifications/test")
    async def test(request: Request) -> Response:
        """Send a test to everyone now: by destination `ok`, or what stands in the way."""
        try:
            found = await run_in_threadpool(try_destinations, settings)
        except InvalidDefinition as error:
            raise Conflict(str(error)) from None
        await changes.note(request, {}, {"tested": found})
        return ok({"destinations": found})

    @router.post("/notifications/{number}/retry")
    async def retry(request: Request, number: str) -> Response:
        """Have a parked delivery tried again."""
        done = await run_in_threadpool(retry_notification, settings, whole_number(number, "number"))
        await changes.note(request, {"state": "parked"}, {"delivery": done.number, "state": done.state})
        return ok(done)
