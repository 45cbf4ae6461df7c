"""The hour by the clock of a place is what its clock showed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition
from sentinel.events.times import LATEST_US
from sentinel.features import definitions as f
from sentinel.features.zones import offsets_of

ZONES = (
    "Europe/Madrid",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Recife",
    "Asia/Kathmandu",
)


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_offsets_are_those_of_the_time_zone_to_the_second(zone, data):
    table = offsets_of(zone)
    changes = [moment + us for moment, _ in table[1:] for us in (-1_000_000, -1, 0, 1)]
    moment = data.draw(st.one_of(st.sampled_from(changes), st.integers(0, LATEST_US - 1)))
    [*_, (_, offset)] = [one for one in table if one[0] <= moment]
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)).astimezone(ZoneInfo(zone))
    assert timedelta(microseconds=offset) == local.utcoffset()


def test_what_is_no_time_zone_is_refused_when_it_is_declared():
    with pytest.raises(InvalidDefinition, match="'Madrid' is no time zone; write one as Europe/Madrid"):
        f.hour_of_day("Madrid")
