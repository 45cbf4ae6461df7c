"""Doors: which scope each page of the console needs: that of the calls of the server that it shows."""

from typing import NamedTuple

from sentinel.transport.access.scopes import LOOK_UP, SAFE_METHODS, Scope


class Page(NamedTuple):
    """A page of the navigation: its address, its name, the scope it needs, and the key that leads to it after `g`."""

    path: str
    name: str
    needs: Scope
    key: str


PAGES = (
    Page("/", "Live", Scope.READ, "l"),
    Page("/cases", "Cases", Scope.READ, "c"),
    Page("/search", "Search", Scope.READ, "s"),
    Page("/business", "Business", Scope.READ, "b"),
    Page("/drift", "Drift", Scope.READ, "d"),
    Page("/try", "Try it", Scope.SCORE, "t"),
    Page("/rules", "Rules", Scope.READ, "r"),
    Page("/lists", "Lists", Scope.READ, "i"),
    Page("/models", "Models", Scope.READ, "m"),
    Page("/admin", "Admin", Scope.ADMIN, "a"),
)
OPEN = ("/static/", "/login", "/login/provider", "/login/provider/back", "/health/live")
"""What everyone may ask for. Addresses that end with a slash stand for all below them."""

OF_EVERYONE = ("/logout", "/password")
"""What whoever is logged in may do about themselves."""

_ASKS = ("/search",)
"""What is sent so that it stands in no address, and changes nothing."""

_BEGINNINGS = (
    ("/try", Scope.SCORE),
    ("/admin", Scope.ADMIN),
    ("/models", Scope.READ),
    ("/cases", Scope.READ),
    ("/rules", Scope.READ),
    ("/lists", Scope.READ),
    ("/decisions", Scope.READ),
    ("/again", Scope.READ),
    ("/around", Scope.READ),
    ("/search", Scope.READ),
    ("/search.csv", Scope.READ),
    ("/business", Scope.READ),
    ("/business.csv", Scope.READ),
    ("/drift", Scope.READ),
    ("/live", Scope.READ),
    ("/design", Scope.READ),
)

_CHANGED = (
    ("/models/thresholds", Scope.RULES),
    ("/models/", Scope.OPERATE),
    ("/cases/", Scope.CASES),
    ("/rules/", Scope.RULES),
    ("/lists/", Scope.RULES),
)
"""What it takes to change what everyone who reads may look at."""

LOOKS = ("/decisions", "/again", "/search", "/search.csv", "/cases", "/around", "/rules/rule", "/rules/edit")
"""Where card data is looked at, with all below: so often a minute, and no more."""


def is_open(path: str) -> bool:
    """Whether everyone may ask for it.

    >>> is_open("/static/console.css"), is_open("/login"), is_open("/login/x"), is_open("/")
    (True, True, False, False)
    """
    return path in OPEN or any(path.startswith(one) for one in OPEN if one.endswith("/"))


def is_look(method: str, path: str) -> bool:
    """Whether a request looks at card data.

    >>> is_look("GET", "/decisions/t-1"), is_look("GET", "/search"), is_look("GET", "/models")
    (True, True, False)
    >>> is_look("POST", "/lists/deny_cards/look-up"), is_look("POST", "/lists/deny_cards/add")
    (True, False)
    """
    if method not in SAFE_METHODS:
        return _looks_up(path)
    return any(path == one or path.startswith(f"{one}/") for one in LOOKS)


def needed_for(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None for what is about oneself. What is not named needs `admin`.

    >>> needed_for("GET", "/"), needed_for("POST", "/models/promote"), needed_for("POST", "/try/send")
    (<Scope.READ: 'read'>, <Scope.OPERATE: 'operate'>, <Scope.SCORE: 'score'>)
    >>> needed_for("POST", "/cases/7/decide"), needed_for("GET", "/cases/7")
    (<Scope.CASES: 'cases'>, <Scope.READ: 'read'>)
    >>> needed_for("POST", "/rules/publish"), needed_for("POST", "/lists/deny_cards/look-up")
    (<Scope.RULES: 'rules'>, <Scope.READ: 'read'>)
    >>> needed_for("GET", "/what/is/new"), needed_for("POST", "/search"), needed_for("POST", "/password")
    (<Scope.ADMIN: 'admin'>, <Scope.READ: 'read'>, None)
    """
    if path in OF_EVERYONE:
        return None
    if path == "/":
        return Scope.READ
    scope = next((scope for start, scope in _BEGINNINGS if path == start or path.startswith(f"{start}/")), Scope.ADMIN)
    if method in SAFE_METHODS or scope is not Scope.READ or path in _ASKS or _looks_up(path):
        return scope
    return next((scope for start, scope in _CHANGED if path.startswith(start)), Scope.ADMIN)


def _looks_up(path: str) -> bool:
    """Whether a value is looked for on a list: what is typed shows whether it is there."""
    return path.startswith("/lists/") and path.endswith(LOOK_UP)
