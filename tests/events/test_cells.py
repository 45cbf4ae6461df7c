"""Cells: what is read of many texts at once is what each of them is by itself."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.cells import times
from sentinel.events.times import TimeForm, instant_us

FORMS = (
    None, "%m/%d/%Y", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%Y%m%d", "%Y-%m-%dT%H:%M", "%d/%m/%y", "%m/%d/%Y %I:%M %p",
    "%d-%b-%Y", "%Y-%m-%d %H:%M:%S.%f", "%H:%M %m/%d/%Y", "(%Y) %m.%d", "%Y/%m/%d %H",
)  # fmt: skip
moments = st.datetimes(datetime(1960, 1, 1), datetime(2110, 1, 1))
odd = st.sampled_from(
    ["", " ", "x", "2026-02-30 10:00:00", "2026-01-31 24:00:00", "2026-01-31T23:59:60Z", "02/30/2026", "2/3/2026", "13/01/2026",
     "02/03/26", "12026-01-01 00:00:00", "2026-01-01 00:00:00Zz", "2026-01-01 00:00:00ZZ", "1769860800", "20260131", "\uff11\uff12/31/2026", "12/31/2026 9:05",
     "2026-01-31t10:00:00", "2026-01-31 10:00:00+05:00", "2026-13-01 00:00:00", "2026-00-10 00:00:00", "2026-01-01  00:00:00", "n/a"]
)  # fmt: skip


def one_by_one(text, form):
    if text.strip().lower() in ("", "na", "n/a", "nan", "null", "none"):
        return None
    try:
        return instant_us(text.strip(), form=form)
    except InvalidInput:
        return None


@settings(max_examples=300, deadline=None)
@given(form=st.sampled_from(FORMS), written=st.sampled_from([*FORMS[1:], "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]), found=st.lists(moments, max_size=8), others=st.lists(odd, max_size=6))  # fmt: skip
def test_times_read_at_once_are_those_read_one_by_one(form, written, found, others):
    texts = [one.strftime(written) for one in found] + others
    form = TimeForm.of(None, form, None)
    values, wrong = times(pl.Series("t", texts, pl.String), "t", form)
    assert values.to_list() == [one_by_one(text, form) for text in texts]
    assert wrong.sum() == sum(one_by_one(text, form) is None and text.strip() not in ("", "n/a") for text in texts)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Madrid"])
def test_a_zone_counts_for_all_of_them(zone):
    form = TimeForm.of(zone, "%m/%d/%Y %H:%M", None)
    column = pl.Series("t", ["07/01/2026 12:00", "01/01/2026 12:00"])
    assert times(column, "t", form).values.to_list() == [instant_us(text, form=form) for text in column]
    assert TimeForm.of(None, None, None).zone is UTC


@pytest.mark.parametrize("form", ["%m %m", "%Q", "%", "%H:%M", "", "noon"])
def test_what_is_no_form_of_a_time_is_refused(form):
    with pytest.raises(InvalidDefinition, match="time_format"):
        TimeForm.of(None, form, None)
