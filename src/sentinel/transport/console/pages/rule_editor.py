"""The editor of rules: one as a form, or the whole book as text; what is wrong is shown as one writes."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.times import clock_us
from sentinel.policy.rules.book import Book, BookRule, Deed, book_in, text_of
from sentinel.transport.console.books import Base, base_of
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.editing import (
    Fault,
    faults_of,
    from_payment,
    names_for,
    rounded_down,
    rule_in,
    with_rule,
    without_rule,
    words_for,
)
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Refused, Server, path_of
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People

TRIED = 1_000
"""The newest decisions that a book is tried on while it is written."""

_UNNAMED = {"name": "new rule", "reason": "not written yet"}
"""What a rule is tried with before it has a name and a reason."""

_NO_RULE = BookRule(name="-", when="", do=Deed.REVIEW, reason="")


def editor_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/rules/edit`, `/rules/text`, and what these ask."""
    router = APIRouter()

    @router.get("/rules/edit")
    def form(request: Request, draft: int | None = None, name: str = "", payment: str = "") -> Response:
        base, manifest = base_of(server, draft), stored.champion()
        rule = next((one for one in base.book.rules if one.name == name), None)
        if name and rule is None:
            raise InvalidInput(
                f"There is no rule {quoted(name, 80)} in draft {base.draft}; somebody has renamed it, or took it out"
            )
        when = rule.when if rule else _from_payment(request, payment) if payment else ""
        values = {
            "base": base, "rule": rule or _NO_RULE, "was": name, "when": when, "payment": payment,
            "place": list(base.book.rules).index(rule) + 1 if rule else len(base.book.rules) + 1,
            "deeds": list(Deed), "words": words_for(manifest, base.book),
        }  # fmt: skip
        return page(request, "rule_edit.html", values)

    @router.get("/rules/text")
    def text(request: Request, draft: int | None = None) -> Response:
        base = base_of(server, draft)
        values = {"base": base, "text": text_of(base.book), "words": words_for(stored.champion(), base.book)}
        return page(request, "rule_text.html", values)

    @router.post("/rules/try")
    async def tried(request: Request) -> Response:
        return await _answer(request, await request.form(), _tried)

    @router.post("/rules/save")
    async def save(request: Request) -> Response:
        return await _answer(request, await request.form(), _saved)

    @router.post("/rules/remove")
    async def remove(request: Request) -> Response:
        return await _answer(request, await request.form(), _removed)

    async def _answer(request: Request, form: FormData, how: Any) -> Response:

        found: Response = await run_in_threadpool(how, request, {name: str(one) for name, one in form.items()})
        return found

    def _tried(request: Request, form: Mapping[str, str]) -> Response:
        """What is wrong, or what the book would do with the newest decisions."""
        values: dict[str, Any] = {"faults": [], "found": None, "mine": None, "problem": None, "most": TRIED}
        try:
            book, rule = _edited(_UNNAMED | {name: one for name, one in form.items() if one.strip()})
            values["faults"] = faults_of([rule] if rule else book.rules, names_for(stored.champion(), book))
        except InvalidDefinition as error:
            values["faults"] = [Fault(form.get("name", ""), "", str(error))]
            return part(request, "rule_tried.html", values)
        if not values["faults"]:
            try:
                found = server.tell("/v1/rules/backtest", {"book": msgspec.to_builtins(book), "newest": TRIED})
                values |= {"found": found, "mine": _named(found, rule)}
            except Refused as error:
                values["problem"] = str(error)
        return part(request, "rule_tried.html", values)

    def _saved(request: Request, form: Mapping[str, str]) -> Response:
        book, rule = _edited(form)
        return _drafted(request, form, book, f"rule {rule.name}" if rule else "the whole book")

    def _removed(request: Request, form: Mapping[str, str]) -> Response:
        name = form.get("was", "")
        return _drafted(request, form, without_rule(_base(form).book, name), f"without rule {name}")

    def _drafted(request: Request, form: Mapping[str, str], book: Book, what: str) -> Response:
        base, seen = _number(form, "base"), _number(form, "seen")
        body: dict[str, Any] = {"book": msgspec.to_builtins(book), "note": form.get("note", "").strip() or what}
        if base:
            body |= {"after": base, "seen": seen}
            brings = base_of(server, base).thresholds
            if brings is not None:
                body["thresholds"] = msgspec.to_builtins(brings)
        people.note(by_person(request, "draft rules", masked(what)[:200]), clock_us())
        drafted = server.tell("/v1/rules/drafts", body, request.state.session.person.name)
        return Response(status_code=200, headers={"hx-redirect": f"/rules/drafts/{drafted['draft']}"})

    def _base(form: Mapping[str, str]) -> Base:
        draft = _number(form, "base")
        return base_of(server, draft) if draft else Base(0, Book(), 0)

    def _edited(form: Mapping[str, str]) -> tuple[Book, BookRule | None]:
        """The book that a form says, and the rule that is edited, if it is one. Raises InvalidDefinition."""
        if "text" in form:
            return book_in(form["text"]), None
        rule = rule_in(form)
        place = form.get("place", "").strip()
        book = with_rule(_base(form).book, form.get("was", ""), rule, _number(form, "place") - 1 if place else None)
        book.check_texts()
        return book, rule

    def _from_payment(request: Request, transaction_id: str) -> str:
        people.note(by_person(request, "draft a rule from a decision", masked(transaction_id)), clock_us())
        found = server.get(path_of("v1", "decisions", transaction_id)).json
        manifest = stored.manifest(found["model_version"])
        names = set(names_for(manifest, Book()).numbers)
        transaction = found["transaction"] if isinstance(found["transaction"], dict) else {}
        strongest = [
            one["feature"]
            for one in (found["why"] or {}).get("reasons", ())
            if one["contribution"] > 0 and one["feature"] in names and one["feature"] not in transaction
        ]
        moved = [
            f"{name} >= {rounded_down(found['features'][name])}"
            for name in strongest[:2]
            if found["features"].get(name) is not None
        ]
        return from_payment(transaction, manifest, moved)

    return router


def _named(found: Mapping[str, Any], rule: BookRule | None) -> dict[str, Any] | None:
    return next((one for one in found["rules"] if rule is not None and one["name"] == rule.name), None)


def _number(form: Mapping[str, str], name: str) -> int:
    text = form.get(name, "0").strip() or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise InvalidInput("Expected a whole number", f"$.{name}")
    return int(text)
