"""What is sent with an act on a case, and for whom it is done."""

from typing import Annotated, Any

import msgspec
from fastapi import Request

from sentinel.errors import Forbidden, InvalidInput
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.wire import ID, read_json
from sentinel.record.audit import By
from sentinel.review.case_store.desk import LONGEST_ADDRESS, LONGEST_NOTE
from sentinel.review.cases.moves import Analyst, Outcome
from sentinel.transport.access.scopes import ROLES, Scope, opened_by
from sentinel.transport.http.admin.changes import by_caller
from sentinel.transport.http.bodies import MOST_OF_ADMIN, read_body

BY_KEY = "key "
"""Begins the name of who acts without a person: no person has a space in theirs, so a key called `ana` is not ana."""

_WRITTEN = ("text", "address", "title", "reason")
_NAME = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_VERSION = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_REASON = Annotated[str, msgspec.Meta(max_length=500)]
_NOTE = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NOTE)]
_ADDRESS = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ADDRESS)]


class ForBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For which person, of which role, it is done; only a key with the scope `admin`, as the console, may say so."""

    person: _NAME | None = None
    role: _NAME | None = None


class ActBody(ForBody, frozen=True, kw_only=True):
    """`version` is the one of the case that was looked at: 409 where it has changed since."""

    version: _VERSION


class ReasonBody(ActBody, frozen=True, kw_only=True):
    """The same, and why."""

    reason: _REASON = ""


class HandOverBody(ActBody, frozen=True, kw_only=True):
    """The same, and who has the case then."""

    to: _NAME


class EscalateBody(ReasonBody, frozen=True, kw_only=True):
    """The same, why, and for which role the case waits."""

    to: _NAME


class DecideBody(ActBody, frozen=True, kw_only=True):
    """The same, and what its payments were."""

    outcome: Outcome


class NoteBody(ForBody, frozen=True, kw_only=True):
    """A text about a case."""

    text: _NOTE
    version: _VERSION | None = None


class LinkBody(ForBody, frozen=True, kw_only=True):
    """The address of something about a case, and what that is."""

    address: _ADDRESS
    title: Annotated[str, msgspec.Meta(max_length=200)] = ""
    version: _VERSION | None = None


class OpenBody(ForBody, frozen=True, kw_only=True):
    """The transaction that a person wants looked at, and why."""

    transaction_id: ID
    reason: Annotated[str, msgspec.Meta(max_length=150)] = ""


async def read_act(request: Request, kind: type[Any]) -> Any:
    """The body of an act, of which the audit has what people wrote not: that is in the case, where it can be erased.

    Raises BadBody, InvalidInput, TooLarge, WrongMedia.
    """
    body = await read_body(request, MOST_OF_ADMIN)
    asked = read_json(msgspec.json.Decoder(kind).decode, body.strip() or b"{}")
    said = {name: one for name, one in msgspec.to_builtins(asked).items() if name not in _WRITTEN and one is not None}
    request.state.asked = msgspec.json.encode(said)
    return asked


def who_acts(request: Request, asked: ForBody) -> Analyst:
    """Who acts, with every role whose rights they have. Raises Forbidden, InvalidInput."""
    caller = request.state.caller
    if asked.person is None:
        if asked.role is not None:
            raise InvalidInput("Expected a person with a role", "$.person")
        return _with_roles(f"{BY_KEY}{caller.name}", caller.scopes)
    if Scope.ADMIN not in caller.scopes:
        raise Forbidden("Only a key with the scope admin acts for a person; leave person and role out")
    if asked.role not in ROLES:
        raise InvalidInput(f"Expected one of {', '.join(ROLES)}, got {quoted(asked.role or '', 80)}", "$.role")
    is_name = asked.person.isprintable() and " " not in asked.person
    if not is_name or masked(asked.person) != asked.person:
        raise InvalidInput(f"Expected the name of a person, got {quoted(asked.person, 80)}", "$.person")
    scopes = opened_by(ROLES[asked.role])
    if Scope.CASES not in scopes:
        raise Forbidden(f"The role {asked.role} may look at cases, and not work on them")
    return _with_roles(asked.person, scopes)


def role_named(name: str) -> str:
    """A role that a case may wait for. Raises InvalidInput."""
    able = [role for role, scopes in ROLES.items() if Scope.CASES in opened_by(scopes)]
    if name not in able:
        raise InvalidInput(f"Expected a role that works on cases, {', '.join(able)}, got {quoted(name, 80)}", "$.to")
    return name


def by_analyst(request: Request, who: Analyst) -> By:
    """Who makes this call, for the audit."""
    by = by_caller(request)
    return by if who.name == f"{BY_KEY}{by.who}" else msgspec.structs.replace(by, who=f"{who.name} (by {by.who})")


def _with_roles(name: str, scopes: frozenset[Scope]) -> Analyst:
    return Analyst(name, {role for role, needed in ROLES.items() if needed <= scopes})
