"""Admin: people, keys, and the audit."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from sentinel.events.times import clock_us
from sentinel.transport.access.keys import Key
from sentinel.transport.access.scopes import ROLES
from sentinel.transport.access.store import KeyStore
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Server
from sentinel.transport.people.passwords import new_password
from sentinel.transport.people.people import People

_Name = Annotated[str, Form(max_length=200)]
_AUDIT_ROWS = 50


def admin_pages(server: Server, people: People, keys: KeyStore) -> APIRouter:
    """`/admin`, `/admin/keys`, `/admin/audit`."""
    router = APIRouter()

    @router.get("/admin")
    def users(request: Request) -> Response:
        return page(request, "admin_people.html", {"people": people.everyone(), "roles": ROLES})

    @router.post("/admin/people/add")
    def add(request: Request, name: _Name = "", role: _Name = "viewer") -> Response:
        password = new_password()
        person = people.add(name.strip().lower(), role, password, by_person(request, "add a person"), clock_us())
        return _list(request, f"{person.name} is added, as {person.role}.", password)

    @router.post("/admin/people/role")
    def role(request: Request, name: _Name = "", role: _Name = "") -> Response:
        person = people.set_role(name, role, by_person(request, "change a role"), clock_us())
        return _list(request, f"{person.name} is {person.role} from the next click on.")

    @router.post("/admin/people/disable")
    def disable(request: Request, name: _Name = "") -> Response:
        person = people.set_disabled(name, True, by_person(request, "disable a person"), clock_us())
        return _list(request, f"{person.name} is let in no more, and logged out.")

    @router.post("/admin/people/enable")
    def enable(request: Request, name: _Name = "") -> Response:
        person = people.set_disabled(name, False, by_person(request, "enable a person"), clock_us())
        return _list(request, f"{person.name} may log in again.")

    @router.post("/admin/people/password")
    def renew(request: Request, name: _Name = "") -> Response:
        password = new_password()
        by = by_person(request, "make a new password")
        person = people.set_password(name, password, by, clock_us(), must_change=True)
        return _list(request, f"{person.name} has a new password, and is logged out.", password)

    def _list(request: Request, told: str, password: str | None = None) -> Response:
        values = {"people": people.everyone(), "roles": ROLES, "told": told, "password": password}
        return part(request, "admin_people_list.html", values)

    @router.get("/admin/keys")
    def of_keys(request: Request) -> Response:
        now_us = clock_us()
        found = [(one, _when(one, now_us)) for one in keys.read().keys]
        return page(request, "admin_keys.html", {"keys": found})

    @router.get("/admin/audit")
    def audit(request: Request, cursor: int = 0) -> Response:
        found = server.get(f"/admin/audit?limit={_AUDIT_ROWS}" + (f"&cursor={cursor}" if cursor else "")).json
        values = {
            "changes": found["changes"],
            "next": found["next"],
            "cursor": cursor,
            "waiting": people.n_not_audited(),
        }
        return page(request, "admin_audit.html", values)

    return router


def _when(key: Key, now_us: int) -> str:
    """Whether a key is good."""
    if key.is_over(now_us):
        return "expired"
    return "good" if key.expires_us is None or key.expires_us - now_us > 14 * 86_400_000_000 else "ends soon"
