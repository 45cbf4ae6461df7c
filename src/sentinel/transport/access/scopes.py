"""Scopes and roles: the one table of who may do what, for keys, for people, and for the pages that show it."""

from collections.abc import Iterable
from enum import StrEnum

from sentinel.errors import InvalidDefinition
from sentinel.events.card_numbers import quoted


class Scope(StrEnum):
    """What a caller may do. A key has scopes, a person has a role."""

    SCORE = "score"
    OUTCOMES = "outcomes"
    EVENTS = "events"
    TABLES = "tables"
    CASES = "cases"
    READ = "read"
    RULES = "rules"
    OPERATE = "operate"
    ADMIN = "admin"


MEANING = {
    Scope.SCORE: "have transactions decided and vectors scored",
    Scope.OUTCOMES: "report what turned out to be true, and what became of decisions",
    Scope.EVENTS: "report context events",
    Scope.TABLES: "change reference tables, and by that decisions",
    Scope.CASES: "take cases, note and decide them",
    Scope.READ: "read decisions, health, metrics and the description of the API",
    Scope.RULES: "change rules, lists and thresholds, and have the fallback decide alone",
    Scope.OPERATE: "change models, experiments and shadows, and prune the log",
    Scope.ADMIN: "everything, the audit too",
}

EVERYTHING = frozenset(Scope)

ROLES = {
    "viewer": frozenset({Scope.READ}),
    "analyst": frozenset({Scope.READ, Scope.OUTCOMES, Scope.CASES}),
    "rule editor": frozenset({Scope.READ, Scope.OUTCOMES, Scope.CASES, Scope.RULES}),
    "operator": EVERYTHING - {Scope.ADMIN},
    "admin": EVERYTHING,
}
"""The scopes of people, by role."""

_OPEN = frozenset({"/health/live", "/health/ready", "/health/startup"})
_BEGINNINGS = (
    ("/v1/score", Scope.SCORE),
    ("/api/v1/transactions", Scope.SCORE),
    ("/predict/", Scope.READ),
    ("/predict", Scope.SCORE),
    ("/v1/outcomes", Scope.OUTCOMES),
    ("/v1/events/", Scope.READ),
    ("/v1/events", Scope.EVENTS),
    ("/admin/thresholds", Scope.RULES),
    ("/admin/fallback", Scope.RULES),
    ("/admin/audit", Scope.ADMIN),
    ("/admin", Scope.OPERATE),
)
_CHANGED_BY = (
    ("/v1/tables", Scope.TABLES),
    ("/v1/rules", Scope.RULES),
    ("/v1/lists", Scope.RULES),
    ("/v1/cases", Scope.CASES),
)
"""Everyone who reads may look at them."""

_ASKED = "/v1/decisions/search"
"""Where a search is posted: this address alone, as an id of a decision may begin so."""

_RESULT = "/result"
"""Ends the address below `/v1/decisions/` where what became of a decision is told."""

LOOK_UP = "/look-up"
"""Ends the addresses below which a POST asks, and changes nothing: what is asked for is to stand in no address."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def needed_scope(method: str, path: str) -> Scope | None:
    """The scope that a call needs; None for the calls that are open to everyone.

    What the table does not name needs `read`, and to change it `admin`: a call that is forgotten here is closed.

    >>> needed_scope("POST", "/v1/score"), needed_scope("POST", "/admin/reload"), needed_scope("GET", "/metrics")
    (<Scope.SCORE: 'score'>, <Scope.OPERATE: 'operate'>, <Scope.READ: 'read'>)
    >>> needed_scope("POST", "/v1/tables/cards"), needed_scope("GET", "/v1/tables/cards/c-1")
    (<Scope.TABLES: 'tables'>, <Scope.READ: 'read'>)
    >>> needed_scope("POST", "/v1/lists/deny_cards"), needed_scope("GET", "/v1/rules")
    (<Scope.RULES: 'rules'>, <Scope.READ: 'read'>)
    >>> needed_scope("POST", "/v1/decisions/t1/result"), needed_scope("GET", "/v1/decisions/t1")
    (<Scope.OUTCOMES: 'outcomes'>, <Scope.READ: 'read'>)
    >>> needed_scope("POST", "/v1/lists/deny_cards/look-up"), needed_scope("POST", "/v1/decisions/search")
    (<Scope.READ: 'read'>, <Scope.READ: 'read'>)
    >>> needed_scope("POST", "/v1/decisions/search-1/result"), needed_scope("DELETE", "/v1/decisions/t1")
    (<Scope.OUTCOMES: 'outcomes'>, <Scope.ADMIN: 'admin'>)
    >>> needed_scope("GET", "/health/live"), needed_scope("POST", "/what/is/new")
    (None, <Scope.ADMIN: 'admin'>)
    """
    if path in _OPEN:
        return None
    for beginning, scope in _BEGINNINGS:
        if path.startswith(beginning):
            return scope
    if method in SAFE_METHODS or path == _ASKED or (path.startswith("/v1/lists/") and path.endswith(LOOK_UP)):
        return Scope.READ
    if path.startswith("/v1/decisions/") and path.endswith(_RESULT):
        return Scope.OUTCOMES
    return next((scope for beginning, scope in _CHANGED_BY if path.startswith(beginning)), Scope.ADMIN)


def scopes_of(names: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes of these names, in the order of the table. Raises InvalidDefinition for one that is none.

    >>> scopes_of(["read", "score"])
    (<Scope.SCORE: 'score'>, <Scope.READ: 'read'>)
    """
    wanted = set(names)
    unknown = sorted(wanted - set(Scope))
    if unknown or not wanted:
        named = f"{quoted(unknown[0])} is no scope" if unknown else "a key needs a scope"
        raise InvalidDefinition(f"{named}; give some of {', '.join(Scope)}")
    return tuple(scope for scope in Scope if scope in wanted)


def opened_by(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """What these scopes allow: `admin` allows everything."""
    found = frozenset(scopes)
    return EVERYTHING if Scope.ADMIN in found else found
