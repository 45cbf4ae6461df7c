"""The order of the queue, and what makes cases alike, as laws."""

from hypothesis import given
from hypothesis import strategies as st

from sentinel.review.cases.likeness import likeness, most_alike, sign_of_amount
from sentinel.review.cases.urgency import expected_loss, urgency

MOMENTS = st.integers(0, 10**15)
SIGNS = st.frozensets(st.sampled_from("abcdefgh"))


@given(st.integers(0, 10**12), st.integers(1, 10**12), MOMENTS, st.integers(1, 10**12), st.integers(1, 10**12))
def test_more_to_lose_and_longer_waiting_come_first(loss, more, opened_us, within_us, later_us):
    now_us = opened_us + within_us
    due_us = opened_us + within_us
    assert urgency(loss + more, opened_us, due_us, now_us) > urgency(loss, opened_us, due_us, now_us)
    assert urgency(loss, opened_us, due_us, now_us + later_us) >= urgency(loss, opened_us, due_us, now_us)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(-(10**9), 10**9))))
def test_what_may_be_lost_is_never_negative_and_at_most_all(payments):
    lost = expected_loss(payments)
    assert 0 <= lost <= sum(max(amount, 0) for _, amount in payments)


@given(SIGNS, SIGNS)
def test_likeness_is_mutual_and_one_for_the_same(one, other):
    assert likeness(one, other) == likeness(other, one)
    assert 0.0 <= likeness(one, other) <= 1.0
    assert likeness(one, one) == (1.0 if one else 0.0)
    assert (likeness(one, other) == 1.0) == (one == other and bool(one))


@given(SIGNS, st.dictionaries(st.integers(1, 50), SIGNS), st.integers(0, 5))
def test_the_most_alike_are_found(signs, others, most):
    found = most_alike(signs, others, most)
    left = [likeness(signs, of) for number, of in others.items() if number not in {one.number for one in found}]
    assert len(found) <= most
    if len(found) == most > 0:
        assert max(left, default=0.0) <= found[-1].likeness
    else:
        assert max(left, default=0.0) == 0.0 or most == 0
    assert all(set(one.shared) == signs & others[one.number] for one in found)


def test_refunds_and_amounts_below_one():
    assert expected_loss([(1.0, -500), (0.5, 3)]) == 2
    assert sign_of_amount(-12_345, 2) == sign_of_amount(99_999, 2) == "amount of 3 digits"
