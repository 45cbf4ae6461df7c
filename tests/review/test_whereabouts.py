"""Where transactions happened, and what lies between them."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.events.schema import Schema
from sentinel.review.whereabouts import EARTH_KM, LEAST_KM, Moment, journeys, km_between, moments_of

PLACED = Schema(keys=("card",), place=("latitude", "longitude"), optional=("latitude", "longitude"))
LISBON, LAGOS, PORTO = (38.7223, -9.1393), (6.5244, 3.3792), (41.1579, -8.6291)
MINUTE_US = 60_000_000
PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def content(**fields):
    return json.dumps({"event_time": 5, "latitude": 1.5, "longitude": 2.5} | fields)


def test_a_moment_is_when_and_where_the_transaction_says():
    assert moments_of({7: content()}, {7: 99}, PLACED) == {7: Moment(7, 5, (1.5, 2.5))}


@pytest.mark.parametrize(
    "wrong",
    [{"latitude": None}, {"longitude": "2.5"}, {"latitude": 90.5}, {"longitude": -181}, {"latitude": True}],
)
def test_what_is_no_place_is_none(wrong):
    assert moments_of({7: content(**wrong)}, {7: 99}, PLACED)[7] == Moment(7, 5, None)


@pytest.mark.parametrize("broken", ["", "[1]", '"text"', '{"event_time": "soon"}', "{", '{"event_time": true}'])
def test_without_a_time_of_its_own_a_transaction_happened_when_it_was_received(broken):
    assert moments_of({7: broken}, {7: 99, 8: 100}, PLACED) == {7: Moment(7, 99, None), 8: Moment(8, 100, None)}


def test_a_schema_without_a_place_has_none():
    assert moments_of({7: content()}, {7: 99}, Schema(keys=("card",)))[7].place is None


def test_a_journey_that_nobody_can_have_made_is_told_from_one_by_air():
    (far,) = journeys([Moment(2, 14 * MINUTE_US, LAGOS), Moment(1, 0, LISBON)])
    assert (far.begin.position, far.end.position) == (1, 2)
    assert 3_700 < far.km < 3_900
    assert far.is_impossible
    assert round(far.kmh) == round(far.km / 14 * 60)
    (flown,) = journeys([Moment(1, 0, LISBON), Moment(2, 6 * 60 * MINUTE_US, LAGOS)])
    assert not flown.is_impossible


def test_two_places_at_once_are_impossible_and_near_ones_are_no_journey():
    (both,) = journeys([Moment(1, 5, LISBON), Moment(2, 5, PORTO)])
    assert both.kmh == math.inf
    assert both.is_impossible
    assert journeys([Moment(1, 5, LISBON), Moment(2, 6, (38.9, -9.2)), Moment(3, 7, None)]) == []


def test_a_transaction_without_a_place_does_not_part_two_that_have_one():
    (one,) = journeys([Moment(1, 0, LISBON), Moment(2, 1, None), Moment(3, 2, PORTO)])
    assert (one.begin.position, one.end.position) == (1, 3)


def by_the_chord(a, b):
    """The same distance from the straight line through the earth between two points in space."""

    def point(place):
        north, east = map(math.radians, place)
        return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)

    return 2 * EARTH_KM * math.asin(min(math.dist(point(a), point(b)) / 2, 1.0))


@given(PLACES, PLACES)
def test_a_distance_is_that_of_the_chord_and_the_same_both_ways(a, b):
    assert km_between(a, b) == pytest.approx(by_the_chord(a, b), abs=0.5)
    assert km_between(a, b) == pytest.approx(km_between(b, a))


@given(st.lists(st.tuples(st.integers(0, 50), st.none() | PLACES), max_size=12))
def test_journeys_follow_each_other_in_time_and_none_is_short(drawn):
    found = journeys(Moment(n, at, place) for n, (at, place) in enumerate(drawn))
    assert all(one.km >= LEAST_KM and one.begin.at_us <= one.end.at_us for one in found)
    assert all(a.end.at_us <= b.begin.at_us for a, b in itertools.pairwise(found))
