from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.cells import times
from sentinel.events.times import LATEST_US, USUAL, duration_us, instant_us, iso

moments = st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 30), timezones=st.just(UTC))


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_iso_text_in_any_offset_is_the_same_instant(moment, offset_minutes):
    there = moment.astimezone(timezone(timedelta(minutes=offset_minutes)))
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert instant_us(there.isoformat()) == exact
    assert instant_us(iso(exact)) == exact


@given(st.integers(320_000_000, 4_000_000_000))
def test_seconds_milliseconds_and_microseconds_are_told_apart_by_size(seconds):
    assert instant_us(seconds) == instant_us(seconds * 1000) == instant_us(seconds * 10**6) == seconds * 10**6


@given(
    st.lists(
        st.one_of(
            st.integers(4 * 10**8, 4 * 10**9), st.integers(4 * 10**11, 4 * 10**12), st.integers(4 * 10**14, 4 * 10**15)
        ),
        min_size=1,
    )
)
def test_a_file_reads_numbers_as_the_service_does(values):
    expected = [instant_us(value) for value in values]
    assert times(pl.Series("t", values, dtype=pl.Int64), "t", USUAL).values.to_list() == expected
    assert times(pl.Series("t", [iso(value) for value in expected]), "t", USUAL).values.to_list() == expected


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "",
        "2025-13-01",
        "2025-01-01T25:00:00Z",
        -1,
        10**17,
        "1969-12-31T23:59:59Z",
        -1e303,
        1e308,
        -(10**400),
    ],
)
def test_what_is_no_time_is_refused_with_its_path(value):
    with pytest.raises(InvalidInput) as error:
        instant_us(value, "$.event_time")
    assert error.value.path == "$.event_time"


def test_the_last_instant_is_before_2100():
    assert instant_us("2099-12-31T23:59:59.999999Z") == LATEST_US - 1


@pytest.mark.parametrize("text", ["", "5", "0s", "000d", "-3m", "3 d", "1.5h", "10y", "\u0663d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidDefinition, match="no duration"):
        duration_us(text)


@pytest.mark.parametrize("text", ["100001d", "106751991d", "9" * 5_000 + "s"])
def test_a_duration_that_no_instant_can_hold_is_refused(text):
    with pytest.raises(InvalidDefinition, match="too long"):
        duration_us(text)


def test_the_longest_duration():
    assert duration_us("100000d") == duration_us("2400000h")
