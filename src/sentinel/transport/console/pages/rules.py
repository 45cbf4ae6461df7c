"""Rules: the book in force in order of precedence with its figures, one rule, drafts, and who did what when."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Form, Request, Response

from sentinel.errors import InvalidInput, NotFound, SentinelError
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.times import bound_us, clock_us, iso
from sentinel.policy.deployment import RulesInForce
from sentinel.policy.rules.book import Book, BookRule, Deed
from sentinel.record.views import DecisionQuery
from sentinel.transport.console.books import differences, draft_of, drafts, in_force
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.pages.rule_drafts import draft_pages
from sentinel.transport.console.pages.rule_editor import editor_pages
from sentinel.transport.console.server import Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.console.words import digits_of
from sentinel.transport.people.people import People

DAYS = 7
_DAYS_OF_ONE = 28
_DRAFTS, _HISTORY, _NEWEST = 12, 20, 12
_ORDER = (Deed.APPROVE, Deed.BLOCK, Deed.CHALLENGE, Deed.REVIEW, Deed.TAG)
_Text = Annotated[str, Form(max_length=500)]


def rule_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/rules`, and all below it."""
    router = APIRouter()

    @router.get("/rules")
    def rules(request: Request) -> Response:
        now = in_force(server)
        figures = server.get(f"/v1/rules/figures?days={DAYS}").json
        before = None if now is None else now.back_to
        values = {
            "now": now, "rows": _rows(now, figures) if now else [], "figures": figures, "days": DAYS,
            "drafts": drafts(server, _DRAFTS), "before": before,
            "back": _sentences(server, before, now), "newest_days": figures["days"],
            "thresholds": server.get("/admin/thresholds").json.get("a"),
            "champion": server.get("/admin/version").json["version_a"],
            "history": server.get(f"/v1/rules/history?limit={_HISTORY}").json["applied"],
        }  # fmt: skip
        return page(request, "rules.html", values)

    @router.post("/rules/thresholds")
    def thresholds(
        request: Request, review: _Text = "", block: _Text = "", challenge: _Text = "", note: _Text = ""
    ) -> Response:
        """A draft that changes thresholds alone."""
        exact = server.get("/admin/thresholds").json.get("a") or {}
        given = {name: _threshold(one.strip(), name, exact.get(name)) for name, one in
                 (("review", review), ("block", block), ("challenge", challenge)) if one.strip()}  # fmt: skip
        if "review" not in given:
            raise InvalidInput("Say from where on a payment is reviewed", "$.review")
        now, newest = in_force(server), drafts(server, 1)
        body: dict[str, Any] = {
            "book": msgspec.to_builtins(now.book if now else Book()), "note": note.strip() or "thresholds",
            "thresholds": given,
        }  # fmt: skip
        if now is not None:
            body |= {"after": now.draft, "seen": newest[0]["number"]}
        people.note(by_person(request, "draft thresholds"), clock_us())
        drafted = server.tell("/v1/rules/drafts", body, request.state.session.person.name)
        return Response(status_code=200, headers={"hx-redirect": f"/rules/drafts/{drafted['draft']}"})

    @router.get("/rules/rule")
    def rule(request: Request, name: str) -> Response:
        now = in_force(server)
        found = None if now is None else next((one for one in now.acting.all_rules if one.name == name), None)
        if now is None or found is None:
            raise NotFound(
                f"There is no rule {quoted(name, 80)} in force; look at the drafts and the history on the page Rules"
            )
        people.note(by_person(request, "look at a rule", name[:80]), clock_us())
        figures = server.get(f"/v1/rules/figures?days={_DAYS_OF_ONE}").json
        schema = stored.champion().plan.schema
        with stored.view() as view:
            newest = view.search(DecisionQuery(rule=name, limit=_NEWEST)).rows
            fraud = view.outcomes_about([one.position for one in newest])
        of_list = name.removeprefix("list ") if name.startswith("list ") and now.book.list_of(name[5:]) else None
        values = {
            "now": now, "one": found, "why": now.demoted.get(name), "figures": _figures(figures, name),
            "days": figures["days"], "band": found.band or now.bands.get(name), "newest": newest, "fraud": fraud,
            "digits": stored.amount_digits(schema), "currency": stored.currency(),
            "keys": schema.keys, "of_list": of_list,
        }  # fmt: skip
        return page(request, "rule.html", values)

    @router.post("/rules/snooze")
    def snooze(
        request: Request, rule: _Text = "", by: _Text = "", value: _Text = "", until: _Text = "", reason: _Text = "",
        remove: _Text = "",
    ) -> Response:  # fmt: skip
        body: dict[str, Any] = {"rule": rule, "by": by, "value": value.strip(), "reason": reason}
        if remove:
            body["remove"] = True
        elif not until.strip():
            raise InvalidInput("Say until when it sleeps", "$.until")
        else:
            body["until"] = iso(bound_us(until.strip(), "$.until"))
        people.note(
            by_person(request, "wake a rule" if remove else "snooze a rule", masked(f"{rule}, by {by}")[:200]),
            clock_us(),
        )
        server.tell("/v1/rules/snooze", body, request.state.session.person.name)
        return part(request, "rule_snoozed.html", {"rule": rule, "by": by, "until": body.get("until")})

    router.include_router(editor_pages(server, stored, people))
    router.include_router(draft_pages(server, people))
    return router


def _threshold(text: str, name: str, exact: float | None) -> float:
    """What was written; `exact`, as it is in force, where its digits that are shown were left alone."""
    if exact is not None and text == digits_of(exact):
        return exact
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise InvalidInput(
            f"Expected a probability from 0 to 1, such as 0.35, got {quoted(text, 40)}", f"$.{name}"
        ) from None


def _rows(now: RulesInForce, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules in the order in which they decide: what approves, what blocks, what makes stricter, what tells."""
    in_book = {one.name: n for n, one in enumerate(now.book.all_rules)}
    rows = [
        {
            "rule": one, "why": now.demoted.get(one.name), "figures": _figures(figures, one.name),
            "band": one.band or now.bands.get(one.name),
        }
        for one in now.acting.all_rules
    ]  # fmt: skip

    def place(row: dict[str, Any]) -> tuple[bool, int, int]:
        rule: BookRule = row["rule"]
        return rule.state != "on", _ORDER.index(rule.do), in_book.get(rule.name, 0)

    return sorted(rows, key=place)


def _figures(figures: dict[str, Any], name: str) -> dict[str, Any]:
    nothing = {"hits": [0] * len(figures["days"]), "shadow_hits": 0, "reviewed": 0, "blocked": 0, "of_reviewed": None,
               "of_blocked": None, "judged": 0, "frauds": 0, "precision": None}  # fmt: skip
    found: dict[str, Any] = next((one for one in figures["rules"] if one["name"] == name), nothing)
    return found


def _sentences(server: Server, before: int | None, now: RulesInForce | None) -> list[str] | None:
    """What a rollback would change; None where it is not known."""
    if before is None or now is None:
        return None
    try:
        found: list[str] = differences(server, before, now.draft)["sentences"]
        brought = draft_of(server, now.draft).thresholds
    except SentinelError:  # the log no longer has that draft; the server says so when it is asked
        return None
    return (
        found if brought is None else [*found, f"thresholds of {brought.version}: those before draft {now.draft} again"]
    )
