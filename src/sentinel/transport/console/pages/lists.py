"""Lists: what is on each, whether a value is or was, and how it comes on and off."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Form, Request, Response

from sentinel.errors import DataProblem, InvalidInput, NotFound
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.times import bound_us, clock_us, iso
from sentinel.policy.rules.book import Book
from sentinel.record.list_files import entries_in
from sentinel.transport.console.books import in_force
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Refused, Server, path_of
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People

ROWS = 50
_AT_ONCE = 500
_Text = Annotated[str, Form(max_length=500)]
_File = Annotated[str, Form(max_length=120_000)]


def list_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/lists`, and one list."""
    router = APIRouter()

    @router.get("/lists")
    def lists(request: Request) -> Response:
        return page(request, "lists.html", {"lists": server.get("/v1/lists").json["lists"]})

    @router.get("/lists/{name}")
    def one_list(request: Request, name: str, cursor: int = 0) -> Response:
        one = _named(server, name)
        found = server.get(path_of("v1", "lists", name) + f"?limit={ROWS}&cursor={max(cursor, 0)}").json
        is_hidden = one["by"] in stored.champion().plan.schema.hidden
        people.note(by_person(request, "look at a list", name), clock_us())
        values = {"one": one, "entries": found["entries"], "next": found["next"], "cursor": cursor, "hidden": is_hidden}
        return page(request, "list.html", values)

    @router.post("/lists/{name}/look-up")
    def look_up(request: Request, name: str, value: _Text = "", as_of: _Text = "") -> Response:
        if not value.strip():
            raise InvalidInput("Give a value to look for", "$.value")
        people.note(by_person(request, "look a value up", masked(name)[:60]), clock_us())
        body = {"value": value.strip()} | ({"as_of": _moment(as_of, "as_of")} if as_of.strip() else {})
        found = server.tell(path_of("v1", "lists", name, "look-up"), body)
        return part(request, "list_found.html", {"found": found, "name": name, "asked": as_of.strip()})

    @router.post("/lists/{name}/add")
    def add(
        request: Request, name: str, value: _Text = "", reason: _Text = "", since: _Text = "", until: _Text = ""
    ) -> Response:
        body = {"value": value.strip(), "reason": reason.strip()}
        body |= {field: _moment(one, field) for field, one in (("from", since), ("until", until)) if one.strip()}
        said = _told(request, name, [body], "put on a list")
        return part(request, "list_told.html", {"said": said, "name": name})

    @router.post("/lists/{name}/end")
    def end(request: Request, name: str, value: _Text = "") -> Response:
        said = _told(request, name, [{"value": value.strip(), "remove": True}], "take off a list")
        return part(request, "list_told.html", {"said": said, "name": name})

    @router.post("/lists/{name}/import")
    def bring(request: Request, name: str, file: _File = "", reason: _Text = "", draft: _Text = "") -> Response:
        try:
            entries = entries_in(file, "the file", reason.strip())
        except DataProblem as error:
            values = {"said": str(error).split("\n"), "name": name}
            return part(request, "list_refused.html", values, 422)
        if not entries:
            raise InvalidInput("The file has no line below its head", "$.file")
        told = [msgspec.to_builtins(one) for one in entries]
        if draft:
            return _drafted(request, name, told, reason)
        said = _told(request, name, told, "bring a file to a list")
        return part(request, "list_told.html", {"said": said, "name": name})

    def _drafted(request: Request, name: str, entries: list[dict[str, Any]], note: str) -> Response:
        """Have them written down with the book in force, for somebody else to publish."""
        people.note(by_person(request, "draft entries of a list", f"{masked(name)[:60]}, {len(entries)}"), clock_us())
        now = in_force(server)
        body = {
            "book": msgspec.to_builtins(now.book if now else Book()), "listed": {name: entries},
            "note": note.strip() or f"{len(entries)} entries of {name}",
        }  # fmt: skip
        drafted = server.tell("/v1/rules/drafts", body, request.state.session.person.name)
        return Response(status_code=200, headers={"hx-redirect": f"/rules/drafts/{drafted['draft']}"})

    def _told(request: Request, name: str, entries: list[dict[str, Any]], what: str) -> str:
        """Have the server record them; what is told again changes nothing, so it can be done again."""
        people.note(by_person(request, what, f"{masked(name)[:60]}, {len(entries)}"), clock_us())
        done, changed, person = 0, 0, request.state.session.person.name
        for begin in range(0, len(entries), _AT_ONCE):
            some = entries[begin : begin + _AT_ONCE]
            try:
                told = server.tell(path_of("v1", "lists", name), some if len(some) > 1 else some[0], person)
            except Refused as error:
                where = f"; {done} before these were taken" if done else ""
                raise InvalidInput(f"{error}{where}") from None
            done, changed = done + len(some), changed + (told["position"] is not None)
        if not changed:
            return "That was so already: nothing changes."
        return f"{done} {'entry counts' if done == 1 else 'entries count'} from the next decision on."

    return router


def _named(server: Server, name: str) -> dict[str, Any]:
    for one in server.get("/v1/lists").json["lists"]:
        if one["name"] == name:
            return dict(one)
    raise NotFound(f"The book in force has no list {quoted(name, 60)}; it is declared there")


def _moment(text: str, name: str) -> str:
    return iso(bound_us(text.strip(), f"$.{name}"))
