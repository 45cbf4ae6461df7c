"""The queue: who is next, who is overdue; time is an argument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import Overloaded
from sentinel.serve.queue import (
    LEAST_ROWS,
    LONG_TURN_NS,
    MAX_ROWS,
    MOST_OUTCOMES,
    MOST_SHED,
    Queue,
    Request,
    arrivals_of,
    rows_of,
)

NOW = 1_000_000_000
SOON = NOW + 30_000_000


def request(rows: int, due_ns: int = SOON, name: str = "r") -> Request:
    return Request([f"{name}{i}" for i in range(rows)], NOW - 1, due_ns, lambda _answers: None)


def test_what_fits_into_a_batch_is_decided_together_in_its_order():
    queue = Queue(1_000)
    first, second = request(2, name="a"), request(3, name="b")
    queue.put(first)
    queue.put(second)
    assert queue.waiting == 5
    assert queue.take(NOW) == ([], [first, second])
    assert queue.waiting == 0
    assert not queue


def test_the_earliest_due_is_decided_first_and_a_request_stays_together():
    queue = Queue(10_000)
    requests = [request(200, SOON + 100 * MAX_ROWS * 15_000 - i) for i in range(4)]
    for one in requests:
        queue.put(one)
    overdue, batch = queue.take(NOW)
    assert overdue == []
    assert batch == [requests[3], requests[2]]
    assert queue.take(NOW).batch == [requests[1], requests[0]]


def test_who_is_late_is_taken_out_beside_the_batch():
    queue = Queue(1_000)
    overdue, in_time = request(5, NOW - 1), request(5)
    queue.put(overdue)
    queue.put(in_time)
    assert queue.take(NOW) == ([overdue], [in_time])


def test_who_would_be_late_by_its_turn_does_not_wait_for_that():
    queue = Queue(100_000)
    due = NOW + 15_000 * 1_000  # time for a thousand, at the first guess of 15 us each
    requests = [request(250, due) for _ in range(8)]
    for one in requests:
        queue.put(one)
    overdue, batch = queue.take(NOW)
    assert rows_of(batch) == 500
    assert rows_of(overdue) == 1_000
    assert all(one.due_ns < NOW for one in overdue), "the engine decides them by the rules"
    assert queue.waiting == 500


def test_outcomes_wait_apart_in_their_order():
    queue = Queue(10_000)
    told = [request(200, name="o") for _ in range(3)]
    for one in told:
        queue.put_outcomes(one)
    assert queue
    assert queue.take(NOW) == ([], [])
    assert MOST_OUTCOMES <= 200
    assert [queue.take_outcomes() for _ in told] == [[one] for one in told]
    assert queue.take_outcomes() == []
    assert queue.waiting == 0


def test_a_full_queue_refuses_and_stays_as_it_is():
    queue = Queue(10)
    queue.put(request(6))
    with pytest.raises(Overloaded, match="6 transactions are waiting"):
        queue.put_outcomes(request(5))
    assert queue.waiting == 6
    queue.put(request(4))


def test_batches_shrink_while_turns_are_long_and_something_is_shed_and_grow_again():
    queue = Queue(100_000)

    def batch_rows() -> int:
        for _ in range(2 * MAX_ROWS):
            queue.put(request(1, NOW + 10**12))
        rows = rows_of(queue.take(NOW).batch)
        queue.take_all()
        return rows

    assert batch_rows() == MAX_ROWS
    for _ in range(10):
        queue.learn(LONG_TURN_NS + 1, LONG_TURN_NS, MAX_ROWS, shed=True)
    assert batch_rows() == LEAST_ROWS
    for _ in range(10):
        queue.learn(LONG_TURN_NS + 1, LONG_TURN_NS, MAX_ROWS, shed=False)
    assert batch_rows() == MAX_ROWS


def test_a_batch_that_stalled_teaches_little():
    queue = Queue(100_000)
    queue.learn(10**12, 10**12, MAX_ROWS, shed=True)
    for _ in range(4 * LEAST_ROWS):
        queue.put(request(1, NOW + 10 * 15_000 * 4 * LEAST_ROWS))
    overdue, _ = queue.take(NOW)
    assert overdue == []


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(-5, 60)), max_size=30), st.integers(0, 5))
def test_everyone_is_taken_out_once(requests, turns):
    queue = Queue(10**6)
    put = [request(rows, NOW + due * 1_000_000) for rows, due in requests]
    for one in put:
        queue.put(one)
    taken = []
    for turn in range(turns + len(put)):
        overdue, batch = queue.take(NOW + turn * 1_000_000)
        taken += overdue + batch
        assert queue.waiting == sum(len(one.events) for one in put) - rows_of(taken)
    assert sorted(map(id, taken)) == sorted(map(id, put))


def test_arrivals_have_a_row_for_each_event():
    arrivals = arrivals_of([request(2, 7, "a"), request(1, 9, "b")])
    assert arrivals.events == ["a0", "a1", "b0"]
    assert list(arrivals.due_ns) == [7, 7, 9]
    assert list(arrivals.received_ns) == [NOW - 1] * 3


def test_only_so_many_are_shed_in_one_turn_and_the_others_in_the_next():
    queue = Queue(100_000)
    overdue = [request(1_000, NOW - 1) for _ in range(5)]
    for one in overdue:
        queue.put(one)
    in_time = request(5)
    queue.put(in_time)
    assert queue.take(NOW) == (overdue[:2], [in_time])
    assert rows_of(overdue[:2]) >= MOST_SHED > rows_of(overdue[:1])
    assert [queue.take(NOW) for _ in range(2)] == [(overdue[2:4], []), (overdue[4:], [])]
    assert not queue
