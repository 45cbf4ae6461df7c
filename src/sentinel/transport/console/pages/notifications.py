"""Admin, Notifications: where messages go, what became of them, a test, and another try."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from sentinel.events.times import clock_us
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Refused, Server, path_of
from sentinel.transport.people.people import People

_ROWS = 50


def notification_pages(server: Server, people: People) -> APIRouter:
    """`/admin/notifications`. What is parked stands first."""
    router = APIRouter()

    def newest() -> Any:
        parked = server.get(f"/admin/notifications?state=parked&limit={_ROWS}").json
        found = server.get(f"/admin/notifications?limit={_ROWS}").json
        others = [one for one in found["deliveries"] if one["state"] != "parked"]
        return {**found, "deliveries": [*parked["deliveries"], *others][:_ROWS]}

    @router.get("/admin/notifications")
    def notifications(request: Request) -> Response:
        return page(request, "admin_notifications.html", {"found": newest()})

    @router.post("/admin/notifications/test")
    def test(request: Request) -> Response:
        people.note(by_person(request, "test notifications"), clock_us())
        try:
            said = server.tell("/admin/notifications/test", {})["destinations"]
        except Refused as refused:
            return _list(request, str(refused), is_good=False)
        well = all(one == "ok" for one in said.values())
        told = "; ".join(f"{name}: {'it arrived' if one == 'ok' else one}" for name, one in said.items())
        return _list(request, told, is_good=well)

    @router.post("/admin/notifications/retry")
    def retry(request: Request, number: Annotated[str, Form(max_length=20)] = "") -> Response:
        people.note(by_person(request, "retry a notification"), clock_us())
        try:
            done = server.tell(path_of("admin", "notifications", number, "retry"), {})
        except Refused as refused:
            return _list(request, str(refused), is_good=False)
        return _list(request, f"{done['kind']} is tried again to {done['destination']}.", is_good=True)

    def _list(request: Request, told: str, *, is_good: bool) -> Response:
        return part(request, "admin_notifications_list.html", {"found": newest(), "told": told, "told_well": is_good})

    return router
