"""Doors: which scope each page of the console needs: that of the calls of the server that it shows."""

from typing import NamedTuple

from sentinel.transport.access.scopes import SAFE_METHODS, Scope


class Page(NamedTuple):
    """A page of the navigation: its address, its name, the scope it needs, and the key that leads to it after `g`."""

    path: str
    name: str
    needs: Scope
    key: str


PAGES = (
    Page("/", "Live", Scope.READ, "l"),
    Page("/search", "Search", Scope.READ, "s"),
    Page("/try", "Try it", Scope.SCORE, "t"),
    Page("/models", "Models", Scope.READ, "m"),
    Page("/admin", "Admin", Scope.ADMIN, "a"),
)
OPEN = ("/static/", "/login", "/health/live")
"""What everyone may ask for. Addresses that end with a slash stand for all below them."""

OF_EVERYONE = ("/logout", "/password")
"""What whoever is logged in may do about themselves."""

_BEGINNINGS = (
    ("/try", Scope.SCORE),
    ("/admin", Scope.ADMIN),
    ("/models", Scope.READ),
    ("/decisions", Scope.READ),
    ("/again", Scope.READ),
    ("/around", Scope.READ),
    ("/search", Scope.READ),
    ("/search.csv", Scope.READ),
    ("/live", Scope.READ),
    ("/design", Scope.READ),
)


def is_open(path: str) -> bool:
    """Whether everyone may ask for it.

    >>> is_open("/static/console.css"), is_open("/login"), is_open("/login/x"), is_open("/")
    (True, True, False, False)
    """
    return path in OPEN or any(path.startswith(one) for one in OPEN if one.endswith("/"))


def needed_for(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None for what is about oneself. What is not named needs `admin`.

    >>> needed_for("GET", "/"), needed_for("POST", "/models/promote"), needed_for("POST", "/try/send")
    (<Scope.READ: 'read'>, <Scope.OPERATE: 'operate'>, <Scope.SCORE: 'score'>)
    >>> needed_for("GET", "/what/is/new"), needed_for("POST", "/search"), needed_for("POST", "/password")
    (<Scope.ADMIN: 'admin'>, <Scope.ADMIN: 'admin'>, None)
    """
    if path in OF_EVERYONE:
        return None
    if path == "/":
        return Scope.READ
    scope = next((scope for start, scope in _BEGINNINGS if path == start or path.startswith(f"{start}/")), Scope.ADMIN)
    if method in SAFE_METHODS or scope is not Scope.READ:
        return scope
    return Scope.OPERATE if path.startswith("/models/") else Scope.ADMIN
