"""Charts that the console draws itself: every decision has its mark, where it belongs and within the picture."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.record.views import ListedDecision
from sentinel.review.surroundings import Linked, Neighbour, Tally
from sentinel.review.whereabouts import Moment, journeys
from sentinel.transport.console.charts import timeline, world
from sentinel.transport.console.charts.ties import ROW, WIDTH, ties_of
from sentinel.transport.console.charts.timeline import timeline_of
from sentinel.transport.console.charts.world import map_of
from sentinel.transport.console.static_files import content_of

PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
LISBON, LAGOS, TOKYO = (38.7223, -9.1393), (6.5244, 3.3792), (35.6762, 139.6503)


def decisions(n, amounts=None, action="approve"):
    amounts = [10.0] * n if amounts is None else amounts
    return [
        ListedDecision(f"t{at}", at, at, amount, action, 0.5, "v1", None, {}, False, None, "approved")
        for at, amount in zip(range(n), amounts, strict=True)
    ]


def moments(times, places=None):
    places = [None] * len(times) if places is None else places
    return {n: Moment(n, at, place) for n, (at, place) in enumerate(zip(times, places, strict=True))}


@given(
    st.lists(st.tuples(st.integers(0, 2**50), st.none() | st.floats(-1e9, 1e9)), min_size=1, max_size=30),
)
def test_every_decision_stands_at_its_time_and_amount_within_the_picture(drawn):
    times, amounts = [at for at, _ in drawn], [amount for _, amount in drawn]
    found = timeline_of(decisions(len(drawn), amounts), moments(times), {})
    assert sorted(one.row.position for one in found.marks) == list(range(len(drawn)))
    assert all(0 <= one.x <= timeline.WIDTH and 0 <= one.y <= timeline.HEIGHT for one in found.marks)
    assert all(0 <= one.y <= timeline.HEIGHT for one in found.lines)
    assert all(a.x <= b.x and a.at_us <= b.at_us for a, b in pairwise(found.marks))
    by_size = sorted((one for one in found.marks if one.row.amount is not None), key=lambda one: abs(one.row.amount))
    assert all(a.y >= b.y for a, b in pairwise(by_size))
    assert found.times_us[0] == min(times)
    assert found.times_us[-1] == max(times)


def test_lines_stand_at_powers_of_ten_where_such_amounts_stand():
    found = timeline_of(decisions(3, [1.0, 10.0, 1000.0]), moments([1, 2, 3]), {2: True})
    heights = {one.amount: one.y for one in found.lines}
    assert [one.y for one in found.marks] == [heights[one.row.amount] for one in found.marks]
    assert [one.is_fraud for one in found.marks] == [None, None, True]


def test_decisions_that_cover_each_other_are_counted_by_the_newest():
    found = timeline_of(decisions(4), moments([0, 10**12, 10**12 + 1, 10**12 + 2]), {})
    assert [(one.row.position, one.covers) for one in found.marks] == [(0, 1), (1, 1), (2, 1), (3, 3)]


def test_of_no_decision_and_of_no_place_there_is_no_picture():
    assert timeline_of([], {}, {}) is None
    assert map_of(decisions(2), moments([1, 2]), {}, []) is None


@given(st.lists(PLACES, min_size=1, max_size=20))
def test_every_place_is_on_the_map(places):
    rows, when = decisions(len(places)), moments(range(len(places)), places)
    found = map_of(rows, when, {}, journeys(when.values()))
    assert sum(one.decisions for one in found.spots) == len(places)
    for x, y in [(one.x, one.y) for one in found.spots] + [(one.x1, one.y1) for one in found.ways]:
        assert -0.5 <= x <= world.WIDTH + 0.5
        assert -0.5 <= y <= world.HEIGHT + 0.5


@pytest.mark.parametrize("places", [[LISBON], [LISBON, LAGOS], [LISBON, TOKYO, LAGOS]])
def test_outlines_are_moved_to_where_the_places_are(places):
    """The transform, done by hand, brings a place in the units of the outlines to its spot."""
    found = map_of(decisions(len(places)), moments(range(len(places)), places), {}, [])
    dx, dy, sx, sy = map(float, re.findall(r"-?[\d.]+", found.transform))
    for spot in found.spots:
        assert dx + spot.place[1] * 10 * sx == pytest.approx(spot.x, abs=0.6)
        assert dy - spot.place[0] * 10 * sy == pytest.approx(spot.y, abs=0.6)


def test_a_spot_has_the_strictest_action_and_how_many_were_fraud():
    rows = [*decisions(3), ListedDecision("b", 3, 3, 1.0, "block", 0.9, "v1", None, {}, False, None, "declined")]
    found = map_of(rows, moments([1, 2, 3, 4], [LISBON] * 4), {0: False, 3: True}, [])
    (spot,) = found.spots
    assert (spot.action, spot.decisions, spot.not_approved, spot.frauds) == ("block", 4, 1, 1)


def test_the_outlines_of_countries_lie_on_the_globe_and_lisbon_is_on_the_coast_of_europe():
    path = re.search(r' d="([^"]+)"', content_of("world.svg").decode())[1]
    points, near_lisbon = 0, False
    for shape in filter(None, path.split("M")):
        numbers = list(map(int, re.findall(r"-?\d+", shape)))
        x = y = 0
        for n, (dx, dy) in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
            x, y = (dx, dy) if n == 0 else (x + dx, y + dy)
            assert -1800 <= x <= 1800
            assert -900 <= y <= 900
            near_lisbon |= abs(x / 10 - LISBON[1]) < 0.7 and abs(-y / 10 - LISBON[0]) < 0.7
            points += 1
    assert points > 5_000
    assert near_lisbon


def linked(value, frauds=0):
    return Linked("device", value, 1, Tally(2, 0, frauds, 0), False, ("c1", "c2"), 0, 1)


def test_a_line_leads_to_each_neighbour_from_what_it_shares():
    found = ties_of(
        [linked("d0"), linked("d1", frauds=1), linked("alone")],
        [
            Neighbour("c2", (("device", "d0"), ("device", "d1")), Tally(1, 0, 0, 0)),
            Neighbour("c3", (("device", "d1"),), Tally(1, 1, 1, 0)),
        ],
    )
    assert [one.value for one in found.linked] == ["d0", "d1"]
    levels = [(one.begin // ROW, one.end // ROW, one.is_bad) for one in found.to_neighbours]
    assert levels == [(0, 0, False), (1, 0, False), (1, 1, True)]
    assert [(one.begin // ROW, one.end // ROW, one.is_bad) for one in found.to_linked] == [(0, 0, False), (0, 1, True)]
    assert found.height == 2 * ROW
    assert found.to_linked[1].path.endswith(f" {WIDTH} {1.5 * ROW:g}")
    assert ties_of([linked("d0")], []) is None
