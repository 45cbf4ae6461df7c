"""What the page of the design system draws its charts of."""

from typing import Any

from sentinel.policy.results import BEGINS
from sentinel.policy.thresholds import Action
from sentinel.record.views import ListedDecision
from sentinel.review.surroundings import Linked, Neighbour, Tally
from sentinel.review.whereabouts import Moment, journeys
from sentinel.transport.console.charts.ties import ties_of
from sentinel.transport.console.charts.timeline import timeline_of
from sentinel.transport.console.charts.world import map_of
from sentinel.transport.console.words import ACTIONS

_HOUR_US = 3_600_000_000
_LISBON, _LAGOS = (38.72, -9.14), (6.52, 3.38)


def chart_examples() -> dict[str, Any]:
    """A timeline, a map and ties of four decisions, one of each action, of which the last turned out to be fraud."""
    rows = [
        ListedDecision(
            f"t-{n}", n, n * _HOUR_US, 10.0**n, action, 0.5, "v1", None, {"card": "c-17"}, False, None, state
        )
        for n, (action, state) in enumerate((action, BEGINS[Action(action)]) for action in ACTIONS)
    ]
    places = (_LISBON, _LISBON, (40.42, -3.70), _LAGOS)
    moments = {n: Moment(n, n * _HOUR_US, place) for n, place in enumerate(places)}
    frauds = {len(rows) - 1: True}
    tally, clean = Tally(9, 3, 1, 0), Tally(4, 0, 0, 2)
    linked = [
        Linked("device", "d-88f1", 2, tally, False, ("c-17", "c-20"), 0, _HOUR_US),
        Linked("merchant", "Kiosk", 1, clean, False, ("c-17", "c-21"), 0, _HOUR_US),
    ]
    near = [
        Neighbour("c-20", (("device", "d-88f1"), ("merchant", "Kiosk")), tally),
        Neighbour("c-21", (("merchant", "Kiosk"),), clean),
    ]
    return {
        "timeline_drawn": timeline_of(rows, moments, frauds),
        "map_drawn": map_of(rows, moments, frauds, journeys(moments.values())),
        "ties_drawn": ties_of(linked, near),
    }
