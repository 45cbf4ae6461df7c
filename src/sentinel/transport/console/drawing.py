"""Drawing: templates with what every page has around it."""

from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sentinel import __version__
from sentinel.review.business_figures import money_text
from sentinel.transport.console import words
from sentinel.transport.console.doors import PAGES
from sentinel.transport.console.static_files import address_of


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("sentinel.transport.console"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, autoescape=select_autoescape(default=True, default_for_string=True),
    )  # fmt: skip
    for one in (
        words.action_name, words.number, words.money, words.share, words.probability, words.value_of, words.exact,
        words.card, words.instant, words.size, words.basis_points, words.word_of, words.lasting, words.fault_words,
        words.asked_by, words.decided_by_words, words.digits_of, words.in_currency, money_text,
    ):  # fmt: skip
        made.filters[one.__name__] = one
    made.globals["static"] = address_of
    made.globals["actions"] = words.ACTIONS
    return made


def page(request: Request, template: str, values: dict[str, Any], status: int = 200) -> Response:
    """A whole page: what is around it depends on who is logged in."""
    session = getattr(request.state, "session", None)
    person = session.person if session is not None else None
    around = {
        "person": person,
        "csrf": session.csrf if session is not None else "",
        "pages": [one for one in PAGES if person is not None and one.needs in person.scopes],
        "here": _here(request.url.path),
        "version": __version__,
    }
    return HTMLResponse(_templates().get_template(template).render(around | values), status)


def part(request: Request, template: str, values: dict[str, Any], status: int = 200) -> Response:
    """A part of a page, to be put into it."""
    session = getattr(request.state, "session", None)
    around = {"person": session.person if session is not None else None}
    return HTMLResponse(_templates().get_template(template).render(around | values), status)


def _here(path: str) -> str:
    """The page of the navigation that an address belongs to."""
    if path.startswith(("/decisions", "/around")):
        return "/search"
    return next((one.path for one in PAGES if one.path != "/" and path.startswith(one.path)), path)


def drawn(template: str, values: dict[str, Any]) -> str:
    """A part as text."""
    return _templates().get_template(template).render(values)


def template_files() -> list[str]:
    """The names of all templates."""
    folder = files("sentinel.transport.console").joinpath("templates")
    return sorted(one.name for one in folder.iterdir() if one.name.endswith(".html"))
