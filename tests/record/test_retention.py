"""The rule of retention: only what is old and needed by nobody may go, the oldest first, and who holds it is named."""

from hypothesis import given
from hypothesis import strategies as st

from sentinel.record.retention import ClosedSegment, Need, old_among, plan


@st.composite
def logs(draw):
    """Closed segments one after the other; what they hold was received later and later."""
    base, newest_us, found = 1, 0, []
    for _ in range(draw(st.integers(0, 8))):
        until, newest_us = base + draw(st.integers(1, 5)), newest_us + draw(st.integers(0, 3))
        found.append(ClosedSegment(base, until, newest_us, 64))
        base = until
    return found


NEEDS = st.lists(st.builds(Need, st.integers(1, 40), st.text(min_size=1)), max_size=4)


@given(logs(), st.integers(0, 25), NEEDS)
def test_what_may_go_is_old_needed_by_nobody_and_as_much_as_there_is_from_the_oldest_on(closed, before_us, needs):
    old = old_among(closed, before_us)
    may_go, held_by = plan(old, needs)
    free = [one.newest_us < before_us and all(one.until <= need.position for need in needs) for one in closed]
    assert may_go == closed[: [*free, False].index(False)]
    stay = [one for one in closed[len(may_go) :] if one.newest_us < before_us]
    assert held_by == [need for need in needs if any(need.position < one.until for one in stay)]
    assert bool(held_by) == bool(stay)


def test_what_was_received_just_now_before_the_moment_is_old():
    closed = [ClosedSegment(1, 5, 99, 1), ClosedSegment(5, 9, 100, 1)]
    assert old_among(closed, 100) == closed[:1]


def test_one_who_reads_from_the_end_of_a_segment_does_not_need_it():
    old = [ClosedSegment(1, 5, 0, 1)]
    assert plan(old, [Need(5, "shadow")]).may_go == old
    assert plan(old, [Need(4, "shadow")]).held_by == [Need(4, "shadow")]
