"""What Live draws of weeks and months: what was counted of each day, and nothing invented."""

from hypothesis import given
from hypothesis import strategies as st

from sentinel.events.times import SECOND_US
from sentinel.record.views import Summed
from sentinel.transport.console.day_series import DAY_S, KEPT_DAYS, last_of, series_of_days
from sentinel.transport.console.words import ACTIONS

TODAY = 20_000


def summed(day, action, decisions, unit="2"):
    return Summed(day, None, unit, action, decisions, 0, 0, 0, 0, 0, 0)


@given(
    counted=st.lists(
        st.tuples(st.integers(TODAY - KEPT_DAYS + 1, TODAY), st.sampled_from(ACTIONS), st.integers(0, 9_000_000), st.sampled_from(["2", "2 EUR"])),
        max_size=60, unique_by=lambda one: (one[0], one[1], one[3]),
    ),
    passed_s=st.integers(1, DAY_S - 1),
)  # fmt: skip
def test_a_day_has_what_was_counted_on_it(counted, passed_s):
    series = series_of_days([summed(*one) for one in counted], 0, (TODAY * DAY_S + passed_s) * SECOND_US)
    assert {len(one) for one in series.values()} == {KEPT_DAYS}
    for n, at in enumerate(series["at"]):
        for action in ACTIONS:
            then = [one[2] for one in counted if (one[0], one[1]) == (int(at // DAY_S), action)]
            assert series[action][n] == sum(then)
        assert series["rate"][n] == sum(series[one][n] for one in ACTIONS)


def test_of_days_before_the_first_counted_one_and_of_latencies_nothing_is_said():
    series = series_of_days([summed(TODAY, "approve", 50)], TODAY - 1, (TODAY * DAY_S + 100) * SECOND_US)
    assert series["rate"] == [None] * (KEPT_DAYS - 2) + [0.0, 50.0]
    assert set(series["p99"]) == {None}
    assert last_of(series, 7)["rate"] == [None] * 5 + [0.0, 50.0]
