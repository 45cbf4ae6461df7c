"""Books as the server has them: in force, as drafts, and what differs."""

from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from sentinel.errors import InvalidInput
from sentinel.policy.deployment import NO_DRAFT, RulesInForce
from sentinel.policy.rules.book import Book
from sentinel.policy.thresholds import Thresholds
from sentinel.record.rules_history import Draft
from sentinel.transport.console.server import Server


class Base(NamedTuple):
    """A book that is edited: that of a draft, or an empty one where `draft` is 0. `newest` is the newest draft.

    `thresholds` are those that the draft brings, and the next edition of it does, too.
    """

    draft: int
    book: Book
    newest: int
    thresholds: Thresholds | None = None


def in_force(server: Server) -> RulesInForce | None:
    """What is in force; None for no rules, before the first ones and after these were taken back."""
    found = server.get("/v1/rules").json["rules"]
    return None if found is None or found["draft"] == NO_DRAFT else msgspec.convert(found, RulesInForce)


def draft_of(server: Server, number: int) -> Draft:
    """A draft. Raises Refused where there is none."""
    return msgspec.convert(server.get(f"/v1/rules/drafts/{number}").json, Draft)


def drafts(server: Server, most: int) -> list[dict[str, Any]]:
    """The newest drafts, without their text."""
    found: list[dict[str, Any]] = server.get(f"/v1/rules/drafts?limit={most}").json["drafts"]
    return found


def base_of(server: Server, draft: int | None) -> Base:
    """The book of a draft, or without a number what is in force.

    Raises InvalidInput for a draft that brings entries of lists: an edition of it would lose them.
    """
    newest, rules = next((one["number"] for one in drafts(server, 1)), 0), in_force(server)
    if not draft or (rules is not None and rules.draft == draft):
        return Base(0, Book(), newest) if rules is None else Base(rules.draft, rules.book, newest)
    one = draft_of(server, draft)
    if one.listed:
        raise InvalidInput(f"Draft {draft} brings entries of lists: publish it first, or edit what is in force")
    return Base(draft, one.book, newest, None if one.thresholds is None else one.thresholds.thresholds)


def differences(server: Server, draft: int, against: int | None = None) -> dict[str, Any]:
    """What a draft changes against another one, or what is in force: `changes` and `sentences`."""
    asked = {"draft": draft} | ({} if against is None else {"against": against})
    found: dict[str, Any] = server.get(f"/v1/rules/diff?{urlencode(asked)}").json
    return found
