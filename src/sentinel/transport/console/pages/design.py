"""The page that shows every component of the design system, in every state."""

from fastapi import APIRouter, Request, Response

from sentinel.transport.console.charts.examples import chart_examples
from sentinel.transport.console.drawing import page

COLOURS = (
    "bg", "panel", "line", "text", "soft", "accent", "accent-soft", "approve", "approve-soft", "challenge",
    "challenge-soft", "review", "review-soft", "block", "block-soft",
)  # fmt: skip


def design_pages() -> APIRouter:
    """`/design`."""
    router = APIRouter()

    @router.get("/design")
    def design(request: Request) -> Response:
        return page(request, "design.html", {"colours": COLOURS, **chart_examples()})

    return router
