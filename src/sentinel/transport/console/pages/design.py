"""The page that shows every component of the design system, in every state."""

from fastapi import APIRouter, Request, Response

from sentinel.transport.console.charts.examples import chart_examples
from sentinel.transport.console.drawing import page

COLOURS = (
    "bg", "panel", "line", "text", "soft", "accent", "accent-soft", "approve", "approve-soft", "challenge",
    "challenge-soft", "review", "review-soft", "block", "block-soft",
)  # fmt: skip


_PAIRS = [
    {"words": words, "then": then, "now": now, "x": n * 10, "bars": {"then": then * 100, "now": now * 100}}
    for n, (words, then, now) in enumerate((("up to 10", 0.5, 0.2), ("up to 20", 0.3, 0.3), ("above 20", 0.2, 0.5)))
]


def design_pages() -> APIRouter:
    """`/design`."""
    router = APIRouter()

    @router.get("/design")
    def design(request: Request) -> Response:
        return page(request, "design.html", {"colours": COLOURS, "pairs_shown": _PAIRS, **chart_examples()})

    return router
