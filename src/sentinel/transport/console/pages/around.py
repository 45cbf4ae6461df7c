"""Around a card, a device, a merchant: its decisions over time and on a map, what stands beside it, who shares that."""

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from sentinel.errors import InvalidInput, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.times import clock_us, duration_us
from sentinel.review.surroundings import MOST_SHARING, Asked, Surroundings, surroundings
from sentinel.review.whereabouts import LEAST_KM
from sentinel.transport.console.charts.ties import ties_of
from sentinel.transport.console.charts.timeline import timeline_of
from sentinel.transport.console.charts.world import map_of
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.stored import Stored
from sentinel.transport.console.words import word_of
from sentinel.transport.people.people import People

PERIODS = {"1h": "Hour", "1d": "Day", "7d": "Week", "30d": "30 days", "all": "All"}
_FIELDS = ("key", "value", "over")
_ALL = "all"
MOST_JOURNEYS = 5


def around_pages(stored: Stored, people: People) -> APIRouter:
    """`/around`, and what is drawn of it below `/around/drawn`, for pages that show it beside something else."""
    router = APIRouter()

    def seen(request: Request, key: str, value: str, over: str) -> dict[str, Any]:
        """What is around it, drawn. It is a look at card data, and in the audit."""
        unknown = [name for name in request.query_params if name not in _FIELDS]
        if unknown or over not in PERIODS:
            raise InvalidInput(f"Expected a key, its value and over={' or '.join(PERIODS)}", "$")
        schema, now_us = stored.champion().plan.schema, clock_us()
        if key not in schema.keys:
            raise NotFound(f"{quoted(key, 80)} is no key of the schema; there are {', '.join(schema.keys) or 'none'}")
        texts = tuple(stored.reader(schema).texts(key, value.strip()))
        people.note(by_person(request, "look around", urlencode({key: texts[0], "over": over})), now_us)
        asked = Asked(key=key, texts=texts, from_us=None if over == _ALL else now_us - duration_us(over))
        with stored.view() as view:
            found = surroundings(view, asked, schema)
            lag_s = max((now_us - view.position.projected_at_us) / 1e6, 0.0)
        return {
            "found": found, "key": key, "value": found.values[0], "over": over, "periods": PERIODS, "lag_s": lag_s,
            "said": said_of(found), "digits": stored.amount_digits(schema), "schema": schema,
            "currency": stored.currency(),
            "timeline_drawn": timeline_of(found.page.rows, found.moments, found.frauds),
            "map_drawn": map_of(found.page.rows, found.moments, found.frauds, found.journeys),
            "journeys": sorted(found.journeys, key=lambda one: -one.kmh),
            "ids": {one.position: one.transaction_id for one in found.page.rows},
            "ties_drawn": ties_of(found.linked, found.neighbours), "most_sharing": MOST_SHARING,
            "most_journeys": MOST_JOURNEYS, "least_km": LEAST_KM,
        }  # fmt: skip

    @router.get("/around")
    def around(request: Request, key: str = "", value: str = "", over: str = _ALL) -> Response:
        return page(request, "around.html", seen(request, key, value, over))

    @router.get("/around/drawn")
    def drawn(request: Request, key: str = "", value: str = "", over: str = _ALL) -> Response:
        return part(request, "around_drawn.html", seen(request, key, value, over))

    return router


def said_of(found: Surroundings) -> str:
    """What there is to see, in a line: the answer before the details."""
    tally, key = found.tally, word_of(found.key)
    if not tally.decisions:
        return "nothing is known"
    newest = "the newest " if found.page.next else ""
    parts = [f"{newest}{_several(tally.decisions, 'decision')}"]
    if tally.not_approved:
        parts.append(f"{tally.not_approved} not approved")
    if tally.frauds:
        parts.append(_several(tally.frauds, "fraud"))
    impossible = sum(one.is_impossible for one in found.journeys)
    if impossible:
        parts.append(f"{_several(impossible, 'journey')} nobody can have made")
    near = len(found.neighbours) + found.neighbours_left_out
    if near:
        parts.append(f"{_several(near, f'other {key}')} near")
    return ", ".join(parts)


def _several(n: int, word: str) -> str:
    """A number of things.

    >>> _several(1, "journey"), _several(1_200, "fraud")
    ('1 journey', '1,200 frauds')
    """
    return f"{n:,} {word}{'' if n == 1 else 's'}"
