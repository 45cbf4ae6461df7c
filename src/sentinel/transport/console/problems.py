"""What people see when something is wrong: what happened, and what to do."""

from fastapi import Request, Response

from sentinel.errors import NotFound, SentinelError
from sentinel.transport.client import Unreachable
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.server import Refused
from sentinel.transport.console.words import card
from sentinel.transport.http.replies import reply_to

_TITLES = {
    403: "Not allowed",
    404: "Not found",
    409: "Not now",
    413: "Too large",
    422: "Not understood",
    429: "Too many",
}


def status_of(error: SentinelError) -> int:
    """The status of a fault."""
    if isinstance(error, Unreachable):
        return 503
    return error.status if isinstance(error, Refused) else reply_to(error).status


def problem_page(request: Request, error: SentinelError) -> Response:
    """The fault as a page, or as the part of one that was asked for."""
    status = status_of(error)
    if isinstance(error, Unreachable):
        title = "The server does not answer"
    else:
        title = _TITLES.get(status, "This does not work at the moment" if status >= 500 else "Not understood")
    values = {"title": title, "said": card(str(error)), "can_retry": status >= 500 and request.method == "GET"}
    draw = part if "hx-request" in request.headers else page
    return draw(request, "problem_part.html" if draw is part else "problem.html", values, status)


def nothing_there(request: Request) -> Response:
    """A page that there is not."""
    return problem_page(request, NotFound("There is no such page; the navigation leads to those there are"))
